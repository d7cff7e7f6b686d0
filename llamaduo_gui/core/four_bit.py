"""Rounds weights as QLoRA's 4-bit base has them: NF4 with double quantisation, then back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llamaduo_gui.core.ml_libraries import prepare_ml_libraries

# bitsandbytes' own; training takes its defaults (training/model.py).
_QUANT_TYPE = "nf4"
_OUTPUT_LAYER = "lm_head"
_NOT_BASE = ("lora_", "modules_to_save", _OUTPUT_LAYER)
TRAINING_NOTE = "training.json"


def round_to_4_bits(weight: Any, dtype: str) -> Any:
    """A weight as the 4-bit base computes with it.

    Args:
        weight: a torch tensor (rows, columns).
        dtype: number format it had when it was quantised, such as `bfloat16`.

    Returns:
        A tensor of the same shape and format as `weight`.
    """
    prepare_ml_libraries()
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    given = weight.to(getattr(torch, dtype)).contiguous()
    packed, state = quantize_4bit(given, compress_statistics=True, quant_type=_QUANT_TYPE)
    return dequantize_4bit(packed, state).to(weight.dtype)


def round_array(weight: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.float32]:
    """`round_to_4_bits` of a numpy array."""
    import torch

    found: npt.NDArray[np.float32] = round_to_4_bits(torch.from_numpy(weight), dtype).numpy()
    return found


def round_linear_layers(model: Any, dtype: str) -> None:
    """Give every linear layer of a loaded model the weights its 4-bit version computes with.

    The output layer and what an adapter adds are left alone, as in training.
    """
    import torch

    with torch.no_grad():
        for name, module in model.named_modules():
            is_base = not any(part in name for part in _NOT_BASE)
            if is_base and isinstance(module, torch.nn.Linear):
                module.weight.data = round_to_4_bits(module.weight.data, dtype)


def is_rounded(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of a checkpoint belongs to a layer that QLoRA keeps in 4 bits."""
    is_matrix = len(shape) == 2 and name.endswith(".weight")
    return is_matrix and "embed" not in name and not name.startswith(_OUTPUT_LAYER)


def quantized_dtype(trained: Path) -> str | None:
    """Number format the base of a trained adapter was quantised from; None if it was not."""
    try:
        note = json.loads((trained / TRAINING_NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(note, dict) or note.get("method") != "qlora":
        return None
    dtype = str(note.get("dtype", "bfloat16"))
    return dtype if dtype in ("bfloat16", "float16", "float32") else "bfloat16"
