"""The open project in the window: its jobs, and the news of what they changed."""

from __future__ import annotations

import collections
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from llamaduo_gui.core.events import (
    Changed,
    Event,
    Finished,
    Log,
    MetricLogged,
    Progress,
    Started,
)
from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.worker.protocol import PAUSE, JobSpec
from llamaduo_gui.worker.supervisor import JobHandle, JobResult

if TYPE_CHECKING:
    from llamaduo_gui.store.project import Project

_POLL_MS = 100


class Job(QObject):
    """A job seen from the GUI thread: events arrive in batches, at most ten a second.

    Signals:
        events(list[Event]): what happened since the last batch.
        finished(JobResult): the job has ended; no event follows.
    """

    events = Signal(list)
    finished = Signal(object)

    def __init__(
        self, spec: JobSpec, secrets: Mapping[str, str], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._queue: collections.deque[Event] = collections.deque()
        self._lock = threading.Lock()
        self._result: JobResult | None = None
        self.handle = JobHandle(spec, secrets, on_event=self._push, on_done=self._set_result)
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._drain)

    def start(self) -> None:
        """Start the child process."""
        self.handle.start()
        self._timer.start()

    def cancel(self) -> None:
        """Ask the job to stop; returns at once."""
        self.handle.cancel()

    def send(self, command: str, **values: Any) -> None:
        """Send a command to the child."""
        self.handle.send(command, **values)

    @property
    def is_running(self) -> bool:
        """Whether `finished` has not been sent yet."""
        return self._timer.isActive()

    def _push(self, event: Event) -> None:
        with self._lock:
            self._queue.append(event)

    def _set_result(self, result: JobResult) -> None:
        with self._lock:
            self._result = result

    def _drain(self) -> None:
        with self._lock:
            batch = list(self._queue)
            self._queue.clear()
            result = self._result
        if batch:
            self.events.emit(batch)
        if result is not None:
            self._timer.stop()
            self.finished.emit(result)


class ProjectSession(QObject):
    """One open project: at most one working job at a time, and signals for every view.

    Signals:
        changed(frozenset[str]): rows of these tables changed; views that show them query again.
        run_started(Started), run_finished(Finished): a stage began or ended.
        progress(Progress): how far the current stage has come.
        metrics(list[MetricLogged]), logged(list[Log]): batches.
        job_started(), job_finished(JobResult): the whole job.
    """

    changed = Signal(frozenset)
    run_started = Signal(object)
    run_finished = Signal(object)
    progress = Signal(object)
    metrics = Signal(list)
    logged = Signal(list)
    job_started = Signal()
    job_finished = Signal(object)

    def __init__(
        self, project: Project, secrets: SecretStore, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.project = project
        self._secrets = secrets
        self._job: Job | None = None
        self.current_run: Started | None = None
        self.current_progress: Progress | None = None
        self.last_result: JobResult | None = None
        self.is_pausing = False
        _settle_interrupted(project)

    @property
    def is_working(self) -> bool:
        """Whether a job is running."""
        return self._job is not None

    @property
    def is_cancelling(self) -> bool:
        """Whether the running job was asked to stop."""
        return self._job is not None and self._job.handle.is_cancelling

    @property
    def job_pid(self) -> int | None:
        """Process id of the working child, for diagnostics and tests."""
        return self._job.handle.pid if self._job else None

    def start_job(self, kind: str, options: Mapping[str, Any] | None = None) -> None:
        """Start a job in this project; nothing happens while one is running.

        Raises:
            ConfigError: `pipeline.yaml` is not valid.
        """
        if self._job is not None:
            return
        providers = self.project.config.providers()
        spec = JobSpec(kind, str(self.project.folder), dict(options or {}))
        self._job = Job(spec, self._secrets.collect(providers), self)
        self._job.events.connect(self._handle_events)
        self._job.finished.connect(self._handle_finished)
        self.last_result = None
        self.is_pausing = False
        self._job.start()
        self.job_started.emit()

    def cancel_job(self) -> None:
        """Ask the running job to stop; finished work is kept."""
        if self._job is not None:
            self._job.cancel()

    def pause_job(self) -> None:
        """Ask the running job to stop after the stage it is in."""
        if self._job is not None:
            self.is_pausing = True
            self._job.send(PAUSE)

    def close(self) -> None:
        """Cancel what runs and close the project."""
        if self._job is not None:
            self._job.cancel()
        self.project.close()

    def _handle_events(self, batch: list[Event]) -> None:
        tables: set[str] = set()
        logs = [event for event in batch if isinstance(event, Log)]
        metrics = [event for event in batch if isinstance(event, MetricLogged)]
        progress: Progress | None = None
        for event in batch:
            if isinstance(event, Changed):
                tables.update(event.tables)
            elif isinstance(event, Progress):
                progress = event
            elif isinstance(event, Started):
                self.current_run, progress = event, None
                self.current_progress = None
                self.run_started.emit(event)
            elif isinstance(event, Finished) and not event.is_job:
                self.current_run = self.current_progress = progress = None
                self.run_finished.emit(event)
        if progress is not None:
            self.current_progress = progress
            self.progress.emit(progress)
        if metrics:
            self.metrics.emit(metrics)
        if logs:
            self.logged.emit(logs)
        if tables:
            self.changed.emit(frozenset(tables))

    def _handle_finished(self, result: JobResult) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.deleteLater()
        self.current_run = self.current_progress = None
        self.last_result = result
        # A child that died could not settle its runs itself.
        _settle_interrupted(self.project)
        self.changed.emit(frozenset({"runs"}))
        self.job_finished.emit(result)


def _settle_interrupted(project: Project) -> None:
    # Imported here: the database library takes as long as the window, which opens without it.
    from llamaduo_gui.store.lock import find_interrupted

    find_interrupted(project)
