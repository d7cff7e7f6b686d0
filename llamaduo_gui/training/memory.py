"""About how much memory a recipe needs for a model: for choosing settings that fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llamaduo_gui.core import model_shape
from llamaduo_gui.training.estimate import TrainingSetup, training_memory
from llamaduo_gui.training.recipes import Recipe


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """What a config.json says that settings depend on.

    Attributes:
        shape: None where the sizes are not in it; nothing is then decided by memory.
        has_softcapping: attention scores are capped, as in Gemma 2.
    """

    shape: model_shape.ModelShape | None
    has_softcapping: bool = False


def read_sizes(config: Mapping[str, Any]) -> ModelSizes:
    """The sizes in a config.json."""
    is_capped = config.get("attn_logit_softcapping") is not None
    return ModelSizes(model_shape.read_shape(config), is_capped)


def training_bytes(
    recipe: Recipe,
    sizes: ModelSizes,
    dtype: Literal["fp32", "bf16", "fp16"],
    *,
    is_checkpointed: bool,
    device: Literal["cuda", "cpu"] = "cuda",
) -> float:
    """Bytes at the peak of a step with the longest batch; 0 where the sizes are not known.

    Args:
        recipe: its method, adapter, batch size and length count.
        sizes: of the base model.
        dtype: of the computation.
        is_checkpointed: activations are kept at the blocks' borders only.
        device: where it trains.
    """
    if sizes.shape is None:
        return 0.0
    settings, targets = recipe.training, recipe.lora.target_modules
    is_paged = recipe.method == "qlora" and settings.optimizer == "auto" and device == "cuda"
    setup = TrainingSetup(
        method=recipe.method,
        dtype=dtype,
        rank=recipe.lora.r,
        dropout=recipe.lora.dropout,
        targets=None if isinstance(targets, str) else targets,
        trained_embeddings=len(recipe.lora.modules_to_save),
        batch_size=settings.batch_size,
        length=settings.max_length,
        is_checkpointed=is_checkpointed,
        is_8bit_optimizer=is_paged or "8bit" in settings.optimizer,
        device=device,
    )
    return training_memory(sizes.shape, setup).total
