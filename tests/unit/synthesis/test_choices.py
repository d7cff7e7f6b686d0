"""Tests of quotas, of what requests can know of validation, and of decisions by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.errors import JobCancelledError
from llamaduo_gui.core.events import Event, MetricLogged
from llamaduo_gui.core.types import Message, Record, RecordStatus, RejectReason, Split
from llamaduo_gui.providers.base import ChatRequest, Reply
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RecordFilter
from tests.unit.synthesis.scripted import (
    PER_REQUEST,
    ScriptedTeacher,
    make_config,
    make_context,
    make_coverage,
    make_pairs,
    make_project,
    reply_with,
    weigh,
)

Ask = Callable[..., dict[str, Any]]
COVERAGE = make_coverage()
STRATEGIES = ("uniform", "failure_driven", "breadth")


def categories(project: Project) -> Counter[str]:
    return Counter(row.record.category for row in project.records.synthetic(1, RecordStatus.KEPT))


def sent(teacher: ScriptedTeacher) -> list[str]:
    return sorted(request.key() for request in teacher.asked)


def half_bad(request: ChatRequest) -> Reply:
    """Two pairs that are new, and two that are the same every time."""
    pairs = json.loads(make_pairs(request).text)["pairs"][:2]
    new = [(pair["instruction"], pair["response"]) for pair in pairs]
    return reply_with(*new, ("the same thing once more", "x"), ("the same thing once more", "y"))


def test_a_category_gets_no_more_than_its_quota_and_the_others_fill_the_round(
    project: Project, ask: Ask
) -> None:
    config = make_config(category_quotas={"a": 8})
    summary = ask(project, ScriptedTeacher(), config=config)
    assert categories(project) == {"a": 8, "b": 32}
    assert summary["kept_by_category"] == {"a": 8, "b": 32}
    assert summary["ended"] == "enough"


def test_a_quota_is_filled_although_pairs_are_rejected(project: Project, ask: Ask) -> None:
    config = make_config(category_quotas={"a": 8})
    summary = ask(project, ScriptedTeacher(half_bad), config=config)
    assert 8 <= categories(project)["a"] < 8 + PER_REQUEST
    assert summary["kept"] >= 40


def test_a_category_with_a_quota_of_none_is_no_seed(project: Project, ask: Ask) -> None:
    ask(project, ScriptedTeacher(), config=make_config(category_quotas={"b": 0}))
    assert categories(project) == {"a": 40}


def test_the_round_ends_when_every_category_has_its_quota(project: Project, ask: Ask) -> None:
    config = make_config(category_quotas={"a": 8, "b": 4, "not there": 100})
    teacher = ScriptedTeacher()
    summary = ask(project, teacher, config=config)
    assert categories(project) == {"a": 8, "b": 4}
    assert summary["ended"] == "quotas"
    assert len(teacher.asked) == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_quotas_do_not_make_the_result_depend_on_the_network(
    tmp_path: Path, ask: Ask, strategy: str
) -> None:
    config = make_config(category_quotas={"a": 10}, strategy=strategy)
    found = []
    for jitter in range(3):
        with make_project(tmp_path / str(jitter), config) as project:
            teacher = ScriptedTeacher(half_bad, jitter)
            ask(project, teacher, config=config, weights=weigh(a=60.0, b=40.0))
            rows = project.records.synthetic(1)
            found.append(([(row.source, row.status) for row in rows], sent(teacher)))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stopped_round_makes_the_same_requests_when_it_goes_on(
    tmp_path: Path, ask: Ask, strategy: str
) -> None:
    config = make_config(category_quotas={"a": 12}, strategy=strategy)
    weights = weigh(a=60.0, b=40.0)
    with make_project(tmp_path / "whole", config) as project:
        whole = ScriptedTeacher()
        ask(project, whole, config=config, weights=weights)
    with make_project(tmp_path / "stopped", config) as project:
        context = make_context()
        first = ScriptedTeacher(
            after=lambda count: context.cancel_requested.set() if count >= 3 else None
        )
        with pytest.raises(JobCancelledError):
            ask(project, first, config=config, context=context, weights=weights)
        second = ScriptedTeacher()
        ask(project, second, config=config, weights=weights)
        assert set(sent(first)) | set(sent(second)) == set(sent(whole))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_requests_are_the_same_whatever_validation_and_test_say(
    tmp_path: Path, ask: Ask, strategy: str
) -> None:
    """Nothing of the text can be in the requests if no text at all changes them."""
    config = make_config(strategy=strategy, pairs_per_round=80)
    asked = []
    for word in ("", "quagga "):
        coverage = []
        for record, split, source in COVERAGE:
            turns = record.messages
            if split is not Split.TRAIN:
                turns = (
                    Message("user", f"{word * 3}{turns[0].content}"),
                    Message("assistant", f"{word}{turns[1].content}"),
                )
            item = Record(turns, record.category, record.prompt_id)
            coverage.append((item, split, source))
        with make_project(tmp_path / f"project-{word}", config, coverage) as project:
            teacher = ScriptedTeacher()
            ask(project, teacher, config=config, weights=weigh(a=80.0, b=20.0))
            ask(project, teacher, config=config, weights=weigh(a=80.0, b=20.0), round_number=2)
            asked.append(sent(teacher))
            shown = "".join(turn.content for r in teacher.asked for turn in r.messages)
            assert "quagga" not in shown
    assert asked[0] == asked[1]


def test_every_reject_names_the_record_it_is_too_close_to(project: Project, ask: Ask) -> None:
    train, test = COVERAGE[0][0].instruction, COVERAGE[29][0].instruction
    news = "an entirely new sentence about other things than before it"

    is_first = iter([True])

    def script(request: ChatRequest) -> Reply:
        if not next(is_first, False):
            return make_pairs(request)
        seed = request.messages[-1].content.split("<instruction>\n")[1].split("\n")[0].split()
        seed[1], seed[6] = "changed", "altered"
        close = (" ".join(seed), "x")
        return reply_with((train, "x"), (news, "x"), (f"{news} now", "x"), (test, "x"), close)

    ask(project, ScriptedTeacher(script), config=make_config(pairs_per_round=8))
    rows = {row.reject_reason: row for row in project.records.synthetic(1) if row.reject_reason}
    kept = project.records.page(RecordFilter(text=news), offset=0, limit=1)[0]
    against = {reason: row.rejected_against for reason, row in rows.items()}
    assert against == {
        RejectReason.EXACT_DUPLICATE: "id-00",
        RejectReason.NEAR_DUPLICATE: kept.record.prompt_id,
        RejectReason.CONTAMINATED: "id-29",
        RejectReason.TOO_CLOSE_TO_SEED: rows[RejectReason.TOO_CLOSE_TO_SEED].record.seed_prompt,
    }
    for name in against.values():
        assert project.records.by_prompt_id(name) is not None


def test_a_pair_accepted_by_hand_stays_in_the_training_set_through_a_resume(
    project: Project, ask: Ask
) -> None:
    before = ask(project, ScriptedTeacher(half_bad))
    rejected = project.records.synthetic(1, RecordStatus.REJECTED)[0]
    assert not rejected.is_decided_by_hand
    assert project.records.set_status([rejected.id], RecordStatus.KEPT) == 1
    teacher = ScriptedTeacher(half_bad)
    after = ask(project, teacher)
    row = project.records.get(rejected.id)
    assert row is not None
    assert row.status is RecordStatus.KEPT
    assert row.is_decided_by_hand
    assert row.reject_reason is rejected.reject_reason
    assert row.id in {item.id for item in project.records.training_set(1)}
    assert after["kept"] == before["kept"] + 1
    assert teacher.asked == []


def test_undoing_a_decision_leaves_no_trace(project: Project, ask: Ask) -> None:
    ask(project, ScriptedTeacher(half_bad))
    before = project.records.synthetic(1)
    ids = {status: [r.id for r in before if r.status is status] for status in RecordStatus}
    project.records.set_status(ids[RecordStatus.REJECTED], RecordStatus.KEPT)
    project.records.set_status(ids[RecordStatus.KEPT], RecordStatus.REJECTED)
    assert project.records.count(RecordFilter(is_by_hand=True)) == len(before)
    project.records.set_status(ids[RecordStatus.KEPT], RecordStatus.KEPT)
    project.records.set_status(ids[RecordStatus.REJECTED], RecordStatus.REJECTED)
    assert project.records.synthetic(1) == before
    assert project.records.count(RecordFilter(is_by_hand=True)) == 0


def test_what_a_person_rejected_does_not_come_back(project: Project, ask: Ask) -> None:
    ask(project, ScriptedTeacher())
    unwanted = project.records.synthetic(1)[0]
    project.records.set_status([unwanted.id], RecordStatus.REJECTED)

    def script(request: ChatRequest) -> Reply:
        pairs = json.loads(make_pairs(request).text)["pairs"][:2]
        again = (unwanted.record.instruction, "x")
        return reply_with(again, *((p["instruction"], p["response"]) for p in pairs))

    for number in (1, 2):
        summary = ask(project, ScriptedTeacher(script), round_number=number)
        assert summary["rejected"]["exact_duplicate"] >= 1
    kept = [row.record.instruction for row in project.records.training_set(2)]
    assert unwanted.record.instruction not in kept


def test_coverage_records_cannot_be_rejected_by_hand(project: Project) -> None:
    row = project.records.by_split(Split.TRAIN)[0]
    assert project.records.set_status([row.id], RecordStatus.REJECTED) == 0
    assert project.records.get(row.id) == row


def test_the_yield_is_reported_while_it_grows(project: Project, ask: Ask) -> None:
    events: list[Event] = []
    summary = ask(project, ScriptedTeacher(half_bad), context=make_context(events))
    last = {event.name: event.value for event in events if isinstance(event, MetricLogged)}
    assert last == {
        "asked": summary["asked"],
        "parsed": summary["parsed"],
        "kept": summary["kept"],
        "rejected.exact_duplicate": summary["rejected"]["exact_duplicate"],
    }
    counts = project.records.yield_counts(1)
    assert counts[RecordStatus.KEPT, None] == summary["kept"]
    assert sum(counts.values()) == summary["parsed"]
    assert project.records.synthetic_rounds() == [1]


def test_a_conversation_is_given_other_endings(tmp_path: Path, ask: Ask) -> None:
    turns = (
        Message("system", "Be brief."),
        Message("user", "Which Python version may I use in this project of ours?"),
        Message("assistant", "3.11 or newer, as long as every test of ours passes on it."),
        Message("user", "And how do I install it here?"),
        Message("assistant", "With the package manager."),
    )
    coverage = [(Record(turns, "a", "talk"), Split.TRAIN, "f:1"), *COVERAGE[20:]]
    config = make_config(pairs_per_round=8)
    with make_project(tmp_path / "talks", config, coverage) as project:
        ask(project, ScriptedTeacher(), config=config)
        kept = project.records.synthetic(1, RecordStatus.KEPT)
        assert len(kept) == 8
        assert {row.record.messages[:3] for row in kept} == {turns[:3]}
        assert len({row.record.messages[3] for row in kept}) == 8
        assert project.records.yield_counts(1) == {(RecordStatus.KEPT, None): 8}
