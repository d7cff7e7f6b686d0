"""Queries on replies: every request to a service LLM, stored before its reply counts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, bindparam, case, func, select, update
from sqlalchemy.dialects.sqlite import insert

from llamaduo_gui.core.types import TokenCounts
from llamaduo_gui.store.rows import ReplyRow, Usage
from llamaduo_gui.store.schema import replies


class ReplyQueries:
    """Reads and writes the `replies` table."""

    def __init__(self, engine: Engine, durable_engine: Engine) -> None:
        self._engine = engine
        self._durable_engine = durable_engine

    def find(self, request_key: str) -> ReplyRow | None:
        """The stored request with this key, or None."""
        with self._engine.connect() as connection:
            found = (
                connection.execute(select(replies).where(replies.c.request_key == request_key))
                .mappings()
                .first()
            )
        return _row(found) if found is not None else None

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
        """Note that a request is about to be sent.

        A row that is in flight already was left by a process that died: it counts as one loss,
        which may have cost `lost_usd`.
        """
        now = time.time()
        was_lost = replies.c.state == "in_flight"
        statement = insert(replies).values(
            request_key=request_key,
            run_id=run_id,
            provider=provider,
            model=model,
            purpose=purpose,
            request=dict(request),
            state="in_flight",
            text="",
            finish_reason="",
            prompt_tokens=0,
            completion_tokens=0,
            attempts=0,
            losses=0,
            error="",
            created_at=now,
        )
        statement = statement.on_conflict_do_update(
            index_elements=["request_key"],
            set_={
                "losses": replies.c.losses + was_lost.cast(replies.c.losses.type),
                "lost_usd": case((was_lost, _with_lost(lost_usd)), else_=replies.c.lost_usd),
                "state": "in_flight",
                "run_id": run_id,
                "error": "",
            },
        )
        with self._engine.begin() as connection:
            connection.execute(statement)

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
    ) -> ReplyRow:
        """Store a reply; unless it was free, it is on disk when this returns."""
        columns = _columns(
            {
                "text": text,
                "finish_reason": finish_reason,
                "tokens": tokens,
                "cost_usd": cost_usd,
                "latency_s": latency_s,
                "attempts": attempts,
            }
        )
        return self._end(request_key, state="done", **columns)

    def complete_many(self, completions: Sequence[Mapping[str, Any]]) -> None:
        """Store several replies in one transaction, as `complete` stores one.

        Args:
            completions: the arguments of `complete` by name, `request_key` among them.
        """
        now = time.time()
        rows = [
            {f"new_{name}": value for name, value in _columns(completion).items()}
            for completion in completions
        ]
        names = [name.removeprefix("new_") for name in rows[0] if name != "new_request_key"]
        statement = (
            update(replies)
            .where(replies.c.request_key == bindparam("new_request_key"))
            .values(state="done", finished_at=now, **{n: bindparam(f"new_{n}") for n in names})
        )
        is_free = all(completion["cost_usd"] == 0.0 for completion in completions)
        with (self._engine if is_free else self._durable_engine).begin() as connection:
            connection.execute(statement, rows)

    def fail(self, request_key: str, *, error: str, attempts: int) -> ReplyRow:
        """Store that a request cannot succeed, and why."""
        return self._end(request_key, state="failed", error=error, attempts=attempts)

    def release(self, request_key: str) -> None:
        """Take back a request that was not sent, or was stopped before its reply came."""
        with self._engine.begin() as connection:
            connection.execute(
                update(replies)
                .where(replies.c.request_key == request_key, replies.c.state == "in_flight")
                .values(state="failed", error="stopped before the reply came")
            )

    def lose(self, lost_usd: Mapping[str, float | None]) -> None:
        """Count requests whose reply never came: each may have been paid.

        Args:
            lost_usd: what each may have cost, by request key; None where no price is known.
        """
        with self._engine.begin() as connection:
            for key, usd in lost_usd.items():
                connection.execute(
                    update(replies)
                    .where(replies.c.request_key == key, replies.c.state == "in_flight")
                    .values(
                        state="failed",
                        losses=replies.c.losses + 1,
                        lost_usd=_with_lost(usd),
                        error="its reply never came; it may have been paid",
                    )
                )

    def lost_count(self, run_id: int | None = None) -> int:
        """Requests that were in flight when a process died, each time counted."""
        query = select(func.coalesce(func.sum(replies.c.losses), 0))
        if run_id is not None:
            query = query.where(replies.c.run_id == run_id)
        with self._engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def usage(self, run_id: int | None = None) -> Usage:
        """Requests, tokens and cost, of one run or of the project."""
        failed = func.sum((replies.c.state == "failed").cast(replies.c.losses.type))
        unpriced = func.sum(
            (replies.c.cost_usd.is_(None) & (replies.c.state == "done")).cast(replies.c.losses.type)
        )
        query = select(
            func.count(),
            failed,
            func.sum(replies.c.losses),
            func.sum(replies.c.attempts),
            func.sum(replies.c.prompt_tokens),
            func.sum(replies.c.completion_tokens),
            func.sum(replies.c.cost_usd),
            unpriced,
            func.sum(replies.c.lost_usd),
        )
        purposes = select(replies.c.purpose, func.count()).group_by(replies.c.purpose)
        if run_id is not None:
            query = query.where(replies.c.run_id == run_id)
            purposes = purposes.where(replies.c.run_id == run_id)
        with self._engine.connect() as connection:
            row = connection.execute(query).one()
            by_purpose = {str(name): int(n) for name, n in connection.execute(purposes).all()}
        numbers = [value or 0 for value in row]
        return Usage(
            requests=int(numbers[0]),
            failed=int(numbers[1]),
            lost_in_flight=int(numbers[2]),
            attempts=int(numbers[3]),
            prompt_tokens=int(numbers[4]),
            completion_tokens=int(numbers[5]),
            cost_usd=float(numbers[6]),
            unpriced=int(numbers[7]),
            lost_usd=float(numbers[8]),
            by_purpose=by_purpose,
        )

    def _end(self, request_key: str, **values: Any) -> ReplyRow:
        is_free = values.get("cost_usd") == 0.0 or values["state"] == "failed"
        engine = self._engine if is_free else self._durable_engine
        with engine.begin() as connection:
            connection.execute(
                update(replies)
                .where(replies.c.request_key == request_key)
                .values(finished_at=time.time(), **values)
            )
            found = (
                connection.execute(select(replies).where(replies.c.request_key == request_key))
                .mappings()
                .one()
            )
        return _row(found)


def _with_lost(usd: float | None) -> ColumnElement[float | None]:
    """What a row's losses may have cost, with one more of `usd` dollars."""
    if usd is None:
        return replies.c.lost_usd
    return func.coalesce(replies.c.lost_usd, 0.0) + usd


def _columns(completion: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a reply's columns from the arguments of `complete`."""
    values = dict(completion)
    tokens: TokenCounts = values.pop("tokens")
    return {
        **values,
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "cached_tokens": tokens.cached,
        "cache_write_tokens": tokens.cache_write,
        "reasoning_tokens": tokens.reasoning,
    }


def _row(item: Any) -> ReplyRow:
    values = {name: item[name] for name in ReplyRow.__dataclass_fields__}
    return ReplyRow(**values)
