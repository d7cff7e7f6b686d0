"""How many requests to one service may be under way at once, on any thread and event loop."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections import deque

# Before anything is known of a service, this many go out together; each reply adds one.
FIRST_WINDOW = 4
DECREASE = 0.7

_Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]


class Slots:
    """A semaphore whose size follows what the service takes, up to a ceiling.

    While nothing is known the window opens by one with each reply. A 429 that may be about the
    number of requests under way closes it to a part of those; then each window's worth of
    replies opens it by one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ceiling: int | None = None
        self._window: float = FIRST_WINDOW
        self._is_opening = True
        self._used = 0
        self._waiting: deque[_Waiter] = deque()

    @property
    def size(self) -> int:
        """Requests that may be under way now."""
        ceiling = sys.maxsize if self._ceiling is None else self._ceiling
        return ceiling if self._window >= ceiling else max(1, int(self._window))

    @property
    def used(self) -> int:
        """Requests under way."""
        return self._used

    def set_ceiling(self, ceiling: int | None) -> None:
        """The most that may ever be under way; None for no such limit."""
        with self._lock:
            self._ceiling = ceiling
            self._grant()

    async def acquire(self) -> None:
        """Wait for a slot; first come, first served."""
        with self._lock:
            if not self._waiting and self._used < self.size:
                self._used += 1
                return
            loop = asyncio.get_running_loop()
            granted: asyncio.Future[None] = loop.create_future()
            waiter = (loop, granted)
            self._waiting.append(waiter)
        try:
            await granted
        except BaseException:
            with self._lock:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                else:
                    self._used -= 1
                    self._grant()
            raise

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            self._used -= 1
            self._grant()

    def open(self) -> None:
        """A rate is known and paces requests: nothing has to be found out by opening slowly."""
        with self._lock:
            if self._is_opening:
                self._is_opening = False
                self._window = math.inf
            self._grant()

    def succeeded(self) -> None:
        """A reply came: open the window a little."""
        with self._lock:
            self._window += 1 if self._is_opening else 1 / self._window
            self._grant()

    def limited(self) -> None:
        """The service asked for less, and it may be the number under way that it means."""
        with self._lock:
            self._is_opening = False
            self._window = max(1.0, DECREASE * min(self._window, self._used))

    def _grant(self) -> None:
        while self._waiting and self._used < self.size:
            loop, granted = self._waiting.popleft()
            try:
                loop.call_soon_threadsafe(_wake, granted)
            except RuntimeError:
                continue  # its event loop is closed: nobody waits there any more
            self._used += 1


def _wake(granted: asyncio.Future[None]) -> None:
    if not granted.done():
        granted.set_result(None)
