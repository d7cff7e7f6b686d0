"""Checkpoints of a training run: which one is complete, and which plan it belongs to."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamaduo_gui.training.plan import PlanChangedError, changed_keys

_MARKER = "complete.json"
_PLAN = "plan.json"
_NAME = re.compile(r"checkpoint-(\d+)$")


def mark_complete(checkpoint: Path) -> None:
    """Note the size of every file, as the last act of saving.

    A process killed while it saves leaves a checkpoint without this note; one cut short by a
    power failure leaves files of another size.
    """
    sizes = {
        item.name: item.stat().st_size for item in sorted(checkpoint.iterdir()) if item.is_file()
    }
    temporary = checkpoint / f"{_MARKER}.new"
    temporary.write_text(json.dumps(sizes), encoding="utf-8")
    temporary.replace(checkpoint / _MARKER)


def is_complete(checkpoint: Path) -> bool:
    """Whether every file that was saved is there in full."""
    try:
        sizes = json.loads((checkpoint / _MARKER).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def open_checkpoints(
    folder: Path, plan: Mapping[str, Any], *, should_restart: bool = False
) -> Path | None:
    """Prepare the folder for a run and find where it can go on.

    Incomplete checkpoints are deleted.

    Args:
        folder: of all checkpoints of the round; made on demand.
        plan: everything the training depends on (`plan.make_plan`).
        should_restart: delete all checkpoints.

    Returns:
        The newest complete checkpoint, or None to start from the base model.

    Raises:
        PlanChangedError: there is a complete checkpoint, and it belongs to another plan.
    """
    before = _read_plan(folder)
    newest = _newest(folder)
    if newest is not None and before is not None and not should_restart:
        changes = changed_keys(before, plan)
        if changes:
            raise PlanChangedError(step_of(newest), changes)
    elif folder.is_dir():
        shutil.rmtree(folder)
        newest = None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _PLAN).write_text(json.dumps(plan), encoding="utf-8")
    return newest


def step_of(checkpoint: Path) -> int:
    """The step a checkpoint was saved at."""
    return int(checkpoint.name.rpartition("-")[2])


def _read_plan(folder: Path) -> dict[str, Any] | None:
    """The plan the checkpoints belong to, None if there is none that can be read."""
    try:
        data = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _newest(folder: Path) -> Path | None:
    newest: Path | None = None
    for item in folder.iterdir() if folder.is_dir() else ():
        if _NAME.match(item.name) is None:
            continue
        if not is_complete(item):
            shutil.rmtree(item)
        elif newest is None or step_of(item) > step_of(newest):
            newest = item
    return newest
