"""Chooses how a service is asked: request by request, or in batches at half the price."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.providers.base import BatchProvider, Provider
from llamaduo_gui.providers.batch_engine import BatchEngine, BatchingProvider
from llamaduo_gui.providers.batch_ledger import BatchLedger
from llamaduo_gui.providers.dispatch import OnReply, Requests, Tag
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.providers.ledger import EngineStats, ReplyLedger


class Ledgers(Protocol):
    """The tables engines write; a project has them."""

    @property
    def replies(self) -> ReplyLedger: ...  # noqa: D102
    @property
    def batches(self) -> BatchLedger: ...  # noqa: D102


class Engine(Protocol):
    """How stages ask many requests; see `RequestEngine`."""

    async def run(self, requests: Requests[Tag], on_reply: OnReply[Tag]) -> EngineStats:
        """Ask everything and hand each outcome to `on_reply`."""
        ...

    def run_blocking(self, requests: Requests[Tag], on_reply: OnReply[Tag]) -> EngineStats:
        """`run` on an event loop of its own; closes the provider's connections."""
        ...


def make_engine(
    provider: Provider,
    service: ServiceConfig,
    ledgers: Ledgers,
    run_id: int | None,
    context: JobContext,
) -> Engine:
    """The engine that `service.mode` asks for; the arguments are those of `RequestEngine`.

    Args:
        provider: the adapter for `service`.
        service: `mode` chooses: live or batch.
        ledgers: the project.
        run_id: the run that asks.
        context: cancellation, budget and the log.

    Raises:
        ConfigError: `mode: batch` with a provider that has no batches.
    """
    if not isinstance(provider, BatchProvider):
        if service.mode == "batch":
            raise ConfigError(
                f"{service.name} cannot answer in batches: set `mode: live` for it, or choose "
                "openai, anthropic or gemini."
            )
        return RequestEngine(provider, service, ledgers.replies, run_id, context)
    batching = cast("BatchingProvider", provider)
    batches = BatchEngine(batching, service, ledgers.replies, ledgers.batches, run_id, context)
    if service.mode == "batch":
        return batches
    live = RequestEngine(provider, service, ledgers.replies, run_id, context)
    return _LiveAfterBatches(live, batches, provider)


class _LiveAfterBatches:
    """Asks live; batches of the run from before `mode` was changed are stopped and read first."""

    def __init__(self, live: RequestEngine, batches: BatchEngine, provider: Provider) -> None:
        self._live = live
        self._batches = batches
        self._provider = provider

    async def run(self, requests: Requests[Tag], on_reply: OnReply[Tag]) -> EngineStats:
        await self._batches.recall()
        return await self._live.run(requests, on_reply)

    def run_blocking(self, requests: Requests[Tag], on_reply: OnReply[Tag]) -> EngineStats:
        async def run_and_close() -> EngineStats:
            try:
                return await self.run(requests, on_reply)
            finally:
                await self._provider.close()

        return asyncio.run(run_and_close())
