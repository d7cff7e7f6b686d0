"""Tests of taking requests from a stage that may decide late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from llamaduo_gui.providers.request_source import RequestSource


def test_a_list_is_given_out_in_order_to_its_end() -> None:
    async def use() -> list[int | None]:
        source = RequestSource([1, 2])
        taken = [await source.take(1.0) for _ in range(3)]
        assert source.is_exhausted
        await source.close()
        return taken

    assert asyncio.run(use()) == [1, 2, None]


def test_a_source_that_waits_has_nothing_now_and_is_not_at_its_end() -> None:
    gate = asyncio.Event()

    async def late() -> AsyncIterator[int]:
        yield 1
        await gate.wait()
        yield 2

    async def use() -> list[int | None]:
        source = RequestSource(late())
        taken = [await source.take(0.02), await source.take(0.02)]
        assert not source.is_exhausted
        gate.set()
        await source.wait(None)
        taken += [await source.take(0.02), await source.take(0.02)]
        assert source.is_exhausted
        await source.close()
        return taken

    assert asyncio.run(use()) == [1, None, 2, None]


def test_waiting_ends_after_the_time_given_whether_the_source_goes_on_or_not() -> None:
    async def never() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    async def use() -> float:
        started = time.monotonic()
        for items in (never(), []):
            source = RequestSource[int](items)
            await source.take(0.0)
            await source.wait(0.1)
            await source.close()
        return time.monotonic() - started

    assert 0.2 <= asyncio.run(use()) < 2.0


def test_closing_lets_a_waiting_source_clean_up() -> None:
    seen: list[str] = []

    async def careful() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            seen.append("closed")

    async def use() -> None:
        source = RequestSource(careful())
        await source.take(0.02)
        await source.close()

    asyncio.run(use())
    assert seen == ["closed"]
