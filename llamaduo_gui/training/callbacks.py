"""What the trainer reports while it runs, and how it is stopped."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.training.checkpoints import mark_complete
from llamaduo_gui.training.reporting import TrainingSink

_SERIES = ("loss", "eval_loss", "learning_rate", "grad_norm")


class RunReporter(TrainerCallback):
    """Reports the curves and the progress, and stops on request.

    A stop saves a checkpoint first, so that resuming repeats no step. With several processes
    all of them have this callback, and only the first one's sink takes anything.

    Args:
        sink: takes the numbers; None to report nothing.
        is_stop_requested: asked after each step, by every process.
    """

    def __init__(self, sink: TrainingSink | None, is_stop_requested: Callable[[], bool]) -> None:
        self._sink = sink
        self._is_stop_requested = is_stop_requested
        self._step_started = 0.0
        self._busy_s = 0.0
        self._tokens = 0.0

    def on_train_begin(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        **_: Any,
    ) -> None:
        """Show the steps ahead, and drop curve points that will be computed again."""
        if self._sink is not None:
            self._sink.begin(state.global_step, state.max_steps)

    def on_step_begin(
        self,
        _args: TrainingArguments,
        _state: TrainerState,
        _control: TrainerControl,
        **_: Any,
    ) -> None:
        """Start the clock of the step: validations and checkpoints do not count as training."""
        self._step_started = time.monotonic()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Count the step; if a stop is asked for, have a checkpoint saved and end."""
        self._busy_s += time.monotonic() - self._step_started
        if self._sink is not None:
            epoch = f"epoch {math.ceil(state.epoch or 0)} of {args.num_train_epochs:g}"
            self._sink.advance(1, epoch, is_last=state.global_step >= state.max_steps)
        if self._is_stop_requested():
            control.should_save = True
            control.should_evaluate = False
            control.should_training_stop = True

    def on_epoch_end(
        self,
        _args: TrainingArguments,
        _state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Do not begin a validation when a stop is asked for."""
        if self._is_stop_requested():
            control.should_evaluate = False

    def on_prediction_step(
        self,
        _args: TrainingArguments,
        _state: TrainerState,
        _control: TrainerControl,
        **_: Any,
    ) -> None:
        """Say that a validation is under way, which counts no steps."""
        if self._sink is not None:
            self._sink.advance(0, "measuring the validation loss")

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Report losses, learning rate, gradient norm, tokens a second and memory.

        Raises:
            UserError: the loss is not a number any more, so that further steps are wasted.
        """
        values = {name: logs[name] for name in _SERIES if name in logs} if logs else {}
        if not math.isfinite(values.get("loss", 0.0)):
            raise UserError(
                f"The training loss became {values['loss']} at step {state.global_step}; lower "
                "student.overrides.learning_rate and start the fine-tuning again."
            )
        if self._sink is None:
            return
        if logs and "loss" in logs:
            values |= self._speed(logs) | {"memory_mb": held_memory_mb()}
        for name, value in values.items():
            if math.isfinite(value):
                self._sink.record(state.global_step, name, float(value))
        self._sink.progress(state.global_step, state.max_steps)

    def _speed(self, logs: dict[str, float]) -> dict[str, float]:
        """Tokens a second since the last point, of all processes together."""
        tokens, busy_s = float(logs.get("num_tokens", 0.0)), self._busy_s
        fresh, self._tokens, self._busy_s = tokens - self._tokens, tokens, 0.0
        return {"tokens_per_s": fresh / busy_s} if fresh > 0 and busy_s > 0 else {}

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        **_: Any,
    ) -> None:
        """Mark the checkpoint just written as complete, once every process has written its part."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")


def held_memory_mb() -> float:
    """Memory this process holds now, in MiB: of the GPU when there is one, else resident."""
    if torch.cuda.is_available():
        return round(torch.cuda.memory_reserved() / 2**20, 1)
    import psutil

    return round(psutil.Process().memory_info().rss / 2**20, 1)


def peak_memory_mb(device: str) -> float:
    """Most memory held so far, in MiB: of the GPU when it trains, else of this process."""
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 2**20, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
