"""Queries on results: sampled candidates and the judgements on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.sqlite import insert

from llamaduo_gui.store.rows import CandidateRow, JudgementRow, NewCandidate, NewJudgement
from llamaduo_gui.store.schema import candidates, judgements


class CandidateQueries:
    """Reads and writes the `candidates` table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, items: Sequence[NewCandidate]) -> None:
        """Store responses in one transaction; one that is there already stays as it is."""
        if not items:
            return
        with self._engine.begin() as connection:
            connection.execute(
                insert(candidates).on_conflict_do_nothing(), [asdict(item) for item in items]
            )

    def existing(self, run_id: int) -> set[tuple[int, int]]:
        """(record_id, sample) of the responses a run has stored."""
        query = select(candidates.c.record_id, candidates.c.sample).where(
            candidates.c.run_id == run_id
        )
        with self._engine.connect() as connection:
            return {(int(record), int(sample)) for record, sample in connection.execute(query)}

    def count(self, run_id: int) -> int:
        """Number of responses a run has stored."""
        query = select(func.count()).where(candidates.c.run_id == run_id)
        with self._engine.connect() as connection:
            return connection.scalar(query) or 0

    def of_run(self, run_id: int) -> list[CandidateRow]:
        """All responses of a run, ordered by record and sample."""
        query = (
            select(candidates)
            .where(candidates.c.run_id == run_id)
            .order_by(candidates.c.record_id, candidates.c.sample)
        )
        with self._engine.connect() as connection:
            return [CandidateRow(**item) for item in connection.execute(query).mappings()]

    def get(self, candidate_id: int) -> CandidateRow:
        """One response by its row id; KeyError if there is none."""
        query = select(candidates).where(candidates.c.id == candidate_id)
        with self._engine.connect() as connection:
            found = connection.execute(query).mappings().first()
        if found is None:
            raise KeyError(candidate_id)
        return CandidateRow(**found)


class JudgementQueries:
    """Reads and writes the `judgements` table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, items: Sequence[NewJudgement]) -> None:
        """Store judgements in one transaction; one that is there already stays as it is."""
        if not items:
            return
        with self._engine.begin() as connection:
            connection.execute(
                insert(judgements).on_conflict_do_nothing(), [asdict(item) for item in items]
            )

    def existing(
        self, candidate_run_id: int, judge: str | None = None
    ) -> set[tuple[int, str, int]]:
        """(candidate_id, judge, repeat) of the judgements on a run's candidates."""
        query = (
            select(judgements.c.candidate_id, judgements.c.judge, judgements.c.repeat)
            .join(candidates, candidates.c.id == judgements.c.candidate_id)
            .where(candidates.c.run_id == candidate_run_id)
        )
        if judge is not None:
            query = query.where(judgements.c.judge == judge)
        with self._engine.connect() as connection:
            return {(int(c), str(j), int(r)) for c, j, r in connection.execute(query)}

    def of_candidates(self, candidate_run_id: int) -> list[JudgementRow]:
        """All judgements on the candidates of an inference run."""
        query = (
            select(judgements)
            .join(candidates, candidates.c.id == judgements.c.candidate_id)
            .where(candidates.c.run_id == candidate_run_id)
            .order_by(judgements.c.candidate_id, judgements.c.judge, judgements.c.repeat)
        )
        with self._engine.connect() as connection:
            return [_judgement(item) for item in connection.execute(query).mappings()]

    def of_candidate(self, candidate_id: int) -> list[JudgementRow]:
        """All judgements on one response, by judge and repeat."""
        query = (
            select(judgements)
            .where(judgements.c.candidate_id == candidate_id)
            .order_by(judgements.c.judge, judgements.c.repeat)
        )
        with self._engine.connect() as connection:
            return [_judgement(item) for item in connection.execute(query).mappings()]

    def totals(self) -> tuple[int, int]:
        """(judgements, of these unscored) of the whole project."""
        unscored = func.sum((judgements.c.unscored_reason != "").cast(judgements.c.repeat.type))
        with self._engine.connect() as connection:
            total, bad = connection.execute(select(func.count(), unscored)).one()
        return int(total or 0), int(bad or 0)


def _judgement(item: Any) -> JudgementRow:
    return JudgementRow(**item)
