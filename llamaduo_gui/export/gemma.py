"""What sets Gemma 1, 2 and 3 apart in a GGUF: soft caps, sliding windows, two rotary embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gguf

from llamaduo_gui.core.errors import UserError

GEMMAS = ("gemma", "gemma2", "gemma3")
# transformers' defaults, for what a config.json leaves out.
_DEFAULT_HEAD_DIM = 256
_DEFAULT_WINDOW = 4096
_DEFAULT_CAPS: dict[str, dict[str, float | None]] = {
    "gemma": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    "gemma2": {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "gemma3": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
}
# One layer of so many sees the whole text: the last of each group.
_WINDOW_STEPS = {"gemma2": 2, "gemma3": 6}
# llama.cpp tells the 27B models by their layers and scales their attention by another number.
_LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
_DEFAULT_LOCAL_THETA = 10_000.0
_ACTIVATIONS = ("gelu_pytorch_tanh", "gelu")


@dataclass(frozen=True, slots=True)
class GemmaSettings:
    """Numbers that only Gemma has.

    Attributes:
        attention_cap: attention scores are kept within it by a tanh; None for no cap.
        final_cap: the same for logits.
        window: tokens a layer with a sliding window sees; None without such layers.
        has_window: for each layer; empty when it follows llama.cpp's own rule.
        local_theta: rotary base of the layers with a window; None if it is the others'.
    """

    attention_cap: float | None = None
    final_cap: float | None = None
    window: int | None = None
    has_window: tuple[bool, ...] = ()
    local_theta: float | None = None

    @property
    def norm_offset(self) -> float:
        """What is added to the norms' weights: Gemma stores them as differences from one."""
        return 1.0


def read_gemma(config: dict[str, Any], name: str) -> GemmaSettings:
    """Read and check what only Gemma has in its config.json.

    Args:
        config: of a text model.
        name: of the architecture, one of GEMMAS.

    Raises:
        UserError: the model computes something that llama.cpp does not.
        KeyError: config.json lacks something without a default.
    """
    _refuse_unsupported(config, name)
    caps = {key: config.get(key, default) for key, default in _DEFAULT_CAPS[name].items()}
    window = config.get("sliding_window", _DEFAULT_WINDOW) if name in _WINDOW_STEPS else None
    pattern = _window_pattern(config, name)
    if not any(pattern):
        window = None
    is_usual = pattern == _usual_pattern(len(pattern), name)
    return GemmaSettings(
        attention_cap=caps["attn_logit_softcapping"],
        final_cap=caps["final_logit_softcapping"],
        window=None if window is None else int(window),
        has_window=() if is_usual or window is None else pattern,
        local_theta=_local_theta(config) if name == "gemma3" else None,
    )


def as_plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """The rest of a Gemma's config.json as the other architectures have it."""
    left_out = ("hidden_act", "rope_scaling", "sliding_window")
    plain = {key: value for key, value in config.items() if key not in left_out}
    return {
        "tie_word_embeddings": True,
        **plain,
        "head_dim": int(config.get("head_dim") or _DEFAULT_HEAD_DIM),
        "rope_parameters": _global_rope(config),
    }


def add_gemma(writer: gguf.GGUFWriter, settings: GemmaSettings) -> None:
    """Write what only Gemma has."""
    if settings.attention_cap is not None:
        writer.add_attn_logit_softcapping(settings.attention_cap)
    if settings.final_cap is not None:
        writer.add_final_logit_softcapping(settings.final_cap)
    if settings.window is not None:
        writer.add_sliding_window(settings.window)
    if settings.has_window:
        writer.add_sliding_window_pattern(list(settings.has_window))
    if settings.local_theta is not None:
        writer.add_rope_freq_base_swa(settings.local_theta)


def _global_rope(config: dict[str, Any]) -> dict[str, Any]:
    """The `rope_parameters` of the layers that see the whole text, in the shape others have.

    Gemma 3 has a set for each kind of layer; before transformers 5, `rope_theta` and
    `rope_scaling` were those of the layers without a window.
    """
    nested = config.get("rope_parameters") or {}
    if "full_attention" in nested:
        return dict(nested["full_attention"])
    is_gemma3 = str(config.get("model_type", "")).startswith("gemma3")
    theta = config.get("rope_theta") or (1_000_000.0 if is_gemma3 else _DEFAULT_LOCAL_THETA)
    return {"rope_theta": theta, **(config.get("rope_scaling") or {}), **nested}


def _local_theta(config: dict[str, Any]) -> float:
    nested = config.get("rope_parameters") or {}
    local = nested.get("sliding_attention") or {}
    if local.get("rope_type", "default") != "default":
        raise UserError(
            "The base model stretches the context of its layers with a sliding window, which "
            "llama.cpp does not; choose another base model."
        )
    theta = local.get("rope_theta") or config.get("rope_local_base_freq")
    return float(theta or _DEFAULT_LOCAL_THETA)


def _usual_pattern(layers: int, name: str) -> tuple[bool, ...]:
    step = _WINDOW_STEPS.get(name)
    return tuple(step is not None and (layer + 1) % step != 0 for layer in range(layers))


def _window_pattern(config: dict[str, Any], name: str) -> tuple[bool, ...]:
    layers = int(config["num_hidden_layers"])
    kinds = config.get("layer_types")
    if name not in _WINDOW_STEPS:
        return (False,) * layers
    if kinds:
        return tuple(kind == "sliding_attention" for kind in kinds)
    step = int(config.get("sliding_window_pattern") or _WINDOW_STEPS[name])
    return tuple((layer + 1) % step != 0 for layer in range(layers))


def _refuse_unsupported(config: dict[str, Any], name: str) -> None:
    activation = config.get("hidden_activation") or config.get("hidden_act") or _ACTIVATIONS[0]
    if activation not in _ACTIVATIONS:
        raise UserError(f"The base model uses the activation {activation}; export needs gelu.")
    if config.get("use_bidirectional_attention") or config.get("attention_bias"):
        raise UserError(
            "The base model attends in both directions or with biases, which llama.cpp cannot do "
            "for Gemma; choose another base model."
        )
    kind = _global_rope(config).get("rope_type", "default")
    allowed = ("default", "linear") if name == "gemma3" else ("default",)
    if kind not in allowed:
        raise UserError(
            f"The base model stretches its context by {kind}, which cannot be exported for Gemma; "
            "choose another base model."
        )
    caps = {key: config.get(key, default) for key, default in _DEFAULT_CAPS[name].items()}
    is_usual = all(caps.values()) if name == "gemma2" else not caps["attn_logit_softcapping"]
    if not is_usual or (name == "gemma" and caps["final_logit_softcapping"]):
        raise UserError(
            "llama.cpp caps the attention scores and logits of Gemma 2, and no other Gemma's "
            "attention; this base model differs and cannot be exported."
        )
    if name != "gemma":
        _refuse_other_scale(config, name)


def _refuse_other_scale(config: dict[str, Any], name: str) -> None:
    """llama.cpp does not read `query_pre_attn_scalar`: it knows the numbers of the real models."""
    scalar = float(config.get("query_pre_attn_scalar") or _DEFAULT_HEAD_DIM)
    expected = int(config.get("head_dim") or _DEFAULT_HEAD_DIM)
    if int(config["num_hidden_layers"]) == _LAYERS_OF_27B[name]:
        expected = int(config["hidden_size"]) // int(config["num_attention_heads"])
    if scalar != expected:
        raise UserError(
            f"The base model scales its attention by the root of {scalar:g} and llama.cpp by that "
            f"of {expected}; it cannot be exported."
        )
