"""Queries on runs: one row for each execution of a stage, found again by its key."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.dialects.sqlite import insert

from llamaduo_gui.core.types import RunStatus, Split, Stage
from llamaduo_gui.store.rows import RunRow
from llamaduo_gui.store.schema import runs


class RunQueries:
    """Reads and writes the `runs` table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find_or_create(
        self,
        key: str,
        stage: Stage,
        *,
        round_number: int | None = None,
        label: str = "",
        split: Split | None = None,
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
        parent_id: int | None = None,
    ) -> RunRow:
        """The run with this key, made (queued) if it is not there yet."""
        values = {
            "key": key,
            "parent_id": parent_id,
            "stage": stage.value,
            "round": round_number,
            "label": label,
            "split": split.value if split else None,
            "status": RunStatus.QUEUED.value,
            "config": dict(config or {}),
            "seed": seed,
            "versions": {},
            "attempts": 0,
            "done": 0,
            "total": 0,
            "created_at": time.time(),
            "spent_s": 0.0,
            "error": "",
            "summary": {},
        }
        with self._engine.begin() as connection:
            connection.execute(insert(runs).values(**values).on_conflict_do_nothing())
            found = connection.execute(select(runs).where(runs.c.key == key)).mappings().one()
        return _row(found)

    def get(self, run_id: int) -> RunRow:
        """The run with this id; KeyError if there is none."""
        with self._engine.connect() as connection:
            found = connection.execute(select(runs).where(runs.c.id == run_id)).mappings().first()
        if found is None:
            raise KeyError(run_id)
        return _row(found)

    def by_key(self, key: str) -> RunRow | None:
        """The run with this key, or None."""
        with self._engine.connect() as connection:
            found = connection.execute(select(runs).where(runs.c.key == key)).mappings().first()
        return _row(found) if found is not None else None

    def all(self, stage: Stage | None = None) -> list[RunRow]:
        """All runs in the order they were made, optionally of one stage."""
        query = select(runs).order_by(runs.c.id)
        if stage is not None:
            query = query.where(runs.c.stage == stage.value)
        with self._engine.connect() as connection:
            return [_row(item) for item in connection.execute(query).mappings()]

    def start(self, run_id: int, versions: Mapping[str, str]) -> None:
        """Mark a run as running in this process; counts one more attempt."""
        query = (
            update(runs)
            .where(runs.c.id == run_id)
            .values(
                status=RunStatus.RUNNING.value,
                attempts=runs.c.attempts + 1,
                versions=dict(versions),
                pid=os.getpid(),
                started_at=time.time(),
                finished_at=None,
                error="",
            )
        )
        with self._engine.begin() as connection:
            connection.execute(query)

    def set_progress(self, run_id: int, done: int, total: int) -> None:
        """Keep how far a run has come, for views opened later."""
        with self._engine.begin() as connection:
            connection.execute(
                update(runs).where(runs.c.id == run_id).values(done=done, total=total)
            )

    def set_config(self, run_id: int, config: Mapping[str, Any]) -> None:
        """Keep the resolved configuration a run really used."""
        with self._engine.begin() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(config=dict(config)))

    def finish(
        self,
        run_id: int,
        status: RunStatus,
        *,
        error: str = "",
        summary: Mapping[str, Any] | None = None,
    ) -> None:
        """End a run; its summary is kept as it was when none is given."""
        now = time.time()
        values: dict[str, Any] = {
            "status": status.value,
            "finished_at": now,
            "error": error,
            "pid": None,
        }
        if summary is not None:
            values["summary"] = dict(summary)
        with self._engine.begin() as connection:
            started = connection.scalar(select(runs.c.started_at).where(runs.c.id == run_id))
            if started is not None:
                values["spent_s"] = runs.c.spent_s + max(0.0, now - started)
            connection.execute(update(runs).where(runs.c.id == run_id).values(**values))

    def mark_interrupted(self) -> list[RunRow]:
        """Turn runs that claim to be running into `interrupted`.

        Call it only while holding the project's lock: then no process can be working on them.

        Returns:
            The runs that changed.
        """
        stale = [run for run in self.all() if run.status is RunStatus.RUNNING]
        with self._engine.begin() as connection:
            connection.execute(
                update(runs)
                .where(runs.c.id.in_([run.id for run in stale]))
                .values(
                    status=RunStatus.INTERRUPTED.value,
                    pid=None,
                    error="The process ended before the run was finished.",
                )
            )
        return [self.get(run.id) for run in stale]

    def reset(self, run_id: int, config: Mapping[str, Any] | None = None) -> None:
        """Queue a finished run again, for example to decide anew after more rounds."""
        values: dict[str, Any] = {"status": RunStatus.QUEUED.value, "error": ""}
        if config is not None:
            values["config"] = dict(config)
        with self._engine.begin() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


def _row(item: Any) -> RunRow:
    values = dict(item)
    values["stage"] = Stage(values["stage"])
    values["status"] = RunStatus(values["status"])
    values["split"] = Split(values["split"]) if values["split"] else None
    return RunRow(**values)
