"""What config.json says about a llama, qwen2 or qwen3 model, checked for what llama.cpp can run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamaduo_gui.core.base_model import read_model_config
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import detect_family
from llamaduo_gui.export.shards import Float32

SUPPORTED = ("llama", "qwen2", "qwen3")
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

    `head_dim` is None when config.json leaves it to `hidden_size / heads`.
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

    @property
    def rope_dimensions(self) -> int:
        """Elements of each head that are rotated: all of them."""
        return self.head_dim or self.hidden_size // self.heads

    @property
    def has_permuted_rope(self) -> bool:
        """Whether llama.cpp rotates neighbouring elements where transformers rotates halves."""
        return self.name == "llama"


def read_architecture(folder: Path) -> Architecture:
    """Read and check the config.json of a model folder.

    Raises:
        UserError: the architecture is not supported, or uses something its GGUF cannot express.
    """
    config = read_model_config(folder)
    name = detect_family(folder).gguf_architecture
    if name not in SUPPORTED:
        raise UserError(
            f"Models of the type {config.get('model_type', 'unknown')} cannot be exported to GGUF "
            f"yet; supported are {', '.join(SUPPORTED)}."
        )
    _refuse_unsupported(config)
    try:
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
            rope=_read_rope(config),
            # transformers' default for these three model types
            is_tied=bool(config.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'} has no {error.args[0]}.") from error


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


def _read_rope(config: dict[str, Any]) -> RopeSettings:
    # transformers 5 writes `rope_parameters`; before, `rope_theta` and `rope_scaling`.
    settings = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = settings.pop("rope_theta", None) or config.get("rope_theta") or 10_000.0
    kind = str(settings.pop("rope_type", None) or settings.pop("type", None) or "default")
    settings.pop("type", None)
    if kind not in (*_PLAIN_ROPE, "linear", "yarn"):
        raise UserError(
            f"The base model stretches its context by {kind}, which cannot be exported yet; "
            "choose another base model."
        )
    if kind == "yarn":
        settings.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    return RopeSettings(float(theta), kind, settings)


def _refuse_unsupported(config: dict[str, Any]) -> None:
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
    if float(config.get("partial_rotary_factor") or 1.0) != 1.0:
        raise UserError("The base model rotates only part of each head, which cannot be exported.")
