"""Queries on batches: what was handed in at half the price, and which requests are under way."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Engine, Update, and_, func, select, update
from sqlalchemy.dialects.sqlite import Insert, insert

from llamaduo_gui.store.rows import BatchRow
from llamaduo_gui.store.schema import batches, replies

_NO_RESULT = "the batch ended without an answer to this request"


class BatchQueries:
    """Reads and writes the `batches` table and the batch a reply is part of.

    A batch is `noted` before it is handed in and `running` once its id is known; then it is
    `finished`, `failed` (turned down: nothing was answered, nothing cost) or `lost` (nobody knows
    whether it arrived, or it cannot be found any more). What stands for money is on disk, safe
    from a power cut, when a call returns.
    """

    def __init__(self, engine: Engine, durable_engine: Engine) -> None:
        self._engine = engine
        self._durable_engine = durable_engine

    def note(
        self,
        label: str,
        *,
        run_id: int | None,
        provider: str,
        base_url: str,
        model: str,
        requests: Iterable[tuple[str, str, Mapping[str, Any]]],
    ) -> int:
        """Store that a batch is about to be handed in, with its requests, in one step.

        Requests that have a reply keep it. `label` is the name the batch can be found by at the
        service; `requests` are key, purpose and content of each.

        Returns:
            The batch's id.
        """
        shared = {"run_id": run_id, "provider": provider, "model": model}
        now = time.time()
        with self._durable_engine.begin() as connection:
            batch = {"label": label, "base_url": base_url, **shared, "state": "noted"}
            counts = {"done": 0, "total": 0, "problem": "", "created_at": now}
            statement = insert(batches).values(**batch, **counts).returning(batches.c.id)
            batch_id: int = connection.execute(statement).scalar_one()
            rows = [
                {
                    **shared,
                    "request_key": key,
                    "purpose": purpose,
                    "request": dict(content),
                    "batch_id": batch_id,
                    "created_at": now,
                }
                for key, purpose, content in requests
            ]
            connection.execute(_note_request(), rows)
            connection.execute(_change(batch_id, total=len(rows)))
        return batch_id

    def get(self, batch_id: int) -> BatchRow:
        """The batch with this id; KeyError if there is none."""
        with self._engine.connect() as connection:
            query = select(batches).where(batches.c.id == batch_id)
            found = connection.execute(query).mappings().first()
        if found is None:
            raise KeyError(batch_id)
        return BatchRow(**found)

    def all(self, run_id: int | None = None) -> list[BatchRow]:
        """All batches in the order they were handed in, optionally those of one run."""
        query = select(batches).order_by(batches.c.id)
        if run_id is not None:
            query = query.where(batches.c.run_id == run_id)
        with self._engine.connect() as connection:
            return [BatchRow(**item) for item in connection.execute(query).mappings()]

    def keys_under_way(self, batch_id: int) -> set[str]:
        """Keys of the batch's requests that have no result yet."""
        query = select(replies.c.request_key).where(_is_under_way(batch_id))
        with self._engine.connect() as connection:
            return set(connection.scalars(query))

    def set_remote(self, batch_id: int, remote_id: str) -> None:
        """Store the id the service gave a batch."""
        with self._durable_engine.begin() as connection:
            connection.execute(_change(batch_id, remote_id=remote_id, state="running"))

    def set_done(self, batch_id: int, done: int) -> None:
        """Keep how many requests the service says are answered, for views."""
        with self._engine.begin() as connection:
            connection.execute(_change(batch_id, done=done))

    def finish(self, batch_id: int, done: int) -> None:
        """End a batch whose results are all stored; requests without one are free again."""
        with self._durable_engine.begin() as connection:
            connection.execute(_end(batch_id, "finished").values(done=done))
            connection.execute(_free(batch_id, _NO_RESULT))

    def fail(self, batch_id: int, problem: str) -> None:
        """End a batch of which nothing was answered; its requests are free again."""
        with self._durable_engine.begin() as connection:
            connection.execute(_end(batch_id, "failed").values(problem=problem))
            connection.execute(_free(batch_id, problem))

    def lose(self, batch_id: int, problem: str, lost_usd: Mapping[str, float | None]) -> None:
        """End a batch nobody can find; its requests may have been paid and count as losses.

        Args:
            batch_id: the batch.
            problem: why it cannot be found.
            lost_usd: what each request may have cost, by key; None where no price is known.
        """
        with self._durable_engine.begin() as connection:
            connection.execute(_end(batch_id, "lost").values(problem=problem))
            for key, usd in lost_usd.items():
                lost: dict[str, Any] = {"losses": replies.c.losses + 1}
                if usd is not None:
                    lost["lost_usd"] = func.coalesce(replies.c.lost_usd, 0.0) + usd
                this = _free(batch_id, problem).where(replies.c.request_key == key)
                connection.execute(this.values(**lost))
            connection.execute(_free(batch_id, problem))


def _note_request() -> Insert:
    """Puts one request into a batch; bound values are those that `note` names."""
    statement = insert(replies).values(
        state="in_batch",
        text="",
        finish_reason="",
        prompt_tokens=0,
        completion_tokens=0,
        attempts=0,
        losses=0,
        error="",
    )
    return statement.on_conflict_do_update(
        index_elements=["request_key"],
        set_={
            "state": "in_batch",
            "run_id": statement.excluded.run_id,
            "batch_id": statement.excluded.batch_id,
            "error": "",
        },
        where=replies.c.state != "done",
    )


def _is_under_way(batch_id: int) -> ColumnElement[bool]:
    return and_(replies.c.batch_id == batch_id, replies.c.state == "in_batch")


def _change(batch_id: int, **values: Any) -> Update:
    return update(batches).where(batches.c.id == batch_id).values(**values)


def _end(batch_id: int, state: str) -> Update:
    return _change(batch_id, state=state, finished_at=time.time())


def _free(batch_id: int, error: str) -> Update:
    return update(replies).where(_is_under_way(batch_id)).values(state="failed", error=error)
