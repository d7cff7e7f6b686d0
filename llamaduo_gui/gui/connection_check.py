"""Test connection and list models from the window, in a child process."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QObject, Signal

from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.session import Job
from llamaduo_gui.providers.check import ConnectionReport
from llamaduo_gui.worker.check_job import check_spec
from llamaduo_gui.worker.protocol import JobSpec
from llamaduo_gui.worker.supervisor import JobResult


class ConnectionCheck(QObject):
    """Tries services out one at a time; a new `start` drops what is under way.

    Signals:
        finished(ConnectionReport): the outcome of the last `start`; not sent after `cancel`.
    """

    finished = Signal(object)

    def __init__(self, secrets: SecretStore, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._secrets = secrets
        self._background = Background(self)
        self._wanted: JobSpec | None = None
        self._job: Job | None = None

    @property
    def is_running(self) -> bool:
        """Whether an outcome is awaited."""
        return self._wanted is not None

    def start(self, provider: str, model: str = "", base_url: str = "", key: str = "") -> None:
        """Try a service out; returns at once.

        Args:
            provider: its name in `pipeline.yaml`.
            model: empty to try the connection and list the models only.
            base_url: its address, where it has none of its own.
            key: an API key that is typed and not saved yet; empty for the one that is kept.
        """
        self.cancel()
        spec = check_spec(provider, model, base_url or None)
        self._wanted = spec
        if key:
            self._begin(spec, {provider: key})
            return
        # A keyring may take its time, and may ask to be unlocked.
        self._background.run(
            "key",
            partial(self._secrets.collect, [provider]),
            partial(self._begin, spec),
            partial(self._fail, spec),
        )

    def _begin(self, spec: JobSpec, secrets: dict[str, str]) -> None:
        if spec is not self._wanted:
            return
        job = Job(spec, secrets, self)
        job.finished.connect(self._settle)
        self._job = job
        job.start()

    def _fail(self, spec: JobSpec, text: str) -> None:
        if spec is self._wanted:
            self._wanted = None
            self.finished.emit(ConnectionReport(False, text))

    def cancel(self) -> None:
        """Drop what is under way; returns at once."""
        job, self._job, self._wanted = self._job, None, None
        if job is not None:
            job.finished.disconnect(self._settle)
            job.finished.connect(job.deleteLater)
            job.cancel()

    def _settle(self, result: JobResult) -> None:
        job, self._job, self._wanted = self._job, None, None
        if job is not None:
            job.deleteLater()
        if result.status == "succeeded":
            self.finished.emit(ConnectionReport.from_dict(result.result))
        else:
            self.finished.emit(ConnectionReport(False, result.error))
