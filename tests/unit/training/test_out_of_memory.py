"""Exhausted memory is told in numbers, with the next smaller recipe."""

from __future__ import annotations

import pytest
import torch

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.training.hardware import Hardware, resolve
from llamaduo_gui.training.memory import read_sizes
from llamaduo_gui.training.out_of_memory import (
    BatchWatch,
    OutOfMemoryError,
    explain,
    fitting_overrides,
    is_out_of_memory,
)
from llamaduo_gui.training.recipes import load_recipe

TINY = read_sizes(
    {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "vocab_size": 1000,
        "num_attention_heads": 4,
    }
)
CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.65 GiB of "
    "which 1.25 GiB is free. Of the allocated memory 20.00 GiB is allocated by PyTorch."
)
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
)


def explained(error: BaseException, device: str, **overrides: object) -> OutOfMemoryError:
    recipe = load_recipe("lora", {"gradient_checkpointing": False, **overrides})
    choices = resolve(recipe, Hardware("cpu"), TINY)
    return explain(error, recipe, choices, TINY, watch=BatchWatch(8, 1024), device=device)


def test_a_gpus_numbers_are_in_the_sentence_and_in_the_detail() -> None:
    error = explained(CUDA, "cuda")
    text = str(error)
    assert "batch of 8 records of up to 1,024 tokens" in text
    assert "2.5 GB more was needed and 1.2 GB of 23.6 GB was free" in text
    assert "{batch_size: 4, gradient_accumulation: 4}" in text
    assert error.detail["needed_bytes"] == int(2.5 * 2**30)
    assert error.detail["overrides"] == {"batch_size": 4, "gradient_accumulation": 4}


def test_on_a_cpu_the_machine_says_what_was_free() -> None:
    error = explained(CPU, "cpu")
    assert "8.0 GB more was needed" in str(error)
    assert error.detail["free_bytes"] > 0
    assert error.detail["kind"] == "out_of_memory"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"batch_size": 8, "gradient_accumulation": 2}, {"batch_size": 4}),
        ({"batch_size": 1}, {"gradient_checkpointing": True}),
        ({"batch_size": 1, "gradient_checkpointing": True}, {"max_length": 512}),
        (
            {"batch_size": 1, "gradient_checkpointing": True, "max_length": 300},
            {"method": "qlora"},
        ),
        (
            {
                "batch_size": 1,
                "gradient_checkpointing": True,
                "max_length": 300,
                "method": "qlora",
            },
            {},
        ),
    ],
)
def test_the_next_step_down_is_offered(
    overrides: dict[str, object], expected: dict[str, object]
) -> None:
    recipe = load_recipe("lora", {"gradient_checkpointing": False, **overrides})
    choices = resolve(recipe, Hardware("cpu"), TINY)
    found = fitting_overrides(recipe, choices, TINY, limit=None)
    assert expected.items() <= found.items()
    assert len(found) <= 2


def test_a_batch_that_cannot_fit_by_far_is_cut_by_more_than_half() -> None:
    recipe = load_recipe("lora", {"batch_size": 64, "gradient_accumulation": 1})
    choices = resolve(recipe, Hardware("cpu"), TINY)
    one = fitting_overrides(recipe, choices, TINY, limit=None)
    many = fitting_overrides(recipe, choices, TINY, limit=2**30)
    assert one["batch_size"] == 32
    assert many["batch_size"] < 32
    assert many["batch_size"] * many["gradient_accumulation"] == 64


def test_only_memory_errors_count() -> None:
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    wrapped = UserError("the model does not fit")
    wrapped.__cause__ = CUDA
    assert is_out_of_memory(wrapped)
    assert not is_out_of_memory(UserError("no such file"))
