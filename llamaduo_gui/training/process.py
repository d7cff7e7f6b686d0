"""The work of one of several training processes: the first one reports and writes the result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llamaduo_gui.core.base_model import read_model_config
from llamaduo_gui.core.causal_lm import load_tokenizer
from llamaduo_gui.core.chat_templates import lent_template
from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.training.artifact import write_trained
from llamaduo_gui.training.callbacks import RunReporter, peak_memory_mb
from llamaduo_gui.training.distributed import STOP, read_examples
from llamaduo_gui.training.hardware import Choices
from llamaduo_gui.training.memory import read_sizes
from llamaduo_gui.training.model import numerics_of
from llamaduo_gui.training.recipes import Recipe
from llamaduo_gui.training.reporting import LineSink
from llamaduo_gui.training.trainer import TrainingTask, explained_failures, train


def run_process(path: Path, sink: LineSink) -> None:
    """Train what the file at `path` describes (`distributed.run_launch` writes it).

    Raises:
        UserError: as `trainer.train`.
    """
    spec = json.loads(path.read_text(encoding="utf-8"))
    task = _read_task(spec, path.parent)
    is_first = int(os.environ.get("RANK", "0")) == 0
    reporter = RunReporter(sink if is_first else None, _agreed(path.with_name(STOP)))
    outcome = train(task, [reporter])
    if is_first:
        lent = lent_template(task.tokenizer)
        if outcome.figures.is_finished:
            with explained_failures(task):
                write_trained(
                    outcome.model,
                    task.base,
                    Path(spec["target"]),
                    reference=spec["reference"],
                    lent_template=lent.text if lent else "",
                )
        peak = peak_memory_mb(task.numerics.device)
        sink.send("outcome", figures=outcome.figures.to_dict(), peak_memory_mb=peak)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _read_task(spec: dict[str, Any], folder: Path) -> TrainingTask:
    recipe = Recipe.model_validate(spec["recipe"])
    choices = Choices.from_dict(spec["choices"])
    base = Path(spec["base"])
    return TrainingTask(
        recipe=recipe,
        base=base,
        family=ModelFamily.model_validate(spec["family"]),
        shape=read_sizes(read_model_config(base)),
        numerics=numerics_of(recipe, spec["device"], choices.dtype),
        choices=choices,
        tokenizer=load_tokenizer(base),
        train=read_examples(folder / spec["train"]),
        validation=read_examples(folder / spec["validation"]),
        checkpoints=folder,
        events=Path(spec["events"]),
        resume_from=Path(spec["resume_from"]) if spec["resume_from"] else None,
        seed=int(spec["seed"]),
    )


def _agreed(marker: Path) -> Callable[[], bool]:
    """Whether to stop: asked of the file, and then of all processes, which must do the same."""

    def is_stop_requested() -> bool:
        wish = torch.tensor([int(marker.exists())])
        if torch.distributed.is_initialized():
            if torch.cuda.is_available():
                wish = wish.cuda()
            torch.distributed.all_reduce(wish, op=torch.distributed.ReduceOp.MAX)
        return bool(wish.item())

    return is_stop_requested
