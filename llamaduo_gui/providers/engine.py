"""Sends many requests to one service: paced, retried, and stored before a reply counts."""

from __future__ import annotations

import asyncio

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.service_settings import with_own_limits
from llamaduo_gui.providers.base import Provider
from llamaduo_gui.providers.dispatch import Dispatch, OnReply, Requests, Tag
from llamaduo_gui.providers.ledger import EngineStats, ReplyLedger
from llamaduo_gui.providers.limiter import RateLimiter
from llamaduo_gui.providers.limits import shared_limiter
from llamaduo_gui.providers.link import Link


class RequestEngine:
    """The only way stages talk to a service LLM.

    Requests that were answered before are answered from the database. The others leave evenly
    paced under `service.max_rpm` and `max_tpm`, at most `service.concurrency` at a time, or under
    the user's own limits where the service has none; retries go through the same limiter. Each
    is noted as in flight before it is sent, and its reply is committed before the stage hears of
    it, so that a kill costs at most what was under way.

    Args:
        provider: the adapter; closed when `run_blocking` ends.
        service: limits and names.
        replies: the project's replies (`project.replies`).
        run_id: the run that asks.
        context: cancellation and the log.
        limiter: by default the one that all engines of this process use for the service.

    Raises:
        ConfigError: the file of the user's own limits is not valid.
    """

    def __init__(
        self,
        provider: Provider,
        service: ServiceConfig,
        replies: ReplyLedger,
        run_id: int | None,
        context: JobContext,
        *,
        limiter: RateLimiter | None = None,
    ) -> None:
        limiter = limiter or shared_limiter(service)
        service = with_own_limits(service)
        self._link = Link(provider, service, replies, run_id, context, limiter)

    @property
    def limiter(self) -> RateLimiter:
        """The limiter in use; its rate and pause can be shown."""
        return self._link.limiter

    async def run(self, requests: Requests[Tag], on_reply: OnReply[Tag]) -> EngineStats:
        """Ask everything and hand each outcome to `on_reply`, in the order of completion.

        Args:
            requests: (request, tag) pairs, taken one by one as there is room to send; may be a
                generator that decides late. Equal requests are sent once and answered for each tag.
            on_reply: called on the event loop's thread after the outcome is stored. It may return
                a further request, asked under the same tag (`request.again()` when a reply could
                not be used). What it raises ends the run.

        Returns:
            Counts of the run.

        Raises:
            FatalProviderError: no request can succeed.
            JobCancelledError: the user stopped; within a second, and what finished is stored.
        """
        return await Dispatch(self._link, requests, on_reply).run()

    def run_blocking(self, requests: Requests[Tag], on_reply: OnReply[Tag]) -> EngineStats:
        """`run` on an event loop of its own, for stages; closes the provider's connections."""

        async def run_and_close() -> EngineStats:
            try:
                return await self.run(requests, on_reply)
            finally:
                await self._link.provider.close()

        return asyncio.run(run_and_close())
