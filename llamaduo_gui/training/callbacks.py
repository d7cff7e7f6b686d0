"""What the trainer reports while it runs, and how it is stopped."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.store.project import Project
from llamaduo_gui.training.checkpoints import mark_complete

_CHANGED_INTERVAL_S = 0.25
_SERIES = ("loss", "eval_loss", "learning_rate", "grad_norm")


class RunReporter(TrainerCallback):
    """Writes the curves to the project, sends progress, and stops on request.

    A stop saves a checkpoint first, so that resuming repeats no step.
    """

    def __init__(self, project: Project, run_id: int, context: JobContext) -> None:
        self._project = project
        self._run_id = run_id
        self._context = context
        self._meter: ProgressMeter | None = None
        self._changed_at = 0.0

    def on_train_begin(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        **_: Any,
    ) -> None:
        """Show the steps ahead, and drop curve points that will be computed again."""
        self._project.training.forget_after(self._run_id, state.global_step)
        self._meter = ProgressMeter(
            self._context, self._run_id, state.max_steps, "steps", initial=state.global_step
        )

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Count the step; if a stop is asked for, have a checkpoint saved and end."""
        if self._meter is not None:
            self._meter.update(
                message=f"epoch {math.ceil(state.epoch or 0)} of {args.num_train_epochs:g}",
                force=state.global_step >= state.max_steps,
            )
        if self._context.cancel_requested.is_set():
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
        if self._context.cancel_requested.is_set():
            control.should_evaluate = False

    def on_prediction_step(
        self,
        _args: TrainingArguments,
        _state: TrainerState,
        _control: TrainerControl,
        **_: Any,
    ) -> None:
        """Say that a validation is under way, which counts no steps."""
        if self._meter is not None:
            self._meter.update(0, message="measuring the validation loss")

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Store and send the loss, the validation loss, the learning rate and the gradient norm.

        Raises:
            UserError: the loss is not a number any more, so that further steps are wasted.
        """
        for name in _SERIES:
            value = (logs or {}).get(name)
            if value is None:
                continue
            if name == "loss" and not math.isfinite(value):
                raise UserError(
                    f"The training loss became {value} at step {state.global_step}; lower "
                    "student.overrides.learning_rate and start the fine-tuning again."
                )
            if math.isfinite(value):
                self._project.training.add(self._run_id, state.global_step, name, float(value))
                self._context.metric(self._run_id, name, float(value), state.global_step)
        self._project.runs.set_progress(self._run_id, state.global_step, state.max_steps)
        if time.monotonic() - self._changed_at >= _CHANGED_INTERVAL_S:
            self._changed_at = time.monotonic()
            self._context.changed("training_log")

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        **_: Any,
    ) -> None:
        """Mark the checkpoint just written as complete."""
        mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
