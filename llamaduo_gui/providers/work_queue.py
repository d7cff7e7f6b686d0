"""A queue of work that comes from a source on demand and may be put back for later."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class WorkQueue(Generic[Item]):
    """Hands out what was put back and is due, else the next item of the source.

    The source is asked for one item at a time, only when somebody waits for it, so that it may
    decide late. Putting back never waits for a source that is itself waiting for results.
    """

    def __init__(self, source: AsyncGenerator[Item, None]) -> None:
        self._source = source
        self._is_exhausted = False
        self._pull: asyncio.Task[Item] | None = None
        self._delayed: list[tuple[float, int, Item]] = []
        self._order = itertools.count()
        self._unfinished = 0
        self._changed = asyncio.Event()

    async def next(self) -> Item | None:
        """The next item, or None when everything handed out is finished and nothing is left."""
        while True:
            if (item := self._pop_due()) is not None:
                return item
            if self._pull is None and not self._is_exhausted:
                self._pull = asyncio.ensure_future(anext(self._source))
            if self._pull is None and not self._delayed and self._unfinished == 0:
                return None
            await self._wait_for_change()
            if self._pull is not None and self._pull.done():
                pull, self._pull = self._pull, None
                try:
                    item = pull.result()
                except StopAsyncIteration:
                    self._is_exhausted = True
                else:
                    self._unfinished += 1
                    return item

    def put_back(self, item: Item, delay_s: float) -> None:
        """Hand out `item`, which is not finished, again in `delay_s` seconds."""
        self._unfinished -= 1
        self._push(item, delay_s)

    def add(self, item: Item) -> None:
        """Put a new item at the front."""
        self._push(item, 0.0)

    def finish(self) -> None:
        """An item that was handed out is done with."""
        self._unfinished -= 1
        self._changed.set()

    async def close(self) -> None:
        """Let go of the source."""
        if self._pull is not None:
            self._pull.cancel()
            await asyncio.gather(self._pull, return_exceptions=True)
        await self._source.aclose()

    def _push(self, item: Item, delay_s: float) -> None:
        heapq.heappush(self._delayed, (time.monotonic() + delay_s, next(self._order), item))
        self._changed.set()

    def _pop_due(self) -> Item | None:
        if not self._delayed or self._delayed[0][0] > time.monotonic():
            return None
        self._unfinished += 1
        return heapq.heappop(self._delayed)[2]

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        waits: set[asyncio.Future[object]] = {asyncio.ensure_future(self._changed.wait())}
        waker = next(iter(waits))
        if self._pull is not None:
            waits.add(self._pull)  # type: ignore[arg-type]
        timeout = max(0.0, self._delayed[0][0] - time.monotonic()) if self._delayed else None
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waker.cancel()
