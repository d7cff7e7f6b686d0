"""Explains exhausted memory in numbers and offers a recipe that needs less of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.training.hardware import Choices
from llamaduo_gui.training.memory import ModelSizes, training_bytes
from llamaduo_gui.training.recipes import Recipe

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = r"([\d.]+) (bytes|KiB|MiB|GiB)"
_NEEDED = re.compile(rf"tried to allocate {_SIZE}", re.IGNORECASE)
_FREE = re.compile(rf"of which {_SIZE} is free")
_TOTAL = re.compile(rf"total capacity of {_SIZE}")
_CPU_TEXTS = ("can't allocate memory", "not enough memory", "Cannot allocate memory")
_SHORTEST = 256
_MEMORY_SHARE = 0.85


class OutOfMemoryError(UserError):
    """A batch did not fit; `detail` has the numbers and the overrides that are offered."""

    def __init__(self, text: str, detail: dict[str, Any]) -> None:
        super().__init__(text)
        self.detail = detail


@dataclass(slots=True)
class BatchWatch:
    """The batch in work: `records` of `length` tokens, padding included; 0 before the first."""

    records: int = 0
    length: int = 0
    is_validation: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of the allocation that failed, in bytes."""

    needed: int | None
    free: int | None
    total: int | None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of a training, or its cause, says that memory is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, UserError):
        return error.__cause__ is not None and is_out_of_memory(error.__cause__)
    return isinstance(error, RuntimeError | OSError) and any(
        text in str(error) for text in _CPU_TEXTS
    )


def read_memory(error: BaseException, device: str) -> Memory:
    """The numbers in PyTorch's message, and those of the machine where it names none."""
    cause = error.__cause__ if isinstance(error, UserError) else error
    text = str(cause)
    needed, free, total = (_bytes(pattern, text) for pattern in (_NEEDED, _FREE, _TOTAL))
    if device == "cpu":
        import psutil

        machine = psutil.virtual_memory()
        free = int(machine.available) if free is None else free
        total = int(machine.total) if total is None else total
    return Memory(needed, free, total)


def explain(
    error: BaseException,
    recipe: Recipe,
    choices: Choices,
    shape: ModelSizes,
    *,
    watch: BatchWatch,
    device: str,
) -> OutOfMemoryError:
    """The error for a person: the batch, what it needed, what was free, and what to set."""
    memory = read_memory(error, device)
    overrides = fitting_overrides(
        recipe, choices, shape, limit=memory.total, is_loading=watch.records == 0
    )
    detail = {
        "kind": "out_of_memory",
        "device": device,
        "needed_bytes": memory.needed,
        "free_bytes": memory.free,
        "total_bytes": memory.total,
        "batch_records": watch.records,
        "batch_tokens": watch.length,
        "is_validation": watch.is_validation,
        "overrides": overrides,
    }
    return OutOfMemoryError(_text(memory, watch, device, overrides), detail)


def fitting_overrides(
    recipe: Recipe,
    choices: Choices,
    shape: ModelSizes,
    *,
    limit: int | None,
    is_loading: bool = False,
) -> dict[str, Any]:
    """Overrides that make the recipe need less: one step down, more while it cannot fit.

    First half the batch with twice the accumulation, which learns the same; then recomputed
    activations; then shorter records; then a base in 4 bits. Empty if nothing is left to give.

    Args:
        recipe: the one that did not fit.
        choices: its decided settings.
        shape: of the base model.
        limit: bytes of the device, None if unknown.
        is_loading: not even the weights fitted, so that only 4 bits help.
    """
    found: dict[str, Any] = {}
    checkpointed = choices.gradient_checkpointing
    for step in _steps(recipe, is_checkpointed=checkpointed, is_loading=is_loading):
        found |= step
        checkpointed = checkpointed or "gradient_checkpointing" in step
        tried = _with(recipe, found)
        need = training_bytes(tried, shape, choices.dtype, is_checkpointed=checkpointed)
        if limit is None or need <= limit * _MEMORY_SHARE:
            break
    return found


def flow_yaml(overrides: dict[str, Any]) -> str:
    """Overrides in one line of YAML, to paste after `overrides:`."""
    parts = (
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}"
        for key, value in overrides.items()
    )
    return "{" + ", ".join(parts) + "}"


def _steps(recipe: Recipe, *, is_checkpointed: bool, is_loading: bool) -> Iterator[dict[str, Any]]:
    settings = recipe.training
    if not is_loading:
        batch, records = settings.batch_size, settings.batch_size * settings.gradient_accumulation
        while batch > 1:
            batch //= 2
            yield {"batch_size": batch, "gradient_accumulation": max(1, round(records / batch))}
        if not is_checkpointed:
            yield {"gradient_checkpointing": True}
        length = settings.max_length
        while length // 2 >= _SHORTEST:
            length //= 2
            yield {"max_length": length}
    if recipe.method != "qlora":
        yield {"method": "qlora"}


def _with(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    settings = {key: value for key, value in overrides.items() if key != "method"}
    training = recipe.training.model_copy(update=settings)
    method = overrides.get("method", recipe.method)
    return recipe.model_copy(update={"training": training, "method": method})


def _bytes(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None


def _text(memory: Memory, watch: BatchWatch, device: str, overrides: dict[str, Any]) -> str:
    place = "The GPU's memory" if device == "cuda" else "This machine's memory"
    what = "the base model"
    if watch.records:
        kind = "validation batch" if watch.is_validation else "batch"
        what = f"a {kind} of {watch.records} records of up to {watch.length:,} tokens"
    numbers = []
    if memory.needed is not None:
        numbers.append(f"{_size(memory.needed)} more was needed")
    if memory.free is not None:
        of_total = f" of {_size(memory.total)}" if memory.total is not None else ""
        numbers.append(f"{_size(memory.free)}{of_total} was free")
    told = f" ({' and '.join(numbers)})" if numbers else ""
    start = f"{place} did not suffice for {what}{told}; "
    if not overrides:
        return start + "choose a smaller base model, or free memory that other programs hold."
    shorter = " (longer records are then left out)" if "max_length" in overrides else ""
    return start + f"set student.overrides to {flow_yaml(overrides)}{shorter} and start again."


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MB"
