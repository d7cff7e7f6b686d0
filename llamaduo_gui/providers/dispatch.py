"""One run of the request engine: sends what is due, stores what comes, hands it on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from llamaduo_gui.core.errors import (
    FatalProviderError,
    JobCancelledError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.providers.base import (
    ChatRequest,
    RateLimitedError,
    Reply,
    UnreachableError,
)
from llamaduo_gui.providers.faults import MAX_FAULTS, FaultPolicy, backoff_s
from llamaduo_gui.providers.ledger import EngineStats, StoredReply
from llamaduo_gui.providers.link import Link, completion
from llamaduo_gui.providers.reply_writer import ReplyWriter
from llamaduo_gui.providers.work_queue import WorkQueue

# Together with the poll, a stop takes less than a second.
CANCEL_GRACE_S = 0.75
CANCEL_POLL_S = 0.05
FIRST_EXPECTED_TOKENS = 256

Tag = TypeVar("Tag")
Requests = Iterable[tuple[ChatRequest, Tag]] | AsyncIterable[tuple[ChatRequest, Tag]]
OnReply = Callable[[Tag, StoredReply], ChatRequest | None]


@dataclass(slots=True, eq=False)
class _Work(Generic[Tag]):
    """A request on its way, and everybody who asked for it."""

    request: ChatRequest
    key: str
    tags: list[Tag]
    was_lost: bool = False
    estimated_tokens: int = 0
    sent_at: float = 0.0
    attempts: int = 0
    faults: int = 0


class Dispatch(Generic[Tag]):
    """See `RequestEngine.run`; made for one run and not used again."""

    def __init__(self, link: Link, requests: Requests[Tag], on_reply: OnReply[Tag]) -> None:
        self._link = link
        self._on_reply = on_reply
        self._queue: WorkQueue[_Work[Tag]] = WorkQueue(self._admitted(requests))
        self._slots = asyncio.Semaphore(link.service.concurrency)
        self._policy = FaultPolicy()
        self._writer = ReplyWriter(link.replies)
        self._stats = EngineStats()
        self._active: dict[str, _Work[Tag]] = {}
        self._tasks: dict[asyncio.Task[None], _Work[Tag]] = {}
        self._loop_task: asyncio.Task[None] | None = None
        self._stopped_by: BaseException | None = None
        self._is_cancelled = asyncio.Event()
        self._expected_tokens = FIRST_EXPECTED_TOKENS

    async def run(self) -> EngineStats:
        """Send everything; see `RequestEngine.run`."""
        self._loop_task = asyncio.create_task(self._send_all())
        watcher = asyncio.create_task(self._watch_for_cancel())
        with self._link.limiter.used_by(self._link.service):
            try:
                await self._loop_task
            except asyncio.CancelledError:
                if self._stopped_by is None:
                    raise
            finally:
                await _see_through(self._wind_down())
                watcher.cancel()
        if self._stopped_by is not None:
            raise self._stopped_by
        return self._stats

    async def _send_all(self) -> None:
        while True:
            await self._slots.acquire()
            work = await self._queue.next()
            if work is None:
                return
            expected = min(self._expected_tokens, work.request.max_tokens)
            work.estimated_tokens = work.request.prompt_tokens_estimate() + expected
            if (error := self._too_large(work)) is not None:
                self._link.begin(work.key, work.request, self._loss(work))
                self._slots.release()
                self._give_up(work, error)
                self._policy.rejected(error)
                continue
            await self._send(work)

    async def _send(self, work: _Work[Tag]) -> None:
        """Wait until money, limits and a slot are there for `work`, then let it go."""
        link = self._link
        async with contextlib.AsyncExitStack() as undo:
            await link.reserve(work.key, work.request)
            undo.callback(link.release, work.key)
            await link.limiter.acquire(work.estimated_tokens)
            undo.callback(link.limiter.release)
            link.begin(work.key, work.request, self._loss(work))
            undo.pop_all()
        work.sent_at = time.monotonic()
        work.attempts += 1
        self._stats.sent += 1
        task = asyncio.create_task(self._exchange(work))
        self._tasks[task] = work
        task.add_done_callback(self._ended)

    def _too_large(self, work: _Work[Tag]) -> RequestRejectedError | None:
        """Why a request can never pass, if it has more tokens than a whole minute may have."""
        limit = self._link.limiter.token_limit
        if limit is None or work.estimated_tokens <= limit:
            return None
        return RequestRejectedError(
            f"{self._link.service.name} may be sent {limit:,.0f} tokens a minute, and this request "
            f"alone has about {work.estimated_tokens:,}; raise max_tpm or shorten the record."
        )

    def _loss(self, work: _Work[Tag]) -> float | None:
        """What is lost if the request is in flight already; counted once."""
        if not work.was_lost:
            return None
        work.was_lost = False
        return self._link.lost_usd(work.request)

    async def _admitted(self, requests: Requests[Tag]) -> AsyncGenerator[_Work[Tag], None]:
        """Work for those requests that have to be sent; the rest is answered on the way."""
        async with contextlib.aclosing(_iterate(requests)) as entries:
            async for request, tag in entries:
                work = self._admit(request, tag)
                if work is not None:
                    yield work
                # Thousands of stored replies in a row must not keep a stop from being seen.
                await asyncio.sleep(0)

    def _admit(self, request: ChatRequest, tag: Tag) -> _Work[Tag] | None:
        key = request.key()
        if key in self._active:
            self._active[key].tags.append(tag)
            return None
        row = self._link.replies.find(key)
        if row is not None and row.state == "done":
            self._stats.from_store += 1
            self._policy.answered_before()
            self._deliver(StoredReply.from_row(request, key, row), [tag])
            return None
        self._active[key] = work = _Work(request, key, [tag])
        if row is not None and row.state == "in_flight":
            work.was_lost = True
            self._stats.lost += 1
            self._stats.lost_usd += self._link.lost_usd(request) or 0.0
        return work

    async def _exchange(self, work: _Work[Tag]) -> None:
        try:
            reply = await self._link.provider.complete(work.request)
        except RequestRejectedError as error:
            self._give_up(work, error)
            self._policy.rejected(error)
        except FatalProviderError as error:
            self._give_up(work, error)
            raise
        except RateLimitedError as error:
            self._wait_for_limit(work, error)
        except UnreachableError as error:
            self._wait_for_contact(work, error)
        except TransientProviderError as error:
            self._try_again(work, error)
        else:
            await self._accept(work, reply)

    async def _accept(self, work: _Work[Tag], reply: Reply) -> None:
        reply = self._link.priced(work.request, reply)
        await self._writer.store(completion(work.key, reply, work.attempts))
        self._link.settle(work.key, reply.cost_usd)
        self._policy.answered()
        tokens = reply.prompt_tokens + reply.completion_tokens
        self._link.limiter.settle(work.estimated_tokens, tokens)
        self._link.limiter.succeeded(tokens or work.estimated_tokens, reply.limits)
        if reply.completion_tokens > 0:
            difference = reply.completion_tokens - self._expected_tokens
            self._expected_tokens += round(0.1 * difference)
        self._stats.done += 1
        self._finish(work, StoredReply(work.request, work.key, reply, attempts=work.attempts))

    def _give_up(self, work: _Work[Tag], error: ProviderError) -> None:
        text = str(error)
        self._link.release(work.key)
        self._link.replies.fail(work.key, error=text, attempts=work.attempts)
        self._stats.failed += 1
        self._finish(
            work, StoredReply(work.request, work.key, None, error=text, attempts=work.attempts)
        )

    def _try_again(self, work: _Work[Tag], error: TransientProviderError) -> None:
        if error.may_be_paid:
            self._lose(work)
        work.faults += 1
        if work.faults >= MAX_FAULTS:
            self._give_up(work, error)
            self._policy.given_up(error)
            return
        asked_s = error.retry_after_s
        self._put_back(work, backoff_s(work.faults) if asked_s is None else asked_s)

    def _lose(self, work: _Work[Tag]) -> None:
        """Count a request whose reply never came: it may have been paid."""
        self._stats.lost += 1
        self._stats.lost_usd += self._link.lose({work.key: work.request})

    def _wait_for_limit(self, work: _Work[Tag], error: RateLimitedError) -> None:
        limiter = self._link.limiter
        self._stats.rate_limited += 1
        self._put_back(work, 0.0)
        self._policy.rate_limited(error)
        if limiter.rate_limited(error.retry_after_s, error.limits):
            self._link.log(f"{error} Waiting {limiter.paused_for_s:.0f} s.")

    def _wait_for_contact(self, work: _Work[Tag], error: UnreachableError) -> None:
        self._put_back(work, 0.0)
        # Of the requests that were under way together only the first counts as a try.
        if self._link.limiter.paused_for_s == 0:
            pause_s = self._policy.unreachable(error, work.sent_at)
            self._link.limiter.pause(pause_s)
            self._link.log(f"{error} Trying again.")

    def _put_back(self, work: _Work[Tag], delay_s: float) -> None:
        self._link.release(work.key)
        self._link.replies.release(work.key)
        self._stats.retried += 1
        self._queue.put_back(work, delay_s)

    def _finish(self, work: _Work[Tag], outcome: StoredReply) -> None:
        del self._active[work.key]
        try:
            self._deliver(outcome, work.tags)
        finally:
            self._queue.finish()

    def _deliver(self, outcome: StoredReply, tags: list[Tag]) -> None:
        for tag in tags:
            further = self._on_reply(tag, outcome)
            if further is not None:
                work = self._admit(further, tag)
                if work is not None:
                    self._queue.add(work)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._slots.release()
        self._link.limiter.release()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._stop(error)

    def _stop(self, reason: BaseException) -> None:
        """Send nothing more; `run` winds down and raises `reason`, the first one given."""
        if self._stopped_by is None:
            self._stopped_by = reason
            if self._loop_task is not None:
                self._loop_task.cancel()

    async def _watch_for_cancel(self) -> None:
        while True:
            try:
                self._link.context.check_cancelled()
            except JobCancelledError as error:
                self._is_cancelled.set()
                self._stop(error)
                return
            await asyncio.sleep(CANCEL_POLL_S)

    async def _wind_down(self) -> None:
        """Send nothing more; wait for what is under way, for it is paid, and store it.

        A person who stops the job waits a moment only: what has not come then is dropped, and
        counts as lost.
        """
        cancelled = asyncio.create_task(self._is_cancelled.wait())
        while self._tasks and not cancelled.done():
            await asyncio.wait({*self._tasks, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        cancelled.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_GRACE_S)
        await self._drop({task: work for task, work in self._tasks.items() if not task.done()})
        await self._queue.close()

    async def _drop(self, dropped: dict[asyncio.Task[None], _Work[Tag]]) -> None:
        if not dropped:
            return
        for task in dropped:
            task.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)
        self._stats.abandoned = len(dropped)
        lost = {work.key: work.request for work in dropped.values()}
        self._stats.lost_usd += self._link.lose(lost)
        self._link.log(f"{len(dropped)} requests were stopped under way; they count as lost.")


async def _see_through(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, also when whoever waits for it is cancelled meanwhile.

    Two judges that reach the budget together stop each other while both are winding down.
    """
    task = asyncio.create_task(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            is_cancelled = True
    task.result()
    if is_cancelled:
        raise asyncio.CancelledError


async def _iterate(requests: Requests[Tag]) -> AsyncGenerator[tuple[ChatRequest, Tag], None]:
    if isinstance(requests, AsyncIterable):
        async for entry in requests:
            yield entry
    else:
        for entry in requests:
            yield entry
