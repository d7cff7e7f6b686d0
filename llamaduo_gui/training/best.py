"""Keeps the weights of the lowest validation loss, and stops when it no longer falls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_WEIGHTS = "best.safetensors"
_HISTORY = "validations.json"


class BestWeights(TrainerCallback):
    """Follows the validation loss.

    What was measured is kept beside the checkpoints, so that a resumed training decides as one
    that was never interrupted.

    Args:
        folder: of the checkpoints.
        patience: validations in a row without a lower loss that end the training; 0 for never.
    """

    def __init__(self, folder: Path, patience: int) -> None:
        self._folder = folder
        self._patience = patience
        self._history: list[tuple[int, float]] = []
        self.has_stopped = False

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and loss of the best validation so far, the earliest of equals."""
        return min(self._history, key=lambda item: (item[1], item[0]), default=None)

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Take up what was measured up to the checkpoint; the rest will be measured again."""
        try:
            data = json.loads((self._folder / _HISTORY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            data = []
        found = [(int(step), float(loss)) for step, loss in data]
        self._history = [item for item in found if item[0] <= state.global_step]

    def on_evaluate(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        model: Any = None,
        **_: Any,
    ) -> None:
        """Keep the weights if they are the best; stop after `patience` that were not."""
        previous = self.best
        self._history.append((state.global_step, float(metrics["eval_loss"])))
        if self.best != previous and state.is_world_process_zero:
            self._save(model)
        if state.is_world_process_zero:
            path = self._folder / _HISTORY
            path.with_suffix(".new").write_text(json.dumps(self._history), encoding="utf-8")
            path.with_suffix(".new").replace(path)
        if self._patience and self._count_since_best() >= self._patience:
            self.has_stopped = True
            control.should_training_stop = True
            control.should_save = True

    def restore(self, model: Any, step: int) -> None:
        """Give the model its best weights back, unless `step`, the last, has them."""
        best = self.best
        if best is None or best[0] == step:
            return
        saved = load_file(self._folder / _WEIGHTS)
        for name, parameter in model.named_parameters():
            if name in saved:
                parameter.data.copy_(saved[name])

    def _count_since_best(self) -> int:
        best = self.best
        return sum(best is not None and step > best[0] for step, _ in self._history)

    def _save(self, model: Any) -> None:
        trained = {
            name: parameter.detach().cpu().contiguous()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        temporary = self._folder / f"{_WEIGHTS}.new"
        save_file(trained, temporary)
        temporary.replace(self._folder / _WEIGHTS)
