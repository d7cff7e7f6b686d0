"""One service as one run of a stage uses it in batches: adapter, database, budget and log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.events import Level
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.providers.base import BatchProvider, ChatRequest, Reply
from llamaduo_gui.providers.batch_calls import BatchCalls, BatchPace
from llamaduo_gui.providers.batch_ledger import BatchLedger
from llamaduo_gui.providers.budget import hold_call, try_reserve_call
from llamaduo_gui.providers.ledger import ReplyLedger
from llamaduo_gui.providers.open_batch import OpenBatch
from llamaduo_gui.providers.pricing import cost_usd, estimate_usd, reply_cost_usd


@dataclass(frozen=True, slots=True)
class BatchLink:
    """What the batch engine was made with; see `BatchEngine`."""

    provider: BatchProvider
    service: ServiceConfig
    replies: ReplyLedger
    batches: BatchLedger
    run_id: int | None
    context: JobContext
    pace: BatchPace
    calls: BatchCalls

    def open_batches(self) -> list[OpenBatch]:
        """Batches this run handed in to the service whose results are still to come."""
        rows = self.batches.all(self.run_id) if self.run_id is not None else ()
        service = (self.service.provider, self.service.base_url or "", self.service.model)
        return [
            OpenBatch.of(row, self.pace)
            for row in rows
            if row.is_open and (row.provider, row.base_url, row.model) == service
        ]

    def note(self, label: str, requests: Iterable[tuple[str, ChatRequest]]) -> int:
        """Commit that a batch of `requests`, by key, is about to be handed in; its id."""
        return self.batches.note(
            label,
            run_id=self.run_id,
            provider=self.service.provider,
            base_url=self.service.base_url or "",
            model=self.service.model,
            requests=[(key, request.purpose, request.content()) for key, request in requests],
        )

    def priced(self, request: ChatRequest | None, reply: Reply) -> Reply:
        """The reply with its cost at batch prices; `request` is None if nobody asked now."""
        if reply.cost_usd is not None:
            return reply
        if request is None:
            return replace(reply, cost_usd=cost_usd(self.service, reply.tokens, is_batch=True))
        return replace(reply, cost_usd=reply_cost_usd(self.service, request, reply, is_batch=True))

    def complete(self, key: str, reply: Reply, attempts: int) -> None:
        """Commit a priced reply."""
        self.replies.complete(
            key,
            text=reply.text,
            finish_reason=reply.finish_reason,
            tokens=reply.tokens,
            cost_usd=reply.cost_usd,
            latency_s=reply.latency_s,
            attempts=attempts,
        )
        if self.context.budget is not None:
            self.context.budget.settle(key, reply.cost_usd)

    def lost_usd(self, request: ChatRequest, *, is_batch: bool = True) -> float | None:
        """What a request that is lost may have cost at most; None without a price."""
        return estimate_usd(self.service, request, is_batch=is_batch)

    def fail(self, key: str, error: str, attempts: int) -> None:
        """Commit that a request cannot succeed."""
        self.replies.fail(key, error=error, attempts=attempts)
        self.release(key)

    def try_reserve(self, key: str, request: ChatRequest) -> bool:
        """Set money aside for a request; see `try_reserve_call`."""
        return try_reserve_call(self.context.budget, self.service, key, request, is_batch=True)

    def hold(self, key: str, request: ChatRequest) -> None:
        """Set money aside for a request that is in a batch already."""
        hold_call(self.context.budget, self.service, key, request, is_batch=True)

    def release(self, key: str) -> None:
        """Give back what was set aside for a request that cost nothing."""
        if self.context.budget is not None:
            self.context.budget.release(key)

    def log(self, text: str, *, level: Level = "info") -> None:
        """Report one line to the log view; every line here follows a change of a batch."""
        self.context.log(self.service.name, text, level=level, run_id=self.run_id)
        self.context.changed("batches")
