"""What a stage is given besides its project: a way to report, to be cancelled, and its secrets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.errors import JobCancelledError
from llamaduo_gui.core.events import Changed, Event, Level, Log, MetricLogged, Progress


@dataclass(slots=True)
class JobContext:
    """The link between a stage and whoever started it.

    Attributes:
        emit: sends an event; safe to call from any thread.
        cancel_requested: set when the user asked to stop.
        pause_requested: set when the user asked to stop after the current stage.
        secrets: API keys by provider name, held in memory only.
        budget: the limit on spending, None where none is set.
    """

    emit: Callable[[Event], None]
    cancel_requested: threading.Event = field(default_factory=threading.Event)
    pause_requested: threading.Event = field(default_factory=threading.Event)
    secrets: Mapping[str, str] = field(default_factory=dict)
    budget: Budget | None = None

    def check_cancelled(self) -> None:
        """Raise JobCancelledError if the user asked to stop; call between units of work."""
        if self.cancel_requested.is_set():
            raise JobCancelledError("Stopped; finished work is kept.")

    def redact(self, text: str) -> str:
        """The text without any of the API keys; for whatever is stored or shown."""
        for key in self.secrets.values():
            text = text.replace(key, "[key]")
        return text

    def log(
        self, source: str, text: str, *, level: Level = "info", run_id: int | None = None
    ) -> None:
        """Report one line for the log view."""
        self.emit(Log(level=level, source=source, text=self.redact(text), run_id=run_id))

    def changed(self, *tables: str) -> None:
        """Say which tables changed, so that views query again."""
        self.emit(Changed(tables=tables))

    def metric(self, run_id: int, name: str, value: float, step: int) -> None:
        """Report a number measured on the way."""
        self.emit(MetricLogged(run_id=run_id, name=name, value=value, step=step))


@dataclass(slots=True)
class ProgressMeter:
    """Counts units of one run and estimates the time left from the units done since its start.

    `initial` units were done before (a resumed run) and do not count towards the speed.
    """

    context: JobContext
    run_id: int
    total: int
    units: str
    initial: int = 0
    interval_s: float = 0.1
    done: int = field(init=False)
    _started: float = field(init=False)
    _last_emit: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """Start the clock and show the first state."""
        self.done = self.initial
        self._started = time.monotonic()
        self.update(0, force=True)

    def update(self, count: int = 1, *, message: str = "", force: bool = False) -> None:
        """Count `count` more units and report at most every `interval_s` seconds."""
        self.done += count
        now = time.monotonic()
        if not force and self.done < self.total and now - self._last_emit < self.interval_s:
            return
        self._last_emit = now
        fresh = self.done - self.initial
        eta = (now - self._started) / fresh * (self.total - self.done) if fresh > 0 else None
        self.context.emit(
            Progress(
                run_id=self.run_id,
                done=self.done,
                total=self.total,
                units=self.units,
                eta_s=eta,
                message=message,
            )
        )
