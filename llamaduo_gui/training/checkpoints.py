"""Checkpoints of a training run: which one is complete, and which plan it belongs to."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

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


def open_checkpoints(folder: Path, plan: str) -> Path | None:
    """Prepare the folder for a run and find where it can go on.

    Checkpoints of another plan (another recipe, data set, base model or seed) and incomplete
    ones are deleted.

    Args:
        folder: of all checkpoints of the round; made on demand.
        plan: fingerprint of everything the training depends on.

    Returns:
        The newest complete checkpoint, or None to start from the base model.
    """
    note = folder / _PLAN
    if folder.is_dir() and (not note.is_file() or note.read_text(encoding="utf-8") != plan):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(plan, encoding="utf-8")
    newest: tuple[int, Path] | None = None
    for item in folder.iterdir():
        match = _NAME.match(item.name)
        if match is None:
            continue
        if not is_complete(item):
            shutil.rmtree(item)
        elif newest is None or int(match[1]) > newest[0]:
            newest = (int(match[1]), item)
    return newest[1] if newest else None
