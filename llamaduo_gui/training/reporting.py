"""Where the numbers of a training go: into the project, or out of a process of several."""

from __future__ import annotations

import json
import time
from typing import IO, Any, Protocol

from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.store.project import Project

_CHANGED_INTERVAL_S = 0.25


class TrainingSink(Protocol):
    """Takes what a training has to tell while it runs."""

    def begin(self, step: int, total: int) -> None:
        """The training goes on after `step` of `total`; later points will come again."""

    def advance(self, count: int, message: str, *, is_last: bool = False) -> None:
        """`count` more steps are done."""

    def record(self, step: int, name: str, value: float) -> None:
        """One point of a curve."""

    def progress(self, step: int, total: int) -> None:
        """The points of this step are complete."""


class ProjectSink:
    """Writes the curves to the project and sends events."""

    def __init__(self, project: Project, run_id: int, context: JobContext) -> None:
        self._project = project
        self._run_id = run_id
        self._context = context
        self._meter: ProgressMeter | None = None
        self._changed_at = 0.0

    def begin(self, step: int, total: int) -> None:
        """Show the steps ahead, and drop curve points that will be computed again."""
        self._project.training.forget_after(self._run_id, step)
        self._meter = ProgressMeter(self._context, self._run_id, total, "steps", initial=step)

    def advance(self, count: int, message: str, *, is_last: bool = False) -> None:
        """Send the progress, at most ten times a second."""
        if self._meter is not None:
            self._meter.update(count, message=message, force=is_last)

    def record(self, step: int, name: str, value: float) -> None:
        """Store a point and send it."""
        self._project.training.add(self._run_id, step, name, value)
        self._context.metric(self._run_id, name, value, step)

    def progress(self, step: int, total: int) -> None:
        """Keep how far the run is, and have views query the curves again."""
        self._project.runs.set_progress(self._run_id, step, total)
        if time.monotonic() - self._changed_at >= _CHANGED_INTERVAL_S:
            self._changed_at = time.monotonic()
            self._context.changed("training_log")


class LineSink:
    """Writes every call as a JSON line, for the process that started this one."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def begin(self, step: int, total: int) -> None:
        """As `TrainingSink.begin`."""
        self.send("begin", step=step, total=total)

    def advance(self, count: int, message: str, *, is_last: bool = False) -> None:
        """As `TrainingSink.advance`."""
        self.send("advance", count=count, message=message, is_last=is_last)

    def record(self, step: int, name: str, value: float) -> None:
        """As `TrainingSink.record`."""
        self.send("record", step=step, name=name, value=value)

    def progress(self, step: int, total: int) -> None:
        """As `TrainingSink.progress`."""
        self.send("progress", step=step, total=total)

    def send(self, call: str, **values: Any) -> None:
        """Write one line."""
        self._stream.write(json.dumps({"call": call, **values}) + "\n")
        self._stream.flush()


def replay(line: str, sink: TrainingSink) -> dict[str, Any] | None:
    """Make the call of one line of a `LineSink` on `sink`.

    Returns:
        What is no call of a sink (an outcome, a failure), None for the rest, such as text that
        a library printed.
    """
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict) or "call" not in data:
        return None
    call = data.pop("call")
    if call == "begin":
        sink.begin(**data)
    elif call == "advance":
        sink.advance(**data)
    elif call == "record":
        sink.record(**data)
    elif call == "progress":
        sink.progress(**data)
    else:
        return {"call": call, **data}
    return None
