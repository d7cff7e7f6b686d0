"""Keeps what a finished training took, so that later estimates are right for this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import Timeout

from llamaduo_gui.core.base_model import read_model_config
from llamaduo_gui.core.machine import read_machine
from llamaduo_gui.core.model_shape import read_shape
from llamaduo_gui.training.estimate import (
    CUDA_CONTEXT_BYTES,
    TrainingSetup,
    training_flops,
    training_memory,
)
from llamaduo_gui.training.measured import Measurement, add_measurement
from llamaduo_gui.training.recipes import Recipe

# Shorter ones are mostly loading.
_LEAST_S = 5.0


def keep_measured(
    summary: Mapping[str, Any], recipe: Recipe, name: str, *, base: Path, reference: str
) -> None:
    """Add a finished training to `measured.json`; one that was resumed or short tells nothing.

    Args:
        summary: of the fine-tuning stage.
        recipe: with its overrides.
        name: what the recipe is called.
        base: folder of the base model.
        reference: what the project calls the base model.
    """
    shape = read_shape(read_model_config(base))
    is_partial = summary["resumed_from_step"] is not None or summary["processes"] != 1
    if shape is None or is_partial or summary["seconds"] < _LEAST_S or not summary["tokens"]:
        return
    choices = summary["choices"]
    is_gpu = summary["device"] == "cuda"
    setup = TrainingSetup(
        method=recipe.method,
        dtype=str(choices["dtype"]),
        rank=recipe.lora.r,
        dropout=recipe.lora.dropout,
        trained_embeddings=len(recipe.lora.modules_to_save),
        batch_size=recipe.training.batch_size,
        length=min(recipe.training.max_length, int(summary["longest_record"])),
        is_checkpointed=bool(choices["gradient_checkpointing"]),
        is_8bit_optimizer="8bit" in str(choices["optimizer"]),
        device="cuda" if is_gpu else "cpu",
    )
    # The peak of a GPU is what torch allocated, without the context.
    estimate = training_memory(shape, setup).total - (CUDA_CONTEXT_BYTES if is_gpu else 0.0)
    seconds = float(summary["seconds"])
    found = Measurement(
        device=read_machine().device_name,
        model=reference,
        recipe=name,
        method=recipe.method,
        estimated_bytes=estimate,
        peak_bytes=float(summary["peak_memory_mb"]) * 2**20,
        seconds_per_token=seconds / summary["tokens"],
        flops_per_s=training_flops(shape, setup, float(summary["tokens"])) / seconds,
    )
    # A measurement that cannot be written is no reason to fail a training that is done.
    with contextlib.suppress(OSError, Timeout):
        add_measurement(found)
