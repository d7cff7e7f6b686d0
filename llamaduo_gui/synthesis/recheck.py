"""Compares stored pairs with validation and test once more, before a person accepts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamaduo_gui.core.types import RejectReason, Split
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RecordRow
from llamaduo_gui.synthesis.filtering import PairFilter


@dataclass(frozen=True, slots=True)
class Contaminated:
    """A pair, the evaluation record it is too close to, and what they have in common."""

    pair: RecordRow
    against: RecordRow
    detail: str


def find_contaminated(project: Project, rows: Sequence[RecordRow]) -> list[Contaminated]:
    """Those of the pairs that are too close to validation or test, by the present thresholds.

    A pair that was rejected as contaminated counts as such, whatever the thresholds are now.
    """
    if not rows:
        return []
    records = project.records
    held_out = {
        row.record.prompt_id: row
        for split in (Split.VALIDATION, Split.TEST)
        for row in records.by_split(split)
    }
    train = [row.record for row in records.by_split(Split.TRAIN)]
    evaluation = [row.record for row in held_out.values()]
    pair_filter = PairFilter(train, evaluation, project.config.synthesis)
    found = []
    for row in rows:
        rejection = pair_filter.check_evaluation(row.record)
        if rejection is not None:
            found.append(Contaminated(row, held_out[rejection.against], rejection.detail))
        elif row.reject_reason is RejectReason.CONTAMINATED and row.rejected_against in held_out:
            found.append(Contaminated(row, held_out[row.rejected_against], row.reject_detail))
    return found
