"""What the request engine needs of the project database, and what it hands to a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

from llamaduo_gui.core.types import TokenCounts
from llamaduo_gui.providers.base import ChatRequest, FinishReason, Reply


class LedgerRow(Protocol):
    """A stored request: `in_flight`, `in_batch`, `done` or `failed`, and its reply when done."""

    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def finish_reason(self) -> str: ...  # noqa: D102
    @property
    def prompt_tokens(self) -> int: ...  # noqa: D102
    @property
    def completion_tokens(self) -> int: ...  # noqa: D102
    @property
    def cost_usd(self) -> float | None: ...  # noqa: D102
    @property
    def latency_s(self) -> float | None: ...  # noqa: D102
    @property
    def attempts(self) -> int: ...  # noqa: D102
    @property
    def cached_tokens(self) -> int: ...  # noqa: D102
    @property
    def cache_write_tokens(self) -> int: ...  # noqa: D102
    @property
    def reasoning_tokens(self) -> int: ...  # noqa: D102
    @property
    def batch_id(self) -> int | None: ...  # noqa: D102


class ReplyLedger(Protocol):
    """The part of the project database the engine writes; `store.replies` has it.

    Every call commits before it returns. A row left `in_flight` is a request that was under way
    when its process died: `begin` counts it as lost, for it may have been paid.
    """

    def find(self, request_key: str) -> LedgerRow | None:
        """The stored request of this key."""
        ...

    def begin(
        self,
        request_key: str,
        *,
        run_id: int | None,
        provider: str,
        model: str,
        purpose: str,
        request: Mapping[str, Any],
        lost_usd: float | None = None,
    ) -> None:
        """Note that a request is about to be sent; `lost_usd` is what a loss may have cost."""
        ...

    def complete(
        self,
        request_key: str,
        *,
        text: str,
        finish_reason: str,
        tokens: TokenCounts,
        cost_usd: float | None,
        latency_s: float,
        attempts: int,
    ) -> object:
        """Store the reply."""
        ...

    def complete_many(self, completions: Sequence[Mapping[str, Any]]) -> None:
        """Store several replies in one commit: the arguments of `complete` by name."""
        ...

    def lose(self, lost_usd: Mapping[str, float | None]) -> None:
        """Count requests under way that were dropped, with what each may have cost."""
        ...

    def fail(self, request_key: str, *, error: str, attempts: int) -> object:
        """Store that the request cannot succeed."""
        ...

    def release(self, request_key: str) -> None:
        """Take back a request that is not under way any more and has no reply."""
        ...


@dataclass(frozen=True, slots=True)
class StoredReply:
    """The outcome of one request; what it says is in the database already.

    Attributes:
        key: the request's identity, `ChatRequest.key()`.
        reply: None when the request failed for good; `error` then says why in one sentence.
        attempts: HTTP requests it took.
        is_from_store: it was answered before, and nothing was sent now.
    """

    request: ChatRequest
    key: str
    reply: Reply | None
    error: str = ""
    attempts: int = 0
    is_from_store: bool = False

    @classmethod
    def from_row(cls, request: ChatRequest, key: str, row: LedgerRow) -> Self:
        """A reply that was stored earlier."""
        reply = Reply(
            text=row.text,
            finish_reason=cast("FinishReason", row.finish_reason),
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            latency_s=row.latency_s or 0.0,
            cost_usd=row.cost_usd,
            cached_tokens=row.cached_tokens,
            cache_write_tokens=row.cache_write_tokens,
            reasoning_tokens=row.reasoning_tokens,
        )
        return cls(request, key, reply, attempts=row.attempts, is_from_store=True)

    @property
    def text(self) -> str:
        """Text of the reply, empty if there is none."""
        return self.reply.text if self.reply is not None else ""


@dataclass(slots=True)
class EngineStats:
    """Counts of one run of the engine.

    Attributes:
        sent: HTTP requests, retries included.
        done: replies received now; `from_store` those that were there already.
        failed: requests given up.
        retried: requests sent again after a passing fault, `rate_limited` of them after a 429.
        lost: requests whose reply never came, asked again now: an earlier process had them under
            way when it died, or the line broke, or the service took too long.
        abandoned: requests under way when the job was stopped; they may have been paid.
        lost_usd: what the lost and the abandoned may have cost at most, as far as prices are known.
    """

    sent: int = 0
    done: int = 0
    from_store: int = 0
    failed: int = 0
    retried: int = 0
    rate_limited: int = 0
    lost: int = 0
    abandoned: int = 0
    lost_usd: float = 0.0
