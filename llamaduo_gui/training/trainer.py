"""Runs TRL's trainer for one round: same seed, same weights, also after an interruption."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.training.best import BestWeights
from llamaduo_gui.training.dataset import EncodedSet
from llamaduo_gui.training.event_files import EventFiles
from llamaduo_gui.training.hardware import Choices
from llamaduo_gui.training.memory import ModelSizes
from llamaduo_gui.training.model import (
    Numerics,
    add_adapter,
    keep_trainable_in_fp32,
    load_base_model,
)
from llamaduo_gui.training.out_of_memory import BatchWatch, explain, is_out_of_memory
from llamaduo_gui.training.recipes import Recipe
from llamaduo_gui.training.sampler import EpochSampler

_KEPT_CHECKPOINTS = 2
"""While the newest is being written the one before it is still there."""


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """What is trained, on what, from where.

    Attributes:
        base: folder of the base model.
        shape: of the base model, for what is said when memory does not suffice.
        choices: what the recipe leaves open, decided.
        checkpoints: folder for checkpoints.
        events: folder for TensorBoard's event files.
        resume_from: a complete checkpoint to go on from, or None.
    """

    recipe: Recipe
    base: Path
    family: ModelFamily
    shape: ModelSizes
    numerics: Numerics
    choices: Choices
    tokenizer: Any
    train: EncodedSet
    validation: EncodedSet
    checkpoints: Path
    events: Path
    resume_from: Path | None
    seed: int


@dataclass(frozen=True, slots=True)
class TrainingFigures:
    """The numbers of a training.

    Attributes:
        is_finished: it went through the recipe, or stopped because it no longer got better.
        train_loss: mean loss a token over the last epoch, None when nothing was logged in it.
        eval_loss: validation loss of the weights that are kept, None without a validation.
        best_step: step of the weights that are kept, None unless the best were looked for.
    """

    is_finished: bool
    steps: int
    total_steps: int
    epochs: float
    train_loss: float | None
    eval_loss: float | None
    best_step: int | None
    trainable_parameters: int
    parameters: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """The trained model (a PEFT one, or the whole one after full fine-tuning) and its numbers."""

    model: Any
    figures: TrainingFigures


class _OrderedSftTrainer(SFTTrainer):
    """TRL's trainer with an order of records that a resumed run can repeat."""

    is_grouped = True
    is_longest_first = True
    watch = BatchWatch()

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        rows = self.train_dataset if train_dataset is None else train_dataset
        batches = self.args.gradient_accumulation_steps * self.args.world_size
        return EpochSampler(
            [len(ids) for ids in rows["input_ids"]],
            step_size=self.args.per_device_train_batch_size * batches,
            seed=self.args.seed,
            is_grouped=self.is_grouped,
            is_longest_first=self.is_longest_first,
        )

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """Note the size of the batch, for what is said if it does not fit."""
        self._note(inputs, is_validation=False)
        return super().training_step(model, inputs, *rest, **named)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """Note the size of the batch, for what is said if it does not fit."""
        self._note(inputs, is_validation=True)
        return super().prediction_step(model, inputs, *rest, **named)

    def _note(self, inputs: dict[str, Any], *, is_validation: bool) -> None:
        self.watch.records, self.watch.length = (int(size) for size in inputs["input_ids"].shape)
        self.watch.is_validation = is_validation


def train(task: TrainingTask, callbacks: list[TrainerCallback]) -> TrainingOutcome:
    """Train from the base model, or from `task.resume_from`, to the end of the recipe.

    The training stops early, with a checkpoint, when a callback asks for it; `is_finished` tells.

    Raises:
        UserError: the recipe does not fit the model, the loss is not finite, or memory or disk
            space does not suffice.
    """
    settings = task.recipe.training
    best = None
    if settings.should_keep_best and task.validation.examples:
        best = BestWeights(task.checkpoints, settings.early_stopping_patience)
    is_first = int(os.environ.get("RANK", "0")) == 0
    events = EventFiles(task.events) if settings.tensorboard and is_first else None
    watch = BatchWatch()
    with explained_failures(task, watch):
        extra = [item for item in (best, events) if item is not None]
        trainer = _make_trainer(task, [*callbacks, *extra], watch)
        try:
            trainer.train(
                resume_from_checkpoint=str(task.resume_from) if task.resume_from else None
            )
            state = trainer.state
            is_finished = state.global_step >= state.max_steps or (
                best is not None and best.has_stopped
            )
            if is_finished and settings.eval != "never" and task.validation.examples:
                _evaluate_at_end(trainer)
        finally:
            if events is not None:
                events.close()
        model = trainer.accelerator.unwrap_model(trainer.model)
        if is_finished and best is not None:
            best.restore(model, state.global_step)
    parameters = list(model.parameters())
    kept = best.best if best is not None else None
    figures = TrainingFigures(
        is_finished=is_finished,
        steps=state.global_step,
        total_steps=state.max_steps,
        epochs=float(state.epoch or 0),
        train_loss=last_epoch_loss(state.log_history, settings.epochs),
        eval_loss=kept[1] if kept else _last(state.log_history, "eval_loss"),
        best_step=kept[0] if kept else None,
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        parameters=int(model.num_parameters()),
    )
    return TrainingOutcome(model, figures)


