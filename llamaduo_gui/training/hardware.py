"""Decides what a recipe leaves to `auto`: a pure function of recipe, model shape and machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.training.memory import ModelSizes, training_bytes
from llamaduo_gui.training.recipes import Recipe

DtypeName = Literal["fp32", "bf16", "fp16"]
_MEMORY_SHARE = 0.85
"""Of the free memory: the rest goes to fragmentation, the framework and the estimate's error."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What of the machine and its libraries matters to a training.

    Attributes:
        device: `cuda` or `cpu`.
        has_bf16: the GPU computes in bf16.
        has_flash_attention: the package flash-attn is installed and fits the GPU.
        has_bitsandbytes: its 8-bit optimisers can be used.
        free_bytes: memory free on the device; None if it cannot be told.
        processes: training processes, one a GPU.
    """

    device: Literal["cuda", "cpu"]
    has_bf16: bool = False
    has_flash_attention: bool = False
    has_bitsandbytes: bool = False
    free_bytes: int | None = None
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Choices:
    """A recipe's `auto` settings, decided.

    Attributes:
        gradient_accumulation: batches of each process in a step; the recipe's number is shared
            among the processes, so that a step stays as many records.
        reasons: why, by setting, where the machine or the model decided.
    """

    dtype: DtypeName
    attention: str
    packing: bool
    group_by_length: bool
    optimizer: str
    gradient_checkpointing: bool
    gradient_accumulation: int
    reasons: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON form, as it is saved with the run."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Choices:
        """Undo `to_dict`."""
        return cls(**data)

    @property
    def sentence(self) -> str:
        """For the log: what was decided and why."""
        parts = [f"{name} {self._text(name)} ({why})" for name, why in self.reasons.items()]
        return "Chosen for this machine: " + "; ".join(parts) + "." if parts else ""

    def _text(self, name: str) -> str:
        value = getattr(self, name)
        return ("on" if value else "off") if isinstance(value, bool) else str(value)


def resolve(recipe: Recipe, hardware: Hardware, shape: ModelSizes) -> Choices:
    """Decide every `auto` of a recipe.

    Raises:
        ConfigError: the recipe asks for what the machine or the model has not.
    """
    settings = recipe.training
    reasons: dict[str, str] = {}
    dtype = _dtype(recipe, hardware, reasons)
    attention = _attention(recipe, hardware, shape, dtype, reasons)
    packing, grouping = _batching(recipe, attention, reasons)
    choices = Choices(
        dtype=dtype,
        attention=attention,
        packing=packing,
        group_by_length=grouping,
        optimizer=_optimizer(recipe, hardware, reasons),
        gradient_checkpointing=settings.gradient_checkpointing is True,
        gradient_accumulation=_accumulation(recipe, hardware, reasons),
        reasons=reasons,
    )
    if settings.gradient_checkpointing == "auto":
        return _with_checkpointing(choices, recipe, hardware, shape)
    return choices


def choose_dtype(recipe: Recipe, hardware: Hardware) -> DtypeName:
    """The number format of the computation.

    Raises:
        ConfigError: fp16 on a CPU, or bf16 on a GPU that lacks it.
    """
    return _dtype(recipe, hardware, {})


def _dtype(recipe: Recipe, hardware: Hardware, reasons: dict[str, str]) -> DtypeName:
    wanted = recipe.training.dtype
    if wanted == "fp16" and hardware.device == "cpu":
        raise ConfigError("The recipe's dtype fp16 needs a GPU; set dtype to auto, bf16 or fp32.")
    if wanted == "bf16" and hardware.device == "cuda" and not hardware.has_bf16:
        raise ConfigError("This GPU has no bf16; set the recipe's dtype to auto, fp16 or fp32.")
    if wanted != "auto":
        return wanted
    if hardware.device == "cuda":
        reasons["dtype"] = "the GPU has bf16" if hardware.has_bf16 else "the GPU has no bf16"
        return "bf16" if hardware.has_bf16 else "fp16"
    if recipe.method == "qlora":
        # Measured on 2 cores: NF4 with bf16 products takes two thirds of the time of fp32.
        reasons["dtype"] = "4-bit weights on a CPU"
        return "bf16"
    reasons["dtype"] = "a CPU"
    return "fp32"


def _attention(
    recipe: Recipe,
    hardware: Hardware,
    shape: ModelSizes,
    dtype: DtypeName,
    reasons: dict[str, str],
) -> str:
    wanted = recipe.training.attention
    can_flash = hardware.device == "cuda" and hardware.has_flash_attention and dtype != "fp32"
    if wanted == "flash_attention_2" and not can_flash:
        raise ConfigError(
            "The recipe's attention flash_attention_2 needs a GPU, the package flash-attn and "
            "dtype bf16 or fp16; set attention to auto."
        )
    if wanted == "sdpa" and shape.has_softcapping:
        raise ConfigError(
            "This model caps its attention scores, which sdpa cannot; set attention to auto."
        )
    if wanted != "auto":
        return wanted
    if can_flash:
        reasons["attention"] = "flash-attn is installed"
        return "flash_attention_2"
    if shape.has_softcapping:
        reasons["attention"] = "the model caps its attention scores, which sdpa cannot"
        return "eager"
    reasons["attention"] = "a CPU" if hardware.device == "cpu" else "no flash-attn for it here"
    return "sdpa"


def _batching(recipe: Recipe, attention: str, reasons: dict[str, str]) -> tuple[bool, bool]:
    """Packing and grouping by length, of which a training has one or none.

    Without flash attention a packed batch pays for a dense mask. Measured on 2 cores, tokens/s:
    padded 90, packed 144, grouped by length 162.
    """
    settings = recipe.training
    has_flash = attention == "flash_attention_2"
    if settings.packing == "auto":
        why = "flash attention" if has_flash else "no flash attention"
        reasons["packing"] = why
        packing = has_flash
    else:
        packing = settings.packing
    if settings.group_by_length == "auto":
        return packing, not packing
    return packing, settings.group_by_length and not packing


def _optimizer(recipe: Recipe, hardware: Hardware, reasons: dict[str, str]) -> str:
    wanted = recipe.training.optimizer
    is_8bit = wanted.startswith(("paged_", "adamw_8bit"))
    if is_8bit and not hardware.has_bitsandbytes:
        raise ConfigError(
            f"The recipe's optimizer {wanted} needs the package bitsandbytes; install it or set "
            "optimizer to auto."
        )
    if wanted != "auto":
        return wanted
    if recipe.method == "qlora" and hardware.device == "cuda" and hardware.has_bitsandbytes:
        reasons["optimizer"] = "4-bit weights on a GPU"
        return "paged_adamw_8bit"
    return "adamw_torch_fused"


def _accumulation(recipe: Recipe, hardware: Hardware, reasons: dict[str, str]) -> int:
    wanted, processes = recipe.training.gradient_accumulation, hardware.processes
    if processes == 1:
        return wanted
    each = max(1, round(wanted / processes))
    records = each * processes * recipe.training.batch_size
    reasons["gradient_accumulation"] = f"{processes} processes, {records} records a step"
    return each


def _with_checkpointing(
    choices: Choices, recipe: Recipe, hardware: Hardware, shape: ModelSizes
) -> Choices:
    """Recompute activations in the backward pass if they would not fit otherwise."""
    free = hardware.free_bytes
    needed = training_bytes(
        recipe, shape, choices.dtype, is_checkpointed=False, device=hardware.device
    )
    is_needed = free is not None and needed > free * _MEMORY_SHARE
    if not is_needed:
        return choices
    why = f"about {needed / 2**30:.1f} GB needed without, {(free or 0) / 2**30:.1f} GB free"
    return replace(
        choices,
        gradient_checkpointing=True,
        reasons={**choices.reasons, "gradient_checkpointing": why},
    )
