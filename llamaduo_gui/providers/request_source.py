"""Takes requests from a stage without waiting for those it decides on later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class RequestSource(Generic[Item]):
    """One pass over an iterable that may be asynchronous and wait for earlier results."""

    def __init__(self, items: Iterable[Item] | AsyncIterable[Item]) -> None:
        self._items = aiter(items) if isinstance(items, AsyncIterable) else _as_async(items)
        self._pull: asyncio.Task[Item] | None = None
        self.is_exhausted = False

    async def take(self, patience_s: float) -> Item | None:
        """The next item, or None when there is none now (or ever: `is_exhausted`).

        Args:
            patience_s: how long the source may take before it counts as having nothing now.
        """
        await self.wait(patience_s)
        if self._pull is None or not self._pull.done():
            return None
        pull, self._pull = self._pull, None
        try:
            return pull.result()
        except StopAsyncIteration:
            self.is_exhausted = True
            return None

    async def wait(self, timeout_s: float | None) -> None:
        """Wait until `take` has news, at most `timeout_s` seconds; None is without end."""
        if self._pull is None and not self.is_exhausted:
            self._pull = asyncio.ensure_future(self._next())
        if self._pull is not None:
            await asyncio.wait({self._pull}, timeout=timeout_s)
        elif timeout_s is not None:
            await asyncio.sleep(timeout_s)

    async def close(self) -> None:
        """Let go of the iterable."""
        if self._pull is not None:
            self._pull.cancel()
            await asyncio.gather(self._pull, return_exceptions=True)
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()

    async def _next(self) -> Item:
        return await anext(self._items)


async def _as_async(items: Iterable[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item
