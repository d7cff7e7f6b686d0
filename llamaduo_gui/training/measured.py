"""Peaks and speeds of past trainings on this machine (`measured.json`), and what they correct."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from filelock import FileLock

from llamaduo_gui.core.paths import user_state_dir

FILE_NAME = "measured.json"
_KEPT = 200
_LOCK_TIMEOUT_S = 5.0
# A peak far from its estimate is another program's doing, or a bug: it corrects no more than this.
_MOST = 2.5


@dataclass(frozen=True, slots=True)
class Measurement:
    """One finished training.

    Attributes:
        device: name of the GPU, or of the processor.
        model: the reference of the base model.
        recipe: its name; `method` is lora, qlora or full.
        estimated_bytes: what was estimated without any correction.
        seconds_per_token: of training, padding not counted.
        flops_per_s: operations a second by the estimate's count.
    """

    device: str
    model: str
    recipe: str
    method: str
    estimated_bytes: float
    peak_bytes: float
    seconds_per_token: float
    flops_per_s: float
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What past runs say of an estimate.

    Attributes:
        memory_factor: measured over estimated bytes, 1 without a measurement.
        flops_per_s: measured speed; None without one.
        runs: how many runs that rests on.
        is_same_model: they were of the same model and method.
    """

    memory_factor: float = 1.0
    flops_per_s: float | None = None
    runs: int = 0
    is_same_model: bool = False


def measured_path() -> Path:
    """Where the file lies; it need not exist."""
    return user_state_dir() / FILE_NAME


def read_measurements() -> list[Measurement]:
    """All measurements, oldest first; none from a file that is missing or damaged."""
    try:
        data = json.loads(measured_path().read_text(encoding="utf-8"))
        return [Measurement(**row) for row in data["runs"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def add_measurement(found: Measurement) -> None:
    """Keep a measurement; the oldest of very many are dropped."""
    numbers = (found.estimated_bytes, found.peak_bytes, found.seconds_per_token, found.flops_per_s)
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        return
    path = measured_path()
    with FileLock(f"{path}.lock", timeout=_LOCK_TIMEOUT_S):
        rows = [*read_measurements(), found][-_KEPT:]
        text = json.dumps({"version": 1, "runs": [_row(row) for row in rows]}, indent=1)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=FILE_NAME, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).replace(path)


def calibrate(rows: Sequence[Measurement], device: str, model: str, method: str) -> Calibration:
    """What the runs on `device` say: those of the same model and method first, else its others."""
    here = [row for row in rows if row.device == device and row.method == method]
    same = [row for row in here if row.model == model]
    chosen = (same or here)[-5:]
    if not chosen:
        return Calibration()
    factor = median(row.peak_bytes / row.estimated_bytes for row in chosen)
    return Calibration(
        memory_factor=min(_MOST, max(1 / _MOST, factor)),
        flops_per_s=median(row.flops_per_s for row in chosen),
        runs=len(chosen),
        is_same_model=bool(same),
    )


def _row(row: Measurement) -> Mapping[str, Any]:
    return {**asdict(row), "at": row.at or time.time()}
