"""One run of the batch engine: gathers requests, hands them in, asks after them, stores results."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Generic, TypeVar

from llamaduo_gui.core.errors import (
    BudgetReachedError,
    FatalProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.providers.base import BatchStatus
from llamaduo_gui.providers.batch_book import RequestBook, Work
from llamaduo_gui.providers.batch_calls import UnsureError
from llamaduo_gui.providers.batch_label import make_label
from llamaduo_gui.providers.batch_link import BatchLink
from llamaduo_gui.providers.dispatch import OnReply, Requests
from llamaduo_gui.providers.ledger import EngineStats
from llamaduo_gui.providers.open_batch import OpenBatch
from llamaduo_gui.providers.request_source import RequestSource

# Batches turned down as a whole, one after the other; each next one is half as large.
HOPELESS_BATCHES = 6
# Results are kept by the services for days; one that is gone sooner is looked for in vain.
KEPT_AT_LEAST_S = 24 * 3600.0
QUIET_S = 600.0
CANCEL_POLL_S = 0.05
CANCEL_GRACE_S = 0.75

Tag = TypeVar("Tag")


class BatchRun(Generic[Tag]):
    """See `BatchEngine.run`; made for one run and not used again.

    Args:
        link: service, database and calls.
        requests, on_reply: as in `RequestEngine.run`.
    """

    def __init__(self, link: BatchLink, requests: Requests[Tag], on_reply: OnReply[Tag]) -> None:
        self._link = link
        self._source = RequestSource(requests)
        self._book = RequestBook(link, on_reply, self._adopt)
        self._open: dict[int, OpenBatch] = {}
        self._recalled: set[int] = set()
        self._to_cancel: set[int] = set()
        self._size = max(1, link.provider.batch_limit)
        self._turned_down = 0
        self._is_careful = False
        self._handed_in = asyncio.Event()
        self._handed_in.set()

    async def run(self) -> EngineStats:
        """Ask everything; see `RequestEngine.run`."""
        working = asyncio.create_task(self._work())
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=CANCEL_POLL_S)
                self._link.context.check_cancelled()
            return working.result()
        finally:
            # The id that is about to come saves looking for the batch later.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._handed_in.wait(), CANCEL_GRACE_S)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await self._source.close()
            for batch in self._open.values():
                self._link.log(_farewell(batch))

    async def _work(self) -> EngineStats:
        has_recalled = False
        while True:
            await self._gather()
            if not has_recalled and len(self._book.pending) < self._size:
                has_recalled = True
                self._recall_unwanted()
            if self._may_hand_in() and await self._hand_in():
                continue
            if not self._open and not self._book.pending and self._source.is_exhausted:
                return self._book.stats
            await self._wait()
            for batch in [item for item in self._open.values() if item.due_at <= time.monotonic()]:
                await self._ask_after(batch)

    async def _gather(self) -> None:
        """Take requests until a batch is full or the source has nothing more to give now."""
        while len(self._book.pending) < self._size and not self._source.is_exhausted:
            entry = await self._source.take(self._link.pace.gather_s)
            if entry is None:
                return
            self._book.admit(*entry)
            # Thousands of stored replies in a row must not keep a stop from being seen.
            await asyncio.sleep(0)

    def _adopt(self, batch_id: int) -> bool:
        """Wait for a batch that an earlier process handed in; False if it is over."""
        if batch_id not in self._open:
            row = self._link.batches.get(batch_id)
            if not row.is_open:
                return False
            self._open[batch_id] = OpenBatch.of(row, self._link.pace)
            text = self._open[batch_id].text
            self._link.log(f"A {text} is under way already; waiting for it.")
        return True

    def _recall_unwanted(self) -> None:
        """Stop batches of this run that it asks for nothing of: its settings have changed.

        What they have answered by then is paid, and stored.
        """
        for batch in self._link.open_batches():
            if batch.id not in self._open:
                self._open[batch.id] = batch
                self._recalled.add(batch.id)
                self._to_cancel.add(batch.id)
                self._link.log(f"A {batch.text} is not wanted any more and is stopped.")

    def _may_hand_in(self) -> bool:
        # Services that turn down a batch for its size count those under way as well.
        return bool(self._book.pending) and not (self._is_careful and self._open)

    async def _hand_in(self) -> bool:
        """Hand in one batch of what is pending; False if the budget has no room for it now."""
        works = self._within_budget(self._book.pending[: self._size])
        if not works:
            return False
        del self._book.pending[: len(works)]
        label = make_label(len(works))
        batch_id = self._link.note(label, [(work.key, work.request) for work in works])
        row = self._link.batches.get(batch_id)
        batch = OpenBatch.of(row, self._link.pace, self._link.pace.first_poll_s)
        self._open[batch.id] = batch
        self._book.stats.sent += len(works)
        for work in works:
            work.attempts += 1
        self._handed_in.clear()
        try:
            requests = {work.key: work.request for work in works}
            batch.remote_id = await self._link.calls.submit(requests, label)
        except RequestRejectedError as error:
            self._turn_down(batch, str(error))
            return True
        except UnsureError:
            raise
        except FatalProviderError as error:
            self._fail(batch, str(error))
            raise
        finally:
            self._handed_in.set()
        self._link.batches.set_remote(batch.id, batch.remote_id)
        self._link.log(f"Handed in a {batch.text}, at half the price.")
        return True

    def _within_budget(self, works: list[Work[Tag]]) -> list[Work[Tag]]:
        """As many of the first `works` as may be paid for beside what is under way."""
        for count, work in enumerate(works):
            try:
                if self._link.try_reserve(work.key, work.request):
                    continue
            except BudgetReachedError:
                if not self._open:
                    raise
            return works[:count]
        return works

    async def _wait(self) -> None:
        """Until a batch is to be asked after, or the source gives something there is room for."""
        due = [batch.due_at for batch in self._open.values()]
        # With nothing open, the budget is being used by others: it may have room again soon.
        rest_s = self._link.pace.gather_s if self._book.pending else None
        timeout = max(0.0, min(due) - time.monotonic()) if due else rest_s
        if len(self._book.pending) < self._size:
            await self._source.wait(timeout)
        elif timeout is not None:
            await asyncio.sleep(timeout)

    async def _ask_after(self, batch: OpenBatch) -> None:
        calls = self._link.calls
        remote_id = batch.remote_id or await self._find(batch)
        if remote_id is None:
            return
        try:
            if batch.id in self._to_cancel:
                with contextlib.suppress(RequestRejectedError):  # it ended meanwhile
                    await calls.patiently(lambda: calls.provider.cancel_batch(remote_id))
                self._to_cancel.discard(batch.id)
            status = await calls.patiently(lambda: calls.provider.batch_status(remote_id))
        except RequestRejectedError as error:
            self._miss(batch, error)
            return
        if status.state == "running":
            self._tell_progress(batch, status)
            batch.postpone(self._link.pace)
        elif status.state == "failed":
            self._turn_down(batch, status.problem or "it says nothing about why")
        else:
            await self._fetch(batch, remote_id)
            if status.state == "cancelled" and batch.id not in self._recalled:
                raise FatalProviderError(
                    f"The {batch.text} to {self._link.service.name} was "
                    "cancelled there; what was answered is kept. Resume to hand in the rest again."
                )

    async def _find(self, batch: OpenBatch) -> str | None:
        """Look for a batch whose process died before it knew whether it was handed in."""
        calls = self._link.calls
        found = await calls.patiently(lambda: calls.provider.find_batch(batch.label))
        if found is not None:
            batch.remote_id = found
            self._link.batches.set_remote(batch.id, found)
        elif time.time() - batch.created_at < self._link.pace.appears_within_s:
            batch.postpone(self._link.pace)
        else:
            self._lose(batch, "the process ended while the batch was handed in")
        return found

    def _miss(self, batch: OpenBatch, error: RequestRejectedError) -> None:
        """The service knows no such batch or results: another key's, or kept no longer."""
        if time.time() - batch.created_at < KEPT_AT_LEAST_S:
            raise FatalProviderError(
                f"{error} The batch was handed in less than a day ago: use the key it was "
                "handed in with, and resume."
            ) from error
        self._lose(batch, str(error))

    def _tell_progress(self, batch: OpenBatch, status: BatchStatus) -> None:
        if batch.is_news(status.done, QUIET_S):
            self._link.batches.set_done(batch.id, status.done)
            answered = f"{status.done} answered, " if status.total else ""
            self._link.log(
                f"Batch of {batch.total}: {answered}asked again in {batch.interval_s:.0f} s."
            )

    async def _fetch(self, batch: OpenBatch, remote_id: str) -> None:
        """Store all results of a batch that ended, and hand them on."""
        expected = self._link.batches.keys_under_way(batch.id)

        async def read() -> None:
            results = self._link.provider.batch_results(remote_id)
            async for key, outcome in results:
                if key in expected and key not in batch.handled:
                    batch.handled.add(key)
                    self._book.settle(key, outcome)
                # A stop has to be seen among thousands of results that are there at once.
                await asyncio.sleep(0)

        try:
            await self._link.calls.patiently(read)
        except RequestRejectedError as error:
            self._miss(batch, error)
            return
        for key in expected - batch.handled:
            self._book.settle(key, TransientProviderError("The batch ended without an answer."))
        left = self._link.batches.keys_under_way(batch.id)
        del self._open[batch.id]
        self._link.batches.finish(batch.id, batch.total - len(left))
        self._book.put_back(left)
        self._turned_down = 0
        again = f", {len(left)} of them without an answer" if left else ""
        self._link.log(f"A {batch.text} has ended{again}.")

    def _turn_down(self, batch: OpenBatch, problem: str) -> None:
        """A batch failed as a whole: its requests go into the next ones, half as many in each."""
        name = self._link.service.name
        text = f"{name} turned down a {batch.text}: {problem}"
        keys = self._fail(batch, problem)
        self._turned_down += 1
        if self._turned_down >= HOPELESS_BATCHES:
            raise FatalProviderError(text)
        if len(keys) == 1:
            self._book.give_up(keys.pop(), problem)
            return
        self._is_careful = True
        self._size = max(1, batch.total // 2)
        self._book.put_back(keys)
        self._link.log(f"{text} Trying half as many.", level="warning")

    def _fail(self, batch: OpenBatch, problem: str) -> set[str]:
        """Note that nothing of a batch was answered, or cost; returns the keys without a result."""
        keys = self._link.batches.keys_under_way(batch.id)
        self._link.batches.fail(batch.id, problem)
        del self._open[batch.id]
        for key in keys:
            self._link.release(key)
        return keys

    def _lose(self, batch: OpenBatch, problem: str) -> None:
        """Ask again what a batch that cannot be found was asked; it may have been paid."""
        keys = self._link.batches.keys_under_way(batch.id)
        self._link.batches.lose(batch.id, problem, self._book.lose(keys))
        del self._open[batch.id]
        self._book.put_back(keys)
        self._link.log(
            f"A {batch.text} cannot be found ({problem}); {len(keys)} requests "
            "count as lost and are handed in again.",
            level="warning",
        )


def _farewell(batch: OpenBatch) -> str:
    if batch.remote_id is None:
        return f"A {batch.text} may have been handed in; it is looked for when you resume."
    return f"The {batch.text} goes on at the service; its results are fetched when you resume."
