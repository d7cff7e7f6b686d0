"""Runs TRL's trainer for one round: same seed, same weights, also after an interruption."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.training.dataset import EncodedSet
from llamaduo_gui.training.model import (
    Numerics,
    add_adapter,
    keep_trainable_in_fp32,
    load_base_model,
)
from llamaduo_gui.training.recipes import Recipe
from llamaduo_gui.training.sampler import EpochSampler

_KEPT_CHECKPOINTS = 2
"""While the newest is being written the one before it is still there."""


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """What is trained, on what, from where.

    Attributes:
        base: folder of the base model.
        checkpoints: folder for checkpoints.
        resume_from: a complete checkpoint to go on from, or None.
    """

    recipe: Recipe
    base: Path
    family: ModelFamily
    numerics: Numerics
    tokenizer: Any
    train: EncodedSet
    validation: EncodedSet
    checkpoints: Path
    resume_from: Path | None
    seed: int


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """The trained model, and the numbers of its training.

    Attributes:
        model: a PEFT model, or the whole model after full fine-tuning.
        train_loss: mean loss a token over the last epoch, None when nothing was logged in it.
        eval_loss: validation loss at the end, None without a validation.
    """

    model: Any
    is_finished: bool
    steps: int
    total_steps: int
    epochs: float
    train_loss: float | None
    eval_loss: float | None
    trainable_parameters: int
    parameters: int


class _OrderedSftTrainer(SFTTrainer):
    """TRL's trainer with an order of records that a resumed run can repeat."""

    is_grouped = True

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return EpochSampler(
            [len(ids) for ids in rows["input_ids"]],
            step_size=self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps,
            seed=self.args.seed,
            is_grouped=self.is_grouped,
        )


def train(task: TrainingTask, callbacks: list[TrainerCallback]) -> TrainingOutcome:
    """Train from the base model, or from `task.resume_from`, to the end of the recipe.

    The training stops early, with a checkpoint, when a callback asks for it; `is_finished` tells.

    Raises:
        UserError: the recipe does not fit the model, the loss is not finite, or memory or disk
            space does not suffice.
    """
    settings = task.recipe.training
    with explained_failures(task):
        trainer = _make_trainer(task, callbacks)
        trainer.train(resume_from_checkpoint=str(task.resume_from) if task.resume_from else None)
        state = trainer.state
        is_finished = state.global_step >= state.max_steps
        if is_finished and settings.eval != "never" and task.validation.examples:
            _evaluate_at_end(trainer)
    parameters = list(trainer.model.parameters())
    return TrainingOutcome(
        model=trainer.model,
        is_finished=is_finished,
        steps=state.global_step,
        total_steps=state.max_steps,
        epochs=float(state.epoch or 0),
        train_loss=last_epoch_loss(state.log_history, settings.epochs),
        eval_loss=_last(state.log_history, "eval_loss"),
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        parameters=int(trainer.model.num_parameters()),
    )


@contextmanager
def explained_failures(task: TrainingTask) -> Iterator[None]:
    """Turn exhausted memory or disk space into a UserError that says what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(_out_of_memory_text(task)) from error
    except (OSError, RuntimeError, SafetensorError) as error:
        text = str(error)
        if "not enough memory" in text:
            raise UserError(_out_of_memory_text(task)) from error
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
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


def _make_trainer(task: TrainingTask, callbacks: list[TrainerCallback]) -> _OrderedSftTrainer:
    set_seed(task.seed)
    model = load_base_model(task.base, task.recipe, task.numerics)
    if task.recipe.method != "full":
        model = add_adapter(model, task.recipe.lora, task.family)
    trainer = _OrderedSftTrainer(
        model=model,
        args=_arguments(task),
        train_dataset=_dataset(task.train),
        eval_dataset=_dataset(task.validation) if task.validation.examples else None,
        processing_class=task.tokenizer,
        callbacks=callbacks,
    )
    settings = task.recipe.training
    trainer.is_grouped = settings.group_by_length and not settings.packing
    # Standard output is the event channel of the child process.
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    keep_trainable_in_fp32(list(trainer.model.parameters()))
    return trainer


def _arguments(task: TrainingTask) -> SFTConfig:
    settings = task.recipe.training
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
        gradient_accumulation_steps=settings.gradient_accumulation,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        activation_checkpointing=settings.gradient_checkpointing,
        # Records are encoded and measured already; packing alone needs the length.
        max_length=settings.max_length if settings.packing else None,
        packing=settings.packing,
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


def _out_of_memory_text(task: TrainingTask) -> str:
    settings = task.recipe.training
    return (
        f"Memory did not suffice for a batch of {settings.batch_size} records; set "
        f"student.overrides to {{batch_size: {max(1, settings.batch_size // 2)}, "
        f"gradient_accumulation: {settings.gradient_accumulation * 2}, "
        "gradient_checkpointing: true} or choose the qlora recipe."
    )


def _disk_full_text(task: TrainingTask) -> str:
    return (
        f"The disk of {task.checkpoints} is full; make room and resume: the last complete "
        "checkpoint is kept."
    )
