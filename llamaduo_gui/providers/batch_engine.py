"""Sends many requests to one service in batches: half the price, answers within a day."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.providers.base import BatchProvider, Provider
from llamaduo_gui.providers.batch_calls import BatchCalls, BatchPace
from llamaduo_gui.providers.batch_ledger import BatchLedger
from llamaduo_gui.providers.batch_link import BatchLink
from llamaduo_gui.providers.batch_run import BatchRun
from llamaduo_gui.providers.dispatch import OnReply, Requests, Tag
from llamaduo_gui.providers.ledger import EngineStats, ReplyLedger, StoredReply

PACE = BatchPace()


class BatchingProvider(Provider, BatchProvider, Protocol):
    """An adapter whose API also answers in batches."""


class BatchEngine:
    """`RequestEngine` for services that answer in batches, with the same guarantees.

    Requests are gathered until the source has nothing more to give now, noted in the database,
    and handed in together. A process that is killed leaves the batch to the service: the next run
    that asks for one of its requests finds it again, by its id or by its label, and pays nothing
    twice. Every result is committed before the stage hears of it. Requests without an answer go
    into a next, smaller batch.

    Args:
        provider: the adapter; closed when `run_blocking` ends.
        service: names and prices.
        replies, batches: the project's tables.
        run_id: the run that asks.
        context: cancellation, budget and the log.
        pace: how often batches are asked after; by default `PACE`.
    """

    def __init__(
        self,
        provider: BatchingProvider,
        service: ServiceConfig,
        replies: ReplyLedger,
        batches: BatchLedger,
        run_id: int | None,
        context: JobContext,
        *,
        pace: BatchPace | None = None,
    ) -> None:
        pace = pace or PACE

        def tell(text: str) -> None:
            context.log(service.name, text, level="warning", run_id=run_id)

        self._close: Callable[[], Awaitable[None]] = provider.close
        calls = BatchCalls(provider, pace, tell)
        self._link = BatchLink(provider, service, replies, batches, run_id, context, pace, calls)

    async def run(self, requests: Requests[Tag], on_reply: OnReply[Tag]) -> EngineStats:
        """Ask everything and hand each outcome to `on_reply`; see `RequestEngine.run`.

        When the user stops, batches go on at the service, and their results are fetched by the
        next run that asks the same.
        """
        return await BatchRun(self._link, requests, on_reply).run()

    def run_blocking(self, requests: Requests[Tag], on_reply: OnReply[Tag]) -> EngineStats:
        """`run` on an event loop of its own, for stages; closes the provider's connections."""

        async def run_and_close() -> EngineStats:
            try:
                return await self.run(requests, on_reply)
            finally:
                await self._close()

        return asyncio.run(run_and_close())

    async def recall(self) -> None:
        """Stop the run's open batches and store what was answered, before going on without them.

        Raises:
            FatalProviderError, JobCancelledError: as `run`.
        """
        link = self._link
        if link.open_batches():
            link.log("What a batch has answered is kept; the rest is asked live.")
            await BatchRun(link, (), _ignore).run()


def _ignore(_tag: object, _outcome: StoredReply) -> None:
    """Nobody waits for these replies; the database has them."""