@contextmanager
def explained_failures(task: TrainingTask, watch: BatchWatch | None = None) -> Iterator[None]:
    """Turn exhausted memory or disk space into a UserError that says what to change."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError, SafetensorError, UserError) as error:
        if is_out_of_memory(error):
            raise explain(
                error,
                task.recipe,
                task.choices,
                task.shape,
                watch=watch or BatchWatch(),
                device=task.numerics.device,
            ) from error
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise UserError(_disk_full_text(task)) from error
        raise


def last_epoch_loss(history: list[dict[str, Any]], epochs: float) -> float | None:
    """Mean of the logged losses of the last epoch, each weighted by the steps it stands for.

    A last epoch too short for a log entry has the loss of the last entry.
    """
    total = weight = 0.0
    previous = 0
    for entry in history:
        if "loss" not in entry:
            continue
        steps = int(entry["step"]) - previous
        previous = int(entry["step"])
        if float(entry.get("epoch", 0)) > epochs - 1:
            total += float(entry["loss"]) * steps
            weight += steps
    return total / weight if weight else _last(history, "loss")


def _make_trainer(
    task: TrainingTask, callbacks: list[TrainerCallback], watch: BatchWatch
) -> _OrderedSftTrainer:
    set_seed(task.seed)
    arguments = _arguments(task)
    model = load_base_model(task.base, task.recipe, task.numerics, task.choices.attention)
    if task.recipe.method != "full":
        model = add_adapter(model, task.recipe.lora, task.family)
    trainer = _OrderedSftTrainer(
        model=model,
        args=arguments,
        train_dataset=_dataset(task.train),
        eval_dataset=_dataset(task.validation) if task.validation.examples else None,
        processing_class=task.tokenizer,
        callbacks=callbacks,
    )
    trainer.watch = watch
    trainer.is_grouped = task.choices.group_by_length
    trainer.is_longest_first = task.recipe.training.longest_first
    # Standard output is the event channel of the child process.
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    keep_trainable_in_fp32(list(trainer.model.parameters()))
    return trainer


def _arguments(task: TrainingTask) -> SFTConfig:
    settings, choices = task.recipe.training, task.choices
    is_on_cpu = task.numerics.device == "cpu"
    has_epoch_eval = settings.eval in ("epoch", "steps") and bool(task.validation.examples)
    return SFTConfig(
        output_dir=str(task.checkpoints),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup"
        if settings.lr_scheduler == "constant"
        else settings.lr_scheduler,
        warmup_steps=settings.warmup_ratio,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=choices.gradient_accumulation,
        optim=choices.optimizer,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        activation_checkpointing=choices.gradient_checkpointing,
        # Records are encoded and measured already; packing alone needs the length.
        max_length=settings.max_length if choices.packing else None,
        packing=choices.packing,
        eval_packing=False,
        use_cpu=is_on_cpu,
        bf16=task.numerics.compute is torch.bfloat16,
        fp16=task.numerics.compute is torch.float16,
        seed=task.seed,
        logging_steps=settings.logging_steps,
        logging_first_step=True,
        # A loss that is not a number has to be seen, not replaced by the mean of the others.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=_KEPT_CHECKPOINTS,
        eval_strategy=settings.eval if has_epoch_eval else "no",
        eval_steps=settings.eval_steps,
        dataloader_pin_memory=not is_on_cpu,
        disable_tqdm=True,
        report_to="none",
    )


def _dataset(encoded: EncodedSet) -> Any:
    from datasets import Dataset

    return Dataset.from_dict(
        {
            "input_ids": [example.input_ids for example in encoded.examples],
            "labels": [example.labels for example in encoded.examples],
        }
    )


def _evaluate_at_end(trainer: SFTTrainer) -> None:
    history = trainer.state.log_history
    measured = max((int(item["step"]) for item in history if "eval_loss" in item), default=-1)
    if measured < trainer.state.global_step:
        trainer.evaluate()


def _last(history: list[dict[str, Any]], name: str) -> float | None:
    values = [float(entry[name]) for entry in history if name in entry]
    return values[-1] if values and math.isfinite(values[-1]) else None


def _disk_full_text(task: TrainingTask) -> str:
    return (
        f"The disk of {task.checkpoints} is full; make room and resume: the last complete "
        "checkpoint is kept."
    )
