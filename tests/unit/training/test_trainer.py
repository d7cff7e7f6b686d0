"""The trainer's figures are those of the last epoch, and its failures say what to change."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.training.dataset import EncodedSet
from llamaduo_gui.training.hardware import Hardware, resolve
from llamaduo_gui.training.memory import read_sizes
from llamaduo_gui.training.model import choose_numerics
from llamaduo_gui.training.out_of_memory import BatchWatch
from llamaduo_gui.training.recipes import load_recipe
from llamaduo_gui.training.trainer import TrainingTask, explained_failures, last_epoch_loss


@pytest.fixture
def task(tmp_path: Path) -> TrainingTask:
    recipe = load_recipe("lora", {"batch_size": 6, "gradient_accumulation": 2})
    shape = read_sizes(
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "intermediate_size": 128,
            "vocab_size": 1000,
            "num_attention_heads": 4,
        }
    )
    return TrainingTask(
        recipe=recipe,
        shape=shape,
        choices=resolve(recipe, Hardware("cpu"), shape),
        events=tmp_path,
        base=tmp_path,
        family=ModelFamily(name="llama", model_types=("llama",)),
        numerics=choose_numerics(recipe),
        tokenizer=None,
        train=EncodedSet(),
        validation=EncodedSet(),
        checkpoints=tmp_path,
        resume_from=None,
        seed=0,
    )


def test_the_loss_is_the_mean_of_the_last_epoch_by_steps() -> None:
    history = [
        {"step": 1, "epoch": 0.1, "loss": 9.0},
        {"step": 10, "epoch": 1.0, "loss": 5.0},
        {"step": 10, "epoch": 1.0, "eval_loss": 4.0},
        {"step": 16, "epoch": 1.6, "loss": 2.0},
        {"step": 20, "epoch": 2.0, "loss": 1.0},
        {"step": 20, "epoch": 2.0, "train_loss": 3.0},
    ]
    assert last_epoch_loss(history, epochs=2) == pytest.approx((6 * 2.0 + 4 * 1.0) / 10)


def test_an_epoch_too_short_for_an_entry_has_the_last_one() -> None:
    assert last_epoch_loss([{"step": 2, "epoch": 0.5, "loss": 4.0}], epochs=3) == 4.0
    assert last_epoch_loss([], epochs=3) is None


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: not enough memory")],
)
def test_exhausted_memory_suggests_half_the_batch(task: TrainingTask, error: Exception) -> None:
    with (
        pytest.raises(UserError, match=r"batch_size: 3, gradient_accumulation: 4"),
        explained_failures(task, BatchWatch(6, 900)),
    ):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        RuntimeError("[enforce fail at inline_container.cc] No space left on device"),
    ],
)
def test_a_full_disk_is_named(task: TrainingTask, error: Exception) -> None:
    with pytest.raises(UserError, match="make room"), explained_failures(task):
        raise error


def test_other_failures_stay_what_they_are(task: TrainingTask) -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained_failures(task):
        raise RuntimeError("shapes cannot be multiplied")
