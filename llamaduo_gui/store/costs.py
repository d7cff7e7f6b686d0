"""What service LLMs cost: each request counted once, with its retries, failures and losses."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Engine, Integer, case, func, select

from llamaduo_gui.core.types import Stage, TokenCounts
from llamaduo_gui.store.schema import replies, runs


@dataclass(frozen=True, slots=True)
class CostRow:
    """Requests of one service for one purpose in one run, and what they cost.

    Attributes:
        run_id, run_key, stage, round: the run that asked last; None and "" outside a run.
        service: `provider:model`.
        purpose: "synthesize", "judge", "answer" or "chat".
        requests: different requests, each with one reply at most; a question asked again because
            the reply was unusable is a request of its own, counted in `asked_again` as well.
        done, failed, under_way: how they ended, or not yet.
        attempts: HTTP requests they took, retries included.
        lost: times a request was under way when a process died; it may have been paid.
        batched: requests that went out in a batch.
        cost_usd: of the replies whose cost is known; `unpriced` replies have none.
        lost_usd: estimate of what the losses may have cost.
    """

    service: str
    purpose: str
    run_id: int | None = None
    run_key: str = ""
    stage: Stage | None = None
    round: int | None = None
    requests: int = 0
    done: int = 0
    failed: int = 0
    under_way: int = 0
    asked_again: int = 0
    attempts: int = 0
    lost: int = 0
    batched: int = 0
    unpriced: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0
    lost_usd: float = 0.0

    @property
    def spent_usd(self) -> float:
        """Dollars of replies and losses together."""
        return self.cost_usd + self.lost_usd


@dataclass(frozen=True, slots=True)
class CallRow:
    """One answered call, for forecasts.

    Attributes:
        tokens: as of the reply.
        cost_usd: what it cost, None if that is not known.
        latency_s: seconds to the answer, None for one out of a batch.
        is_pilot: the stage it belongs to has not begun.
    """

    tokens: TokenCounts
    cost_usd: float | None
    latency_s: float | None
    is_pilot: bool


@dataclass(slots=True)
class CostTotal:
    """Sums over cost rows that have something in common."""

    requests: int = 0
    failed: int = 0
    asked_again: int = 0
    attempts: int = 0
    lost: int = 0
    unpriced: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    lost_usd: float = 0.0

    @classmethod
    def of(cls, rows: Sequence[CostRow]) -> Self:
        """The sums over `rows`."""
        total = cls()
        for name in cls.__slots__:
            setattr(total, name, sum(getattr(row, name) for row in rows))
        return total

    @property
    def spent_usd(self) -> float:
        """Dollars of replies and losses together."""
        return self.cost_usd + self.lost_usd


class CostQueries:
    """Reads what the `replies` table says about money."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def spent_usd(self) -> float:
        """Dollars spent in the project, estimated losses included."""
        money = func.coalesce(replies.c.cost_usd, 0.0) + func.coalesce(replies.c.lost_usd, 0.0)
        with self._engine.connect() as connection:
            return float(connection.scalar(select(func.sum(money))) or 0.0)

    def calls(self, provider: str, model: str, purpose: str, limit: int = 2000) -> list[CallRow]:
        """Answered calls of a service for one purpose, the newest first, at most `limit`."""
        counts = ("prompt", "completion", "cached", "cache_write", "reasoning")
        columns = [replies.c[f"{name}_tokens"] for name in counts]
        has_begun = func.coalesce(runs.c.attempts, 1) > 0
        query = (
            select(*columns, replies.c.cost_usd, replies.c.latency_s, replies.c.batch_id, has_begun)
            .select_from(replies.outerjoin(runs, runs.c.id == replies.c.run_id))
            .where(
                replies.c.provider == provider,
                replies.c.model == model,
                replies.c.purpose == purpose,
                replies.c.state == "done",
            )
            .order_by(replies.c.id.desc())
            .limit(limit)
        )
        with self._engine.connect() as connection:
            found = connection.execute(query).all()
        return [
            CallRow(
                TokenCounts(*row[:5]),
                row[5],
                None if row[7] is not None else row[6],
                is_pilot=not row[8],
            )
            for row in found
        ]

    def answered(self) -> dict[tuple[str, str], int]:
        """Answered first requests by run key and service; those asked again do not count twice."""
        query = (
            select(runs.c.key, replies.c.provider + ":" + replies.c.model, func.count())
            .select_from(replies.join(runs, runs.c.id == replies.c.run_id))
            .where(replies.c.state == "done", _attempt() == 0)
            .group_by(runs.c.key, replies.c.provider, replies.c.model)
        )
        with self._engine.connect() as connection:
            return {(key, name): count for key, name, count in connection.execute(query)}

    def rows(self, run_id: int | None = None) -> list[CostRow]:
        """Costs by run, service and purpose, in the order of the runs; of one run or of all."""
        service = replies.c.provider + ":" + replies.c.model
        query = (
            select(
                replies.c.run_id,
                func.coalesce(runs.c.key, "").label("run_key"),
                runs.c.stage,
                runs.c.round,
                service.label("service"),
                replies.c.purpose,
                *_SUMS,
            )
            .select_from(replies.outerjoin(runs, runs.c.id == replies.c.run_id))
            .group_by(replies.c.run_id, service, replies.c.purpose)
            .order_by(replies.c.run_id, service)
        )
        if run_id is not None:
            query = query.where(replies.c.run_id == run_id)
        with self._engine.connect() as connection:
            return [_row(item) for item in connection.execute(query).mappings()]


def total_by(rows: Sequence[CostRow], key: Callable[[CostRow], Hashable]) -> dict[Any, CostTotal]:
    """Sums of rows that share a key, such as their service or round, in order of appearance."""
    groups: dict[Hashable, list[CostRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return {name: CostTotal.of(items) for name, items in groups.items()}


def _attempt() -> Any:
    """Which time a request is asked, from its stored content; 0 where that is not told."""
    return func.coalesce(replies.c.request["attempt"].as_integer(), 0)


def _count(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))


def _total(column: Any) -> Any:
    return func.coalesce(func.sum(column), 0)


_SUMS = (
    func.count().label("requests"),
    _count(replies.c.state == "done").label("done"),
    _count(replies.c.state == "failed").label("failed"),
    _count(replies.c.state.in_(("in_flight", "in_batch"))).label("under_way"),
    _count(_attempt() > 0).label("asked_again"),
    _total(replies.c.attempts).label("attempts"),
    _total(replies.c.losses).cast(Integer).label("lost"),
    _count(replies.c.batch_id.is_not(None)).label("batched"),
    _count((replies.c.state == "done") & replies.c.cost_usd.is_(None)).label("unpriced"),
    _total(replies.c.prompt_tokens).label("prompt_tokens"),
    _total(replies.c.completion_tokens).label("completion_tokens"),
    _total(replies.c.cached_tokens).label("cached_tokens"),
    _total(replies.c.reasoning_tokens).label("reasoning_tokens"),
    _total(replies.c.cost_usd).label("cost_usd"),
    _total(replies.c.lost_usd).label("lost_usd"),
)


def _row(item: Any) -> CostRow:
    values = dict(item)
    values["stage"] = Stage(values["stage"]) if values["stage"] else None
    return CostRow(**values)
