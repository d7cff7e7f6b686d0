"""One service as one run of a stage uses it: adapter, limits, database and log together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.providers.base import ChatRequest, Provider, Reply
from llamaduo_gui.providers.budget import reserve_call
from llamaduo_gui.providers.ledger import ReplyLedger
from llamaduo_gui.providers.limiter import RateLimiter
from llamaduo_gui.providers.pricing import estimate_usd, reply_cost_usd


@dataclass(frozen=True, slots=True)
class Link:
    """What the request engine was made with; see `RequestEngine`."""

    provider: Provider
    service: ServiceConfig
    replies: ReplyLedger
    run_id: int | None
    context: JobContext
    limiter: RateLimiter

    async def reserve(self, key: str, request: ChatRequest) -> None:
        """Set aside the most a call may cost; raises BudgetReachedError where it does not fit."""
        await reserve_call(self.context.budget, self.service, key, request)

    def settle(self, key: str, usd: float | None) -> None:
        """Count what a call cost, or may have cost, instead of what was set aside."""
        if self.context.budget is not None:
            self.context.budget.settle(key, usd)

    def release(self, key: str) -> None:
        """Give back what was set aside for a call that cost nothing."""
        if self.context.budget is not None:
            self.context.budget.release(key)

    def begin(self, key: str, request: ChatRequest, lost_usd: float | None) -> None:
        """Commit that `request` is about to be sent; `lost_usd` is what a loss may have cost."""
        self.replies.begin(
            key,
            run_id=self.run_id,
            provider=request.provider,
            model=request.model,
            purpose=request.purpose,
            request=request.content(),
            lost_usd=lost_usd,
        )

    def priced(self, request: ChatRequest, reply: Reply) -> Reply:
        """The reply with its cost, if any price is known."""
        return replace(reply, cost_usd=reply_cost_usd(self.service, request, reply))

    def lost_usd(self, request: ChatRequest) -> float | None:
        """What a request may have cost at most whose reply is lost; None without a price."""
        return estimate_usd(self.service, request)

    def lose(self, requests: Mapping[str, ChatRequest]) -> float:
        """Count requests by key whose replies never came: each may have been paid.

        Returns:
            What they may have cost at most, in dollars, as far as prices are known.
        """
        losses = {key: self.lost_usd(request) for key, request in requests.items()}
        self.replies.lose(losses)
        for key, usd in losses.items():
            self.settle(key, usd)
        return sum(usd or 0.0 for usd in losses.values())

    def log(self, text: str) -> None:
        """Report one line to the log view."""
        self.context.log(self.service.name, text, level="warning", run_id=self.run_id)


def completion(key: str, reply: Reply, attempts: int) -> dict[str, Any]:
    """A reply as `ReplyLedger.complete_many` takes it."""
    return {
        "request_key": key,
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "tokens": reply.tokens,
        "cost_usd": reply.cost_usd,
        "latency_s": reply.latency_s,
        "attempts": attempts,
    }
