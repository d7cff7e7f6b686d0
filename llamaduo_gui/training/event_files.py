"""Event files for TensorBoard, with whichever of its writers is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llamaduo_gui.core.errors import ConfigError


def check_writer() -> None:
    """Raise ConfigError if no package that writes event files is installed."""
    if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise ConfigError(
            "The recipe writes event files for TensorBoard, and neither the package tensorboard "
            "nor tensorboardX is installed; run `pip install tensorboard` or set tensorboard: "
            "false."
        )


class EventFiles(TrainerCallback):
    """Writes every number that is logged to event files in `folder`."""

    def __init__(self, folder: Path) -> None:
        has_own = find_spec("tensorboard") is not None
        module = import_module("torch.utils.tensorboard" if has_own else "tensorboardX")
        self._writer: Any = module.SummaryWriter(str(folder))

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write the numbers of this step."""
        for name, value in (logs or {}).items():
            if isinstance(value, int | float):
                place = "validation/" if name.startswith("eval_") else "train/"
                self._writer.add_scalar(
                    place + name.removeprefix("eval_"), value, state.global_step
                )

    def close(self) -> None:
        """Finish the file; the training is over, or has failed."""
        self._writer.close()
