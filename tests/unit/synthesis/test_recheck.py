"""Tests of looking at pairs again before a person accepts them."""

from __future__ import annotations

from llamaduo_gui.core.types import Message, Record, RecordStatus, RejectReason, Split
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewSynthetic, RecordRow
from llamaduo_gui.synthesis.recheck import find_contaminated


def add(project: Project, prompt: str, reason: RejectReason, against: str = "") -> RecordRow:
    turns = (Message("user", prompt), Message("assistant", "x"))
    record = Record(turns, "a", f"new-{len(prompt)}")
    rejected = RecordStatus.REJECTED
    new = NewSynthetic(record, 1, f"r1:{prompt}:0", rejected, reason, "why", against)
    project.records.add_synthetic([new])
    return project.records.synthetic(1)[-1]


def test_a_pair_rejected_for_another_reason_is_compared_with_the_evaluation_data(
    project: Project,
) -> None:
    held_out = project.records.by_split(Split.VALIDATION)[0]
    copy = add(project, held_out.record.instruction, RejectReason.NEAR_DUPLICATE)
    clean = add(project, "something else altogether", RejectReason.NEAR_DUPLICATE)
    (found,) = find_contaminated(project, [copy, clean])
    assert found.pair == copy
    assert found.against == held_out
    assert "the same prompt" in found.detail


def test_what_was_found_contaminated_stays_so_when_the_thresholds_are_lowered(
    project: Project,
) -> None:
    held_out = project.records.by_split(Split.TEST)[0]
    name = held_out.record.prompt_id
    pair = add(project, "hardly like it at all", RejectReason.CONTAMINATED, name)
    (found,) = find_contaminated(project, [pair])
    assert (found.against, found.detail) == (held_out, "why")
    gone = add(project, "hardly like it at all either", RejectReason.CONTAMINATED, "gone")
    assert find_contaminated(project, [gone]) == []
    assert find_contaminated(project, []) == []
