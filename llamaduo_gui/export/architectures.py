"""What config.json says about a model, checked for what llama.cpp can run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llamaduo_gui.core.base_model import read_model_config
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import detect_family
from llamaduo_gui.export.gemma import GEMMAS, GemmaSettings, as_plain_config, read_gemma
from llamaduo_gui.export.shards import Float32

SUPPORTED = (*GEMMAS, "llama", "phi3", "qwen2", "qwen3", "smollm3")
# Every fourth layer of SmolLM3 has no rotary embedding; llama.cpp does not read which ones.
_NO_ROPE_STEP = 4
# transformers' default where a Phi's config.json names none.
_PHI_TRAINED_LENGTH = 4096
# `dynamic` changes nothing up to the trained context, which is where llama.cpp stops.
_PLAIN_ROPE = ("default", "dynamic", "llama3")


@dataclass(frozen=True, slots=True)
class RopeSettings:
    """Rotary position embedding: base frequency and how it is stretched for long contexts."""

    theta: float
    kind: str = "default"
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers of a model that its GGUF needs. Lengths are in tokens or vector elements.

    Attributes:
        name: of the architecture in a GGUF.
        layers: number of blocks.
        context_length: longest sequence the model was made for.
        hidden_size: width of the model.
        feed_forward_size: inner width of the feed-forward part.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: None when config.json leaves it to `hidden_size / heads`.
        norm_epsilon: of the RMS norms.
        rope: the rotary embedding.
        is_tied: whether the output shares the embedding's weights.
        rope_share: share of each head that is rotated (Phi-4 mini: 0.75).
        sliding_window: tokens each token sees in transformers, None for all before it;
            llama.cpp has none for llama and phi3.
        gemma: what only Gemma has; None for the others.
        warnings: sentences about what llama.cpp will do differently.
    """

    name: str
    layers: int
    context_length: int
    hidden_size: int
    feed_forward_size: int
    heads: int
    kv_heads: int
    head_dim: int | None
    norm_epsilon: float
    rope: RopeSettings
    is_tied: bool
    rope_share: float = 1.0
    sliding_window: int | None = None
    gemma: GemmaSettings | None = None
    warnings: tuple[str, ...] = ()

    @property
    def rope_dimensions(self) -> int:
        """Elements of each head that are rotated."""
        return int((self.head_dim or self.hidden_size // self.heads) * self.rope_share)

    @property
    def has_own_output(self) -> bool:
        """Whether llama.cpp takes an output that does not share the embedding's weights."""
        return self.name not in ("gemma", "gemma2")

    @property
    def has_permuted_rope(self) -> bool:
        """Whether llama.cpp rotates neighbouring elements where transformers rotates halves."""
        return self.name in ("llama", "smollm3")


def read_architecture(folder: Path) -> Architecture:
    """Read and check the config.json of a model folder.

    Raises:
        UserError: the architecture is not supported, or uses something its GGUF cannot express.
    """
    config = read_model_config(folder)
    name = detect_family(folder).gguf_architecture
    if name is None or name not in SUPPORTED:
        raise UserError(
            f"Models of the type {config.get('model_type', 'unknown')} cannot be exported to GGUF "
            f"yet; supported are {', '.join(SUPPORTED)}."
        )
    try:
        gemma = read_gemma(config, name) if name in GEMMAS else None
        config = config if gemma is None else as_plain_config(config)
        _refuse_unsupported(config, name)
        rope = _read_rope(config)
        return Architecture(
            name=name,
            layers=int(config["num_hidden_layers"]),
            context_length=int(config["max_position_embeddings"]),
            hidden_size=int(config["hidden_size"]),
            feed_forward_size=int(config["intermediate_size"]),
            heads=int(config["num_attention_heads"]),
            kv_heads=int(config.get("num_key_value_heads") or config["num_attention_heads"]),
            head_dim=config.get("head_dim"),
            norm_epsilon=float(config["rms_norm_eps"]),
            rope=rope,
            # transformers' default for all of these model types but SmolLM3 and Gemma
            is_tied=bool(config.get("tie_word_embeddings", name == "smollm3")),
            rope_share=_rope_share(config),
            sliding_window=_sliding_window(config),
            gemma=gemma,
            warnings=_warnings(rope, config),
        )
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'} has no {error.args[0]}.") from error


def rope_factors(architecture: Architecture) -> dict[str, Float32]:
    """Divisors of the rotary frequencies by their tensors' names in the GGUF, one a pair.

    Phi's `longrope` has two sets: for texts up to the trained length and for longer ones.
    transformers chooses by the text's length, llama.cpp by the context's: in a context longer than
    the trained length it reads short texts with the factors for long ones too.
    """
    found = {}
    factors = rope_frequency_factors(architecture)
    if factors is not None:
        found["rope_freqs.weight"] = factors
    if architecture.rope.kind == "longrope":
        for name in ("long", "short"):
            values = np.array(architecture.rope.parameters[f"{name}_factor"], np.float32)
            found[f"rope_factors_{name}.weight"] = values
    return found


def long_rope_attention_factor(architecture: Architecture) -> float:
    """What `longrope` multiplies rotated queries and keys with: sqrt(1 + ln(s) / ln(L)).

    L is the trained length, s how many times longer the context is (LongRoPE, arXiv 2402.13753).
    """
    trained = int(architecture.rope.parameters["original_max_position_embeddings"])
    scale = architecture.context_length / trained
    return math.sqrt(1 + math.log(scale) / math.log(trained)) if scale > 1 else 1.0


def rope_frequency_factors(architecture: Architecture) -> Float32 | None:
    """Divisors of the rotary frequencies for `llama3` scaling, one a pair; None without it.

    Long wavelengths are slowed by `factor`, short ones are kept, those between are interpolated:
    Llama 3.1's rule, as in transformers' `_compute_llama3_parameters`.
    """
    rope = architecture.rope
    if rope.kind != "llama3":
        return None
    # In torch, whose powers differ from numpy's in the last bit: transformers and llama.cpp's
    # converter compute these numbers with it.
    import torch

    size = architecture.rope_dimensions
    frequencies = 1.0 / (rope.theta ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
    settings = rope.parameters
    factor = float(settings.get("factor", 8.0))
    low = float(settings.get("low_freq_factor", 1.0))
    high = float(settings.get("high_freq_factor", 4.0))
    context = float(settings.get("original_max_position_embeddings", 8192))
    wavelengths = 2 * math.pi / frequencies
    smooth = (context / wavelengths - low) / (high - low)
    divisors = 1 / ((1 - smooth) / factor + smooth)
    divisors[wavelengths > context / low] = factor
    divisors[wavelengths < context / high] = 1.0
    found: Float32 = divisors.numpy()
    return found


def _rope_settings(config: dict[str, Any]) -> dict[str, Any]:
    # transformers 5 writes `rope_parameters`; before, `rope_theta` and `rope_scaling`.
    return dict(config.get("rope_parameters") or config.get("rope_scaling") or {})


def _read_rope(config: dict[str, Any]) -> RopeSettings:
    settings = _rope_settings(config)
    theta = settings.pop("rope_theta", None) or config.get("rope_theta") or 10_000.0
    kind = str(settings.pop("rope_type", None) or settings.pop("type", None) or "default")
    settings.pop("type", None)
    settings.pop("partial_rotary_factor", None)
    if kind == "su" or (kind == "yarn" and config.get("model_type") == "phi3"):
        kind = "longrope"
    if kind not in (*_PLAIN_ROPE, "linear", "yarn", "longrope"):
        raise UserError(
            f"The base model stretches its context by {kind}, which cannot be exported yet; "
            "choose another base model."
        )
    is_phi = config.get("model_type") == "phi3"
    if kind in ("yarn", "longrope") or is_phi:
        trained = _PHI_TRAINED_LENGTH if is_phi else config["max_position_embeddings"]
        trained = config.get("original_max_position_embeddings") or trained
        settings.setdefault("original_max_position_embeddings", trained)
    return RopeSettings(float(theta), kind, settings)


def _rope_share(config: dict[str, Any]) -> float:
    share = _rope_settings(config).get("partial_rotary_factor")
    return float(share or config.get("partial_rotary_factor") or 1.0)


def _sliding_window(config: dict[str, Any]) -> int | None:
    window = config.get("sliding_window")
    return None if window is None or config.get("use_sliding_window") is False else int(window)


def _warnings(rope: RopeSettings, config: dict[str, Any]) -> tuple[str, ...]:
    found = []
    window = _sliding_window(config)
    if window is not None and window < int(config["max_position_embeddings"]):
        found.append(
            f"llama.cpp sees the whole text where the base model sees the last {window} tokens: "
            "answers to longer texts differ from the trained student's."
        )
    if rope.kind == "longrope":
        length = rope.parameters["original_max_position_embeddings"]
        found.append(
            f"In a context of more than {length} tokens llama.cpp reads short texts as the base "
            f"model reads long ones; keep the context at {length} tokens for texts that fit in it."
        )
    return tuple(found)


def _refuse_unsupported(config: dict[str, Any], name: str) -> None:
    if config.get("quantization_config"):
        raise UserError(
            "The base model's weights are already quantised; export from the 16-bit version of "
            "the same model."
        )
    if config.get("use_sliding_window"):
        raise UserError(
            "The base model uses sliding-window attention, which llama.cpp does not have for "
            f"{config.get('model_type')}; set use_sliding_window to false in its config.json."
        )
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise UserError(f"The base model uses the activation {activation}; export needs silu.")
    if name == "phi3":
        _refuse_unsupported_phi(config)
    elif _rope_share(config) != 1.0:
        raise UserError("The base model rotates only part of each head, which cannot be exported.")
    elif _rope_settings(config).get("rope_type") == "longrope":
        raise UserError("Only Phi models that stretch their context by longrope can be exported.")
    if name == "smollm3":
        _refuse_other_rope_layers(config)


def _refuse_unsupported_phi(config: dict[str, Any]) -> None:
    """llama.cpp takes the head's size of a Phi from the model's width."""
    own = config.get("head_dim")
    if own and int(own) * int(config["num_attention_heads"]) != int(config["hidden_size"]):
        raise UserError(
            "The base model's heads are not its width divided by their number, which llama.cpp "
            "cannot do for Phi models."
        )


def _refuse_other_rope_layers(config: dict[str, Any]) -> None:
    layers = int(config["num_hidden_layers"])
    expected = [int((layer + 1) % _NO_ROPE_STEP != 0) for layer in range(layers)]
    step = int(config.get("no_rope_layer_interval") or _NO_ROPE_STEP)
    found = config.get("no_rope_layers") or [
        int((layer + 1) % step != 0) for layer in range(layers)
    ]
    if list(found) != expected:
        raise UserError(
            "llama.cpp leaves every fourth layer of a SmolLM3 without rotary embedding, and this "
            "base model others; choose another base model."
        )
