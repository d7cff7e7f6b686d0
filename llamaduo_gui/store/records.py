"""Queries on records: the coverage splits and the synthetic pairs of each round."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Engine, and_, bindparam, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from llamaduo_gui.core.types import (
    Origin,
    Record,
    RecordStatus,
    RejectReason,
    Split,
    messages_from_dicts,
)
from llamaduo_gui.store.rows import NewSynthetic, RecordFilter, RecordRow
from llamaduo_gui.store.schema import records

SortKey = Literal["id", "category", "split", "instruction", "response", "round", "status"]


_BATCH_ROWS = 1000


class RecordQueries:
    """Reads and writes the `records` table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_coverage(self, items: Iterable[tuple[Record, Split, str]]) -> None:
        """Store coverage records with their frozen split and source ("file:line")."""
        rows = [
            _values(record, Origin.COVERAGE, split, 0, source) for record, split, source in items
        ]
        with self._engine.begin() as connection:
            connection.execute(insert(records), rows)

    def import_coverage(
        self, items: Iterable[tuple[Record, str]], assign: Callable[[], Sequence[Split]]
    ) -> None:
        """Store records as they come and their frozen splits at the end: all of it, or nothing.

        Memory stays that of a batch, however many there are. The table must be empty.

        Args:
            items: records with their source ("file:line").
            assign: called after the last one; the split of each, in order.
        """
        iterator = iter(items)
        with self._engine.begin() as connection:
            while batch := list(itertools.islice(iterator, _BATCH_ROWS)):
                rows = [
                    _values(record, Origin.COVERAGE, Split.TRAIN, 0, source)
                    for record, source in batch
                ]
                connection.execute(insert(records), rows)
            first = connection.scalar(select(func.min(records.c.id))) or 1
            moved = [
                {"row": first + place, "to": split.value}
                for place, split in enumerate(assign())
                if split is not Split.TRAIN
            ]
            if moved:
                query = update(records).where(records.c.id == bindparam("row"))
                connection.execute(query.values(split=bindparam("to")), moved)

    def add_synthetic(self, items: Sequence[NewSynthetic]) -> int:
        """Store synthetic pairs; a pair whose `source` is there already is left as it is.

        Returns:
            How many were new.
        """
        if not items:
            return 0
        rows = [
            {
                **_values(item.record, Origin.SYNTHETIC, Split.TRAIN, item.round, item.source),
                "status": item.status.value,
                "reject_reason": item.reject_reason.value if item.reject_reason else None,
                "reject_detail": item.reject_detail,
                "rejected_against": item.rejected_against or None,
            }
            for item in items
        ]
        with self._engine.begin() as connection:
            before = connection.scalar(select(func.count()).select_from(records)) or 0
            connection.execute(insert(records).on_conflict_do_nothing(), rows)
            after = connection.scalar(select(func.count()).select_from(records)) or 0
        return after - before

    def get(self, record_id: int) -> RecordRow | None:
        """One record by its row id."""
        return next(iter(self._fetch(records.c.id == record_id)), None)

    def by_prompt_id(self, prompt_id: str) -> RecordRow | None:
        """The first record of a prompt, such as the seed of a synthetic pair."""
        return next(iter(self._fetch(records.c.prompt_id == prompt_id)), None)

    def by_ids(self, ids: Sequence[int]) -> list[RecordRow]:
        """The records with these row ids, in the order asked for; unknown ones are left out."""
        found = {row.id: row for row in self._fetch(records.c.id.in_(list(ids)))}
        return [found[number] for number in ids if number in found]

    def by_split(self, split: Split) -> list[RecordRow]:
        """Coverage records of one split, in source order."""
        return self._fetch(
            and_(records.c.origin == Origin.COVERAGE.value, records.c.split == split.value)
        )

    def training_set(self, through_round: int) -> list[RecordRow]:
        """Kept training records of coverage and of the synthetic rounds 1..`through_round`."""
        return self._fetch(
            and_(
                records.c.split == Split.TRAIN.value,
                records.c.status == RecordStatus.KEPT.value,
                records.c.round <= through_round,
            )
        )

    def synthetic(self, round_number: int, status: RecordStatus | None = None) -> list[RecordRow]:
        """Synthetic pairs of one round, optionally of one status."""
        condition = and_(
            records.c.origin == Origin.SYNTHETIC.value, records.c.round == round_number
        )
        if status is not None:
            condition = and_(condition, records.c.status == status.value)
        return self._fetch(condition)

    def counts(self) -> dict[tuple[Origin, Split, RecordStatus], int]:
        """Number of records by origin, split and status."""
        columns = (records.c.origin, records.c.split, records.c.status)
        with self._engine.connect() as connection:
            found = connection.execute(select(*columns, func.count()).group_by(*columns)).all()
        return {(Origin(o), Split(s), RecordStatus(st)): int(n) for o, s, st, n in found}

    def yield_counts(
        self, round_number: int | None = None
    ) -> dict[tuple[RecordStatus, RejectReason | None], int]:
        """Synthetic pairs by status and reason (see `RecordRow.is_decided_by_hand`)."""
        columns = (records.c.status, records.c.reject_reason)
        query = select(*columns, func.count()).where(records.c.origin == Origin.SYNTHETIC.value)
        if round_number is not None:
            query = query.where(records.c.round == round_number)
        with self._engine.connect() as connection:
            found = connection.execute(query.group_by(*columns)).all()
        return {
            (RecordStatus(status), RejectReason(reason) if reason else None): int(number)
            for status, reason, number in found
        }

    def synthetic_rounds(self) -> list[int]:
        """Numbers of the rounds that have synthetic pairs."""
        query = select(records.c.round).where(records.c.round > 0).distinct()
        with self._engine.connect() as connection:
            return sorted(connection.scalars(query))

    def reject_counts(self, round_number: int | None = None) -> dict[RejectReason, int]:
        """Rejected pairs by reason, of one round or of all."""
        query = (
            select(records.c.reject_reason, func.count())
            .where(records.c.status == RecordStatus.REJECTED.value)
            .group_by(records.c.reject_reason)
        )
        if round_number is not None:
            query = query.where(records.c.round == round_number)
        with self._engine.connect() as connection:
            return {RejectReason(r): int(n) for r, n in connection.execute(query).all() if r}

    def categories(self) -> list[str]:
        """All categories in use, sorted."""
        query = select(records.c.category).distinct().order_by(records.c.category)
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    def category_counts(self, split: Split) -> list[tuple[str, int]]:
        """Categories of a split's coverage records with how many there are, sorted by name."""
        query = (
            select(records.c.category, func.count())
            .where(records.c.origin == Origin.COVERAGE.value, records.c.split == split.value)
            .group_by(records.c.category)
            .order_by(records.c.category)
        )
        with self._engine.connect() as connection:
            return [(str(name), int(number)) for name, number in connection.execute(query).all()]

    def count(self, view: RecordFilter) -> int:
        """How many records a view's filter lets through."""
        query = select(func.count()).select_from(records).where(*_conditions(view))
        with self._engine.connect() as connection:
            return connection.scalar(query) or 0

    def ids(
        self, view: RecordFilter, *, sort: SortKey = "id", is_descending: bool = False
    ) -> array[int]:
        """Row ids of a filtered, sorted view, 8 bytes each.

        With them any page is a look-up by id, 3 ms wherever it is; `page` has to walk past
        everything before its offset, which takes seconds at the end of 256k sorted records.
        """
        column = records.c[sort]
        order = column.desc() if is_descending else column.asc()
        query = select(records.c.id).where(*_conditions(view)).order_by(order, records.c.id)
        with self._engine.connect() as connection:
            return array("q", connection.scalars(query))

    def page(
        self,
        view: RecordFilter,
        *,
        offset: int,
        limit: int,
        sort: SortKey = "id",
        is_descending: bool = False,
    ) -> list[RecordRow]:
        """One page of a filtered, sorted view; sorting is done by the database."""
        column = records.c[sort]
        order = column.desc() if is_descending else column.asc()
        query = (
            select(records)
            .where(*_conditions(view))
            .order_by(order, records.c.id)
            .offset(offset)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [_row(item) for item in connection.execute(query).mappings()]

    def set_status(self, record_ids: Sequence[int], status: RecordStatus) -> int:
        """Accept or reject synthetic pairs by hand; why they had been rejected stays with them.

        Returns:
            How many had another status before.
        """
        query = (
            update(records)
            .where(
                records.c.id.in_(list(record_ids)),
                records.c.origin == Origin.SYNTHETIC.value,
                records.c.status != status.value,
            )
            .values(status=status.value)
        )
        with self._engine.begin() as connection:
            return connection.execute(query).rowcount

    def note_contaminated(self, record_id: int, against: str, detail: str) -> None:
        """Keep that a pair is too close to an evaluation prompt, whatever it was rejected for."""
        query = (
            update(records)
            .where(records.c.id == record_id, records.c.origin == Origin.SYNTHETIC.value)
            .values(
                reject_reason=RejectReason.CONTAMINATED.value,
                reject_detail=detail,
                rejected_against=against,
            )
        )
        with self._engine.begin() as connection:
            connection.execute(query)

    def accepted_contaminated(self) -> int:
        """How many contaminated pairs a person accepted all the same."""
        return self.yield_counts().get((RecordStatus.KEPT, RejectReason.CONTAMINATED), 0)

    def _fetch(self, condition: ColumnElement[bool]) -> list[RecordRow]:
        with self._engine.connect() as connection:
            found = connection.execute(select(records).where(condition).order_by(records.c.id))
            return [_row(item) for item in found.mappings()]


def _values(
    record: Record, origin: Origin, split: Split, round_number: int, source: str
) -> dict[str, Any]:
    """The columns of a record that is kept."""
    return {
        "prompt_id": record.prompt_id,
        "origin": origin.value,
        "split": split.value,
        "round": round_number,
        "status": RecordStatus.KEPT.value,
        "category": record.category,
        "messages": [message.to_dict() for message in record.messages],
        "instruction": record.instruction,
        "response": record.target,
        "generator": record.generator,
        "seed_prompt": record.seed_prompt,
        "reject_reason": None,
        "reject_detail": "",
        "rejected_against": None,
        "source": source,
    }


def _row(item: Any) -> RecordRow:
    record = Record(
        messages=messages_from_dicts(item["messages"]),
        category=item["category"],
        prompt_id=item["prompt_id"],
        generator=item["generator"],
        seed_prompt=item["seed_prompt"],
    )
    reason = item["reject_reason"]
    return RecordRow(
        id=item["id"],
        record=record,
        split=Split(item["split"]),
        origin=Origin(item["origin"]),
        round=item["round"],
        status=RecordStatus(item["status"]),
        reject_reason=RejectReason(reason) if reason else None,
        reject_detail=item["reject_detail"] or "",
        source=item["source"],
        rejected_against=item["rejected_against"] or "",
    )


def _conditions(view: RecordFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if view.text:
        conditions.append(
            or_(
                records.c.instruction.icontains(view.text, autoescape=True),
                records.c.response.icontains(view.text, autoescape=True),
            )
        )
    choices: tuple[tuple[str, Iterable[Any]], ...] = (
        ("split", view.splits),
        ("origin", view.origins),
        ("status", view.statuses),
        ("reject_reason", view.reasons),
    )
    for name, values in choices:
        wanted = sorted(value.value for value in values)
        if wanted:
            conditions.append(records.c[name].in_(wanted))
    if view.category:
        conditions.append(records.c.category == view.category)
    if view.round is not None:
        conditions.append(records.c.round == view.round)
    if view.is_by_hand:
        is_kept = records.c.status == RecordStatus.KEPT.value
        conditions.append(is_kept == records.c.reject_reason.is_not(None))
        conditions.append(records.c.origin == Origin.SYNTHETIC.value)
    return conditions
