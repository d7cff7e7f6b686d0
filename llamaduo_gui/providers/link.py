"""One service as one run of a stage uses it: adapter, limits, database and log together."""

from __future__ import annotations

from dataclasses import dataclass

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.providers.base import ChatRequest, Provider, Reply
from llamaduo_gui.providers.ledger import ReplyLedger
from llamaduo_gui.providers.limiter import RateLimiter


@dataclass(frozen=True, slots=True)
class Link:
    """What the request engine was made with; see `RequestEngine`."""

    provider: Provider
    service: ServiceConfig
    replies: ReplyLedger
    run_id: int | None
    context: JobContext
    limiter: RateLimiter

    def begin(self, key: str, request: ChatRequest) -> None:
        """Commit that `request` is about to be sent."""
        self.replies.begin(
            key,
            run_id=self.run_id,
            provider=request.provider,
            model=request.model,
            purpose=request.purpose,
            request=request.content(),
        )

    def complete(self, key: str, reply: Reply, attempts: int) -> None:
        """Commit a reply."""
        self.replies.complete(
            key,
            text=reply.text,
            finish_reason=reply.finish_reason,
            tokens=reply.tokens,
            cost_usd=reply.cost_usd,
            latency_s=reply.latency_s,
            attempts=attempts,
        )

    def log(self, text: str) -> None:
        """Report one line to the log view."""
        self.context.log(self.service.name, text, level="warning", run_id=self.run_id)
