"""Tests of the slots requests to one service share, across tasks, event loops and threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from llamaduo_gui.providers.slots import FIRST_WINDOW, Slots


def open_slots(size: int) -> Slots:
    slots = Slots()
    slots.set_ceiling(size)
    slots.open()
    return slots


def test_no_more_are_let_in_than_there_are_slots_first_come_first_served() -> None:
    slots = open_slots(2)
    order: list[int] = []

    async def work(number: int) -> None:
        await slots.acquire()
        assert slots.used <= 2
        order.append(number)
        await asyncio.sleep(0.001)
        slots.release()

    async def all_of_them() -> None:
        await asyncio.gather(*(work(number) for number in range(10)))

    asyncio.run(all_of_them())
    assert order == list(range(10))
    assert slots.used == 0


def test_threads_with_event_loops_of_their_own_share_the_slots() -> None:
    slots = open_slots(3)
    lock = threading.Lock()
    busy = most = 0

    async def work() -> None:
        nonlocal busy, most
        for _ in range(10):
            await slots.acquire()
            with lock:
                busy += 1
                most = max(most, busy)
            await asyncio.sleep(0.002)
            with lock:
                busy -= 1
            slots.release()

    async def four() -> None:
        await asyncio.gather(*(work() for _ in range(4)))

    threads = [threading.Thread(target=lambda: asyncio.run(four())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert most == 3
    assert slots.used == 0


def test_who_stops_waiting_takes_no_slot_along() -> None:
    slots = open_slots(1)

    async def stop_waiting() -> None:
        await slots.acquire()
        waiting = asyncio.create_task(slots.acquire())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        granted = asyncio.create_task(slots.acquire())
        await asyncio.sleep(0)
        slots.release()
        granted.cancel()  # in the same moment as it is let in
        with pytest.raises(asyncio.CancelledError):
            await granted
        assert slots.used == 0

    asyncio.run(stop_waiting())


def test_a_loop_that_is_gone_does_not_keep_its_place() -> None:
    slots = open_slots(1)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(slots.acquire())
    waiting = loop.create_task(slots.acquire())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    slots.release()
    assert slots.used == 0
    asyncio.run(slots.acquire())
    assert slots.used == 1
    assert not waiting.done()
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    del waiting


def test_a_429_closes_the_window_and_replies_open_it_slowly() -> None:
    slots = Slots()
    slots.set_ceiling(20)
    assert slots.size == FIRST_WINDOW
    for _ in range(100):
        slots.succeeded()
    assert slots.size == 20

    async def take_ten() -> None:
        for _ in range(10):
            await slots.acquire()

    asyncio.run(take_ten())
    slots.limited()
    assert slots.size == 7
    for _ in range(8):
        slots.succeeded()
    assert slots.size == 8, "one more after a window's worth of replies"


def test_waiting_costs_no_time_when_a_slot_is_free() -> None:
    slots = open_slots(1)

    async def many() -> float:
        started = time.perf_counter()
        for _ in range(1000):
            await slots.acquire()
            slots.release()
        return time.perf_counter() - started

    assert asyncio.run(many()) < 0.5
