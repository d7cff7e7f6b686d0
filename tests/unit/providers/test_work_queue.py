"""Tests of the queue that work comes from and goes back to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from llamaduo_gui.providers.work_queue import WorkQueue


async def source(*items: str) -> AsyncGenerator[str, None]:
    for item in items:
        yield item


def test_items_come_in_order_and_then_none() -> None:
    async def use() -> list[str | None]:
        queue = WorkQueue(source("a", "b"))
        found = []
        for _ in range(2):
            found.append(await queue.next())
            queue.finish()
        return [*found, await queue.next()]

    assert asyncio.run(use()) == ["a", "b", None]


def test_an_item_put_back_comes_when_it_is_due() -> None:
    async def use() -> tuple[list[str | None], float]:
        queue = WorkQueue(source("a", "b"))
        first = await queue.next()
        assert first is not None
        queue.put_back(first, 0.05)
        second = await queue.next()
        queue.finish()
        started = asyncio.get_running_loop().time()
        third = await queue.next()
        return [second, third], asyncio.get_running_loop().time() - started

    found, waited_s = asyncio.run(use())
    assert found == ["b", "a"]
    assert 0.03 < waited_s < 1


def test_it_waits_for_what_is_unfinished() -> None:
    async def use() -> list[str | None]:
        queue = WorkQueue(source("a"))
        first = await queue.next()
        assert first is not None
        waiting = asyncio.create_task(queue.next())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        queue.put_back(first, 0.0)
        again = await waiting
        queue.finish()
        return [again, await queue.next()]

    assert asyncio.run(use()) == ["a", None]


def test_a_source_that_waits_for_results_does_not_hold_up_what_was_put_back() -> None:
    async def use() -> list[str | None]:
        results = asyncio.Event()

        async def waits() -> AsyncGenerator[str, None]:
            yield "a"
            await results.wait()
            yield "b"

        queue = WorkQueue(waits())
        first = await queue.next()
        assert first is not None
        queue.put_back(first, 0.01)
        again = await asyncio.wait_for(queue.next(), 1)
        results.set()
        queue.finish()
        return [again, await queue.next()]

    assert asyncio.run(use()) == ["a", "b"]


def test_the_source_is_asked_for_one_item_at_a_time_on_demand() -> None:
    taken = []

    async def counted() -> AsyncGenerator[int, None]:
        for number in range(5):
            taken.append(number)
            yield number

    async def use() -> None:
        queue = WorkQueue(counted())
        await queue.next()
        await asyncio.sleep(0.01)
        await queue.close()

    asyncio.run(use())
    assert taken == [0]


def test_an_error_of_the_source_is_raised_to_whoever_waits() -> None:
    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("no more seeds")

    async def use() -> None:
        queue = WorkQueue(broken())
        await queue.next()
        await queue.next()

    with pytest.raises(ValueError, match="no more seeds"):
        asyncio.run(use())
