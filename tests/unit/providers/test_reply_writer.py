"""Tests of the writer that commits replies together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from llamaduo_gui.providers.reply_writer import ReplyWriter


class Ledger:
    """Notes what each commit held; fails when told to."""

    def __init__(self) -> None:
        self.commits: list[list[Any]] = []
        self.problem: Exception | None = None

    def complete_many(self, completions: Sequence[Mapping[str, Any]]) -> None:
        if self.problem is not None:
            raise self.problem
        self.commits.append([completion["request_key"] for completion in completions])


def writer_of(ledger: Ledger) -> ReplyWriter:
    return ReplyWriter(ledger)  # type: ignore[arg-type]


def test_replies_of_one_moment_share_a_commit_and_later_ones_have_their_own() -> None:
    ledger = Ledger()

    async def store_some() -> None:
        writer = writer_of(ledger)
        await asyncio.gather(*(writer.store({"request_key": key}) for key in "abc"))
        assert ledger.commits == [["a", "b", "c"]]
        await writer.store({"request_key": "d"})

    asyncio.run(store_some())
    assert ledger.commits == [["a", "b", "c"], ["d"]]


def test_who_waits_is_told_when_the_commit_fails_and_the_next_one_can_succeed() -> None:
    ledger = Ledger()

    async def store_some() -> None:
        writer = writer_of(ledger)
        ledger.problem = OSError("the disk is full")
        outcomes = await asyncio.gather(
            *(writer.store({"request_key": key}) for key in "ab"), return_exceptions=True
        )
        assert [str(outcome) for outcome in outcomes] == ["the disk is full"] * 2
        ledger.problem = None
        await writer.store({"request_key": "c"})

    asyncio.run(store_some())
    assert ledger.commits == [["c"]]


def test_a_reply_that_arrived_is_stored_though_nobody_waits_for_it_any_more() -> None:
    ledger = Ledger()

    async def store_and_leave() -> None:
        task = asyncio.create_task(writer_of(ledger).store({"request_key": "a"}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(store_and_leave())
    assert ledger.commits == [["a"]]
