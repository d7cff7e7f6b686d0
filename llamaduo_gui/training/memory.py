"""About how much memory a training needs, from a model's config.json: for choosing a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llamaduo_gui.training.recipes import Recipe

_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}
_NF4_BYTES = 0.516
"""A 4-bit weight with its share of the doubly quantised scales (QLoRA paper, section 3)."""
_ADAM_BYTES = 8.0
_ADAM_8BIT_BYTES = 2.0


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that decide how much memory a decoder-only model takes."""

    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    key_value: int
    """Width of all keys (or values) of a layer together."""
    query: int
    is_tied: bool = False
    has_softcapping: bool = False
    context: int | None = None

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers inside the blocks."""
        attention = 2 * self.hidden * self.query + 2 * self.hidden * self.key_value
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embeddings and of an output layer of its own."""
        return self.vocabulary * self.hidden * (1 if self.is_tied else 2)


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape in a config.json; what it leaves out is taken as in Llama."""
    hidden = int(config.get("hidden_size") or 0)
    heads = int(config.get("num_attention_heads") or 1)
    head = int(config.get("head_dim") or hidden // heads)
    groups = int(config.get("num_key_value_heads") or heads)
    context = config.get("max_position_embeddings")
    return ModelShape(
        hidden=hidden,
        layers=int(config.get("num_hidden_layers") or 0),
        intermediate=int(config.get("intermediate_size") or 4 * hidden),
        vocabulary=int(config.get("vocab_size") or 0),
        key_value=groups * head,
        query=heads * head,
        is_tied=bool(config.get("tie_word_embeddings", False)),
        has_softcapping=config.get("attn_logit_softcapping") is not None,
        context=int(context) if context else None,
    )


def training_bytes(
    recipe: Recipe, shape: ModelShape, dtype: str, *, is_checkpointed: bool
) -> float:
    """Bytes at the peak of a step: weights, what is trained, and the longest batch.

    A rough figure, right within about a third for Llama-like models: it decides between
    settings, and promises nothing.

    Args:
        recipe: its method, adapter, batch size and length count.
        shape: of the base model.
        dtype: `fp32`, `bf16` or `fp16`, of the computation.
        is_checkpointed: activations are kept at the block's borders only.
    """
    compute = _BYTES[dtype]
    inside, outside = shape.linear_parameters, shape.embedding_parameters
    if recipe.method == "full":
        weights = 4.0 * (inside + outside)
        trained = float(inside + outside)
    else:
        each = _NF4_BYTES if recipe.method == "qlora" else compute
        weights = each * inside + compute * outside
        trained = float(_adapter_parameters(recipe, shape))
    is_8bit = "8bit" in recipe.training.optimizer or (
        recipe.method == "qlora" and recipe.training.optimizer == "auto"
    )
    # What is trained is held in fp32, with a gradient and two moments.
    states = trained * (4.0 + (_ADAM_8BIT_BYTES if is_8bit else _ADAM_BYTES))
    states += trained * (0.0 if recipe.method == "full" else 4.0)
    length = min(recipe.training.max_length, shape.context or recipe.training.max_length)
    tokens = recipe.training.batch_size * length
    return weights + states + tokens * _activation_bytes(shape, compute, is_checkpointed)


def _adapter_parameters(recipe: Recipe, shape: ModelShape) -> int:
    """As if every linear layer of a block had an adapter: an upper bound."""
    ends = 2 * (shape.hidden + shape.query) + 2 * (shape.hidden + shape.key_value)
    ends += 3 * (shape.hidden + shape.intermediate)
    return int(recipe.lora.r) * shape.layers * ends


def _activation_bytes(shape: ModelShape, compute: float, is_checkpointed: bool) -> float:
    """Bytes a token: what the backward pass of a block needs, and one block's logits.

    A block keeps the inputs of its linear layers, of the two norms (in fp32), of attention and
    of the gated activation.
    """
    block = compute * (
        4 * shape.hidden + 2 * shape.query + 2 * shape.key_value + 4 * shape.intermediate
    )
    block += 4.0 * 2 * shape.hidden
    if is_checkpointed:
        return shape.layers * compute * shape.hidden + block
    return shape.layers * block
