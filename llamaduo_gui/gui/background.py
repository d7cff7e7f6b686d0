"""Short reads of the project off the GUI thread, with the answer delivered back on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from PySide6.QtCore import QObject, QRunnable, Qt, QThreadPool, Signal

from llamaduo_gui.core.errors import LlamaDuoError

T = TypeVar("T")


class _Relay(QObject):
    finished = Signal(object)
    failed = Signal(str)


class _Task(QRunnable, Generic[T]):
    def __init__(self, work: Callable[[], T], relay: _Relay) -> None:
        super().__init__()
        self._work = work
        self._relay = relay

    def run(self) -> None:
        try:
            result = self._work()
        except LlamaDuoError as error:
            self._deliver(self._relay.failed, str(error))
        except Exception as error:  # noqa: BLE001 - shown to the user, not swallowed
            self._deliver(self._relay.failed, f"{type(error).__name__}: {error}")
        else:
            self._deliver(self._relay.finished, result)

    @staticmethod
    def _deliver(signal: object, value: object) -> None:
        try:
            signal.emit(value)  # type: ignore[attr-defined]
        except RuntimeError:
            # The page that asked is gone; nobody waits for the answer.
            return


class Background(QObject):
    """Runs reads for one page; the answer of an older read with the same name is dropped."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._latest: dict[str, _Relay] = {}
        self._pool = QThreadPool.globalInstance()
        self._lock = threading.Lock()

    def run(
        self,
        name: str,
        work: Callable[[], T],
        on_result: Callable[[T], None],
        on_error: Callable[[str], None] | None = None,
    ) -> None:
        """Do `work` in a pool thread and call `on_result` (or `on_error`) on the GUI thread."""
        relay = _Relay(self)

        def deliver(value: T) -> None:
            if self._settle(name, relay):
                on_result(value)

        def fail(text: str) -> None:
            if self._settle(name, relay) and on_error is not None:
                on_error(text)

        relay.finished.connect(deliver, Qt.ConnectionType.QueuedConnection)
        relay.failed.connect(fail, Qt.ConnectionType.QueuedConnection)
        with self._lock:
            self._latest[name] = relay
        self._pool.start(_Task(work, relay))

    @property
    def is_busy(self) -> bool:
        """Whether an answer is still awaited."""
        return bool(self._latest)

    def _settle(self, name: str, relay: _Relay) -> bool:
        with self._lock:
            is_latest = self._latest.get(name) is relay
            if is_latest:
                del self._latest[name]
        relay.deleteLater()
        return is_latest
