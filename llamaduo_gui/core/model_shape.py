"""The sizes of a decoder-only model and its parameter count, from its config.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Families whose configuration says nothing when input and output share their weights, with what
# their classes in transformers take for granted then.
_TIED_UNLESS_SAID = frozenset(
    {"gemma", "gemma2", "gemma3", "gemma3_text", "smollm3", "cohere", "cohere2"}
)
_FOUR_NORMS = frozenset({"gemma2", "gemma3", "gemma3_text"})
_HEAD_NORMS = frozenset({"qwen3", "gemma3", "gemma3_text"})
_QKV_BIASES = frozenset({"qwen2"})
_FUSED = frozenset({"phi3"})
_EXACT = frozenset({"llama", "mistral", "gemma", "qwen2", "qwen3", "phi3", "smollm3"}) | _FOUR_NORMS


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What decides how much memory and time a model takes; widths are in numbers, not bytes.

    Attributes:
        query, key_value: widths of all query heads, and of all key (or value) heads, of a layer.
        is_fused: q, k and v are one matrix, and gate and up another.
        is_exact: the family's parameters are counted one by one; else as in Llama.
    """

    model_type: str
    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    query: int
    key_value: int
    head: int
    context: int | None = None
    is_tied: bool = False
    has_qkv_bias: bool = False
    has_output_bias: bool = False
    has_mlp_bias: bool = False
    has_four_norms: bool = False
    has_head_norms: bool = False
    is_fused: bool = False
    is_exact: bool = True

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """The linear layers of a block: name to (inputs, outputs)."""
        hidden, inner = self.hidden, self.intermediate
        down = {"o_proj": (self.query, hidden), "down_proj": (inner, hidden)}
        if self.is_fused:
            joined = self.query + 2 * self.key_value
            return {"qkv_proj": (hidden, joined), "gate_up_proj": (hidden, 2 * inner), **down}
        return {
            "q_proj": (hidden, self.query),
            "k_proj": (hidden, self.key_value),
            "v_proj": (hidden, self.key_value),
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            **down,
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers of all blocks: those a 4-bit model has in 4 bits."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.matrices.values())

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding, and of the output layer unless the two are one."""
        return self.vocabulary * self.hidden * (1 if self.is_tied else 2)

    @property
    def small_parameters(self) -> int:
        """Norms and biases."""
        block = self.hidden * (4 if self.has_four_norms else 2)
        block += 2 * self.head if self.has_head_norms else 0
        block += self.query + 2 * self.key_value if self.has_qkv_bias else 0
        block += self.hidden if self.has_output_bias else 0
        block += 2 * self.intermediate + self.hidden if self.has_mlp_bias else 0
        return self.layers * block + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.linear_parameters + self.embedding_parameters + self.small_parameters

    def adapter_parameters(self, rank: int, targets: Sequence[str] | None = None) -> int:
        """Parameters of a LoRA adapter.

        Args:
            rank: of its matrices.
            targets: names of linear layers; None for all of them.
        """
        chosen = [
            inputs + outputs
            for name, (inputs, outputs) in self.matrices.items()
            if targets is None or name in targets
        ]
        return rank * self.layers * sum(chosen)

    def cache_bytes(self, tokens: int, bytes_each: float = 2.0) -> float:
        """Bytes of the keys and values of one sequence of so many tokens."""
        return 2.0 * self.layers * self.key_value * tokens * bytes_each


def read_shape(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a config.json describes; None where it lacks the sizes.

    What it leaves out is taken as transformers takes it for the family, else as in Llama.
    """
    inner = config.get("text_config")
    if isinstance(inner, Mapping) and "hidden_size" in inner:
        config = {**config, **inner}
    try:
        return _shape(config)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _shape(config: Mapping[str, Any]) -> ModelShape:
    kind = str(config.get("model_type", ""))
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head = int(config.get("head_dim") or hidden // heads)
    groups = int(config.get("num_key_value_heads") or heads)
    context = config.get("max_position_embeddings")
    has_bias = bool(config.get("attention_bias"))
    tied = config.get("tie_word_embeddings")
    found = ModelShape(
        model_type=kind,
        hidden=hidden,
        layers=int(config["num_hidden_layers"]),
        intermediate=int(config.get("intermediate_size") or 4 * hidden),
        vocabulary=int(config["vocab_size"]),
        query=heads * head,
        key_value=groups * head,
        head=head,
        context=int(context) if context else None,
        is_tied=kind in _TIED_UNLESS_SAID if tied is None else bool(tied),
        has_qkv_bias=has_bias or kind in _QKV_BIASES,
        has_output_bias=has_bias,
        has_mlp_bias=bool(config.get("mlp_bias")),
        has_four_norms=kind in _FOUR_NORMS,
        has_head_norms=kind in _HEAD_NORMS,
        is_fused=kind in _FUSED,
        is_exact=kind in _EXACT,
    )
    if min(found.hidden, found.layers, found.vocabulary, found.intermediate, head, groups) < 1:
        raise ValueError("a size below 1")
    return found
