"""Tests of the synthesis stage: enough good pairs, the same ones always, nothing asked twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import ConfigError, JobCancelledError, UserError
from llamaduo_gui.core.events import Event, Log, Progress
from llamaduo_gui.core.types import RecordStatus, RejectReason, Split
from llamaduo_gui.providers.base import ChatRequest, Reply
from llamaduo_gui.store.project import Project
from tests.unit.synthesis.scripted import (
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


def stored(project: Project, round_number: int = 1) -> list[tuple[str, str, str]]:
    rows = project.records.synthetic(round_number)
    return [(row.source, row.status.value, row.record.instruction) for row in rows]


def test_a_round_is_filled_with_no_request_too_many(project: Project, ask: Ask) -> None:
    teacher = ScriptedTeacher()
    summary = ask(project, teacher)
    assert summary["kept"] == summary["parsed"] == summary["asked"] == summary["wanted"] == 40
    assert summary["requests"] == summary["received"] == len(teacher.asked) == 10
    assert summary["rejected"] == {}
    assert summary["ended"] == "enough"
    assert (summary["prompt_tokens"], summary["completion_tokens"]) == (100, 50)
    assert summary["cost_usd"] == pytest.approx(5.0)
    assert summary["lost_in_flight"] == 0
    json.dumps(summary)
    kept = project.records.synthetic(1, RecordStatus.KEPT)
    assert len(kept) == 40
    train_ids = {record.prompt_id for record, split, _ in COVERAGE if split is Split.TRAIN}
    assert {row.record.seed_prompt for row in kept} <= train_ids
    assert {row.record.generator for row in kept} == {"offline:scripted"}
    assert len({row.record.prompt_id for row in kept}) == 40
    assert project.runs.by_key("synthesize:r1").done == 40  # type: ignore[union-attr]


def test_the_teacher_never_sees_a_word_of_validation_or_test(project: Project, ask: Ask) -> None:
    teacher = ScriptedTeacher()
    weights = weigh(a=90.0, b=1.0)
    ask(project, teacher, config=make_config(pairs_per_round=120), weights=weights)
    shown = "\n".join(message.content for request in teacher.asked for message in request.messages)
    assert "train " in shown
    for record, split, _ in COVERAGE:
        if split is not Split.TRAIN:
            assert record.instruction not in shown
            assert record.target not in shown


def test_the_result_does_not_depend_on_the_order_of_the_replies(tmp_path: Path, ask: Ask) -> None:
    def script(request: ChatRequest) -> Reply:
        one, two = (json.loads(make_pairs(request).text)["pairs"][place] for place in (0, 1))
        same = "the same sentence comes back again and again here"
        return reply_with(
            (one["instruction"], "x"), (f"{same} today", "y"), (two["instruction"], "z")
        )

    found = []
    for jitter in range(3):
        with make_project(tmp_path / str(jitter), make_config()) as project:
            ask(project, ScriptedTeacher(script, jitter))
            found.append(stored(project))
    assert found[0] == found[1] == found[2]


def test_a_stopped_round_goes_on_without_asking_again(tmp_path: Path, ask: Ask) -> None:
    with make_project(tmp_path / "whole", make_config()) as project:
        ask(project, ScriptedTeacher())
        expected = stored(project)
    with make_project(tmp_path / "stopped", make_config()) as project:
        context = make_context()
        first = ScriptedTeacher(
            slowest_s=0.2,
            after=lambda count: context.cancel_requested.set() if count >= 4 else None,
        )
        with pytest.raises(JobCancelledError):
            ask(project, first, context=context)
        answered = {r.key() for r in first.asked if (f := project.replies.find(r.key())) and f.text}
        assert 0 < len(answered) < 10
        second = ScriptedTeacher()
        events: list[Event] = []
        summary = ask(project, second, context=make_context(events))
        assert not answered & {request.key() for request in second.asked}
        assert len(answered) + len(second.asked) == 10
        assert stored(project) == expected
        assert summary["kept"] == 40
        progress = [event for event in events if isinstance(event, Progress)]
        assert (progress[-1].done, progress[-1].total) == (40, 40)


def test_a_process_that_dies_between_reply_and_pairs_loses_neither(
    project: Project, ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with make_project(tmp_path / "whole", make_config()) as whole:
        ask(whole, ScriptedTeacher())
        expected = stored(whole)
    store = project.records.add_synthetic
    calls = 0

    def die(items: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("killed")
        return store(items)

    monkeypatch.setattr(project.records, "add_synthetic", die)
    first = ScriptedTeacher()
    with pytest.raises(RuntimeError, match="killed"):
        ask(project, first)
    monkeypatch.setattr(project.records, "add_synthetic", store)
    answered = {r.key() for r in first.asked if (f := project.replies.find(r.key())) and f.text}
    second = ScriptedTeacher()
    ask(project, second)
    assert not answered & {request.key() for request in second.asked}
    assert stored(project) == expected


def test_a_finished_round_run_again_asks_nothing(project: Project, ask: Ask) -> None:
    first = ask(project, ScriptedTeacher())
    before = stored(project)
    teacher = ScriptedTeacher()
    assert ask(project, teacher) == first
    assert teacher.asked == []
    assert stored(project) == before


def test_a_larger_count_goes_on_from_what_is_there(project: Project, ask: Ask) -> None:
    ask(project, ScriptedTeacher())
    before = stored(project)
    teacher = ScriptedTeacher()
    summary = ask(project, teacher, config=make_config(pairs_per_round=60))
    assert len(teacher.asked) == 5
    assert summary["kept"] == 60
    assert stored(project)[: len(before)] == before


def test_pairs_of_other_settings_count_and_are_not_repeated(project: Project, ask: Ask) -> None:
    ask(project, ScriptedTeacher())
    before = stored(project)
    config = make_config(pairs_per_round=60, temperature=0.5)
    repeated = before[0][2]
    done = False

    def script(request: ChatRequest) -> Reply:
        nonlocal done
        if not done:
            done = True
            return reply_with((repeated, "x"))
        return make_pairs(request)

    summary = ask(project, ScriptedTeacher(script), config=config)
    assert summary["kept"] == len(project.records.synthetic(1, RecordStatus.KEPT)) == 60
    assert summary["rejected"] == {"exact_duplicate": 1}


def test_every_reject_is_kept_with_its_reason(project: Project, ask: Ask) -> None:
    train, test = COVERAGE[0][0].instruction, COVERAGE[29][0].instruction
    news = "an entirely new sentence about other things than before it"

    special = [
        reply_with(("", "x"), (train, "x"), (news, "x"), (f"{news} now", "x"), (f"{test} ok", "x")),
        Reply("I'm sorry, I cannot do that."),
        Reply('{"pairs": [{"instruction": "half a', finish_reason="length"),
    ]

    def script(request: ChatRequest) -> Reply:
        return special.pop() if special else make_pairs(request)

    summary = ask(project, ScriptedTeacher(script))
    assert summary["rejected"] == {
        "contaminated": 1,
        "exact_duplicate": 1,
        "near_duplicate": 1,
        "refused": 1,
        "schema": 1,
        "truncated": 1,
    }
    assert summary["kept"] >= 40
    rejected = project.records.synthetic(1, RecordStatus.REJECTED)
    assert {row.reject_reason for row in rejected} == {
        RejectReason(name) for name in summary["rejected"]
    }
    assert all(row.reject_detail for row in rejected)
    contaminated = next(r for r in rejected if r.reject_reason is RejectReason.CONTAMINATED)
    assert "id-29" in contaminated.reject_detail
    trained = {row.id for row in project.records.training_set(1)}
    assert not trained & {row.id for row in rejected}


def test_a_pair_too_close_to_its_seed_is_rejected(project: Project, ask: Ask) -> None:
    def script(request: ChatRequest) -> Reply:
        seed = request.messages[-1].content.split("<instruction>\n")[1].split("\n")[0]
        words = seed.split()
        words[1], words[6] = "changed", "altered"
        pairs = json.loads(make_pairs(request).text)["pairs"]
        return reply_with((" ".join(words), "x"), (pairs[0]["instruction"], "x"))

    summary = ask(project, ScriptedTeacher(script), config=make_config(pairs_per_round=8))
    assert summary["rejected"] == {"too_close_to_seed": 6}
    assert summary["kept"] == 6
    assert summary["ended"] == "request_limit"


def test_the_request_limit_ends_the_round_and_is_said(project: Project, ask: Ask) -> None:
    events: list[Event] = []
    teacher = ScriptedTeacher(lambda request: Reply(json.dumps({"pairs": [pair(request)]})))

    def pair(request: ChatRequest) -> Any:
        return json.loads(make_pairs(request).text)["pairs"][0]

    summary = ask(project, teacher, context=make_context(events))
    assert summary["ended"] == "request_limit"
    assert summary["requests"] == summary["max_requests"] == len(teacher.asked) == 30
    assert summary["kept"] == 30
    warnings = [event.text for event in events if isinstance(event, Log) and event.level != "info"]
    assert any("limit of 30 requests" in text for text in warnings)


def test_replies_that_bring_nothing_more_end_the_round_early(project: Project, ask: Ask) -> None:
    teacher = ScriptedTeacher(lambda _: reply_with(("always the same thing to ask", "x")))
    summary = ask(project, teacher, config=make_config(pairs_per_round=400))
    assert summary["ended"] == "fruitless"
    assert summary["kept"] == 1
    assert summary["requests"] == 26
    assert summary["rejected"] == {"exact_duplicate": 25}


def test_a_round_without_one_pair_fails_with_the_reasons(project: Project, ask: Ask) -> None:
    teacher = ScriptedTeacher(lambda _: Reply("Hello there!"))
    with pytest.raises(UserError, match=r"No pair of \d+ asked for could be kept \(\d+ schema\)"):
        ask(project, teacher)
    assert project.records.reject_counts(1)[RejectReason.SCHEMA] == 25


def test_a_status_set_by_hand_stays(project: Project, ask: Ask) -> None:
    ask(project, ScriptedTeacher())
    first = project.records.synthetic(1)[0]
    project.records.set_status([first.id], RecordStatus.REJECTED)
    teacher = ScriptedTeacher()
    summary = ask(project, teacher)
    assert project.records.get(first.id).status is RecordStatus.REJECTED  # type: ignore[union-attr]
    assert summary["rejected"] == {"by_hand": 1}
    assert len(teacher.asked) == 1
    assert summary["kept"] == 43


def test_a_second_round_asks_anew_and_repeats_no_pair_of_the_first(
    project: Project, ask: Ask
) -> None:
    ask(project, ScriptedTeacher())
    earlier = project.records.synthetic(1)[0].record.instruction

    def script(request: ChatRequest) -> Reply:
        pairs = json.loads(make_pairs(request).text)["pairs"]
        return reply_with((earlier, "x"), *((p["instruction"], p["response"]) for p in pairs))

    teacher = ScriptedTeacher(script)
    summary = ask(project, teacher, round_number=2)
    assert len(teacher.asked) == 10
    assert summary["rejected"] == {"exact_duplicate": 10}
    assert summary["kept"] == 40
    assert len(project.records.training_set(2)) == 20 + 40 + 40


def test_weak_categories_are_asked_for_more(project: Project, ask: Ask) -> None:
    config = make_config(pairs_per_round=200)
    ask(project, ScriptedTeacher(), config=config, weights=weigh(a=99.0, b=1.0))
    categories = [row.record.category for row in project.records.synthetic(1)]
    assert categories.count("a") > 0.9 * len(categories)


def test_the_uniform_strategy_ignores_weights(project: Project, ask: Ask) -> None:
    config = make_config(pairs_per_round=80, strategy="uniform")
    ask(project, ScriptedTeacher(), config=config, weights=weigh(a=99.0, b=1.0))
    categories = [row.record.category for row in project.records.synthetic(1)]
    assert categories.count("a") == categories.count("b") == 40


def test_without_a_teacher_the_error_says_how_to_name_one(project: Project, ask: Ask) -> None:
    with pytest.raises(ConfigError, match="No teacher is set"):
        ask(project, ScriptedTeacher(), config=PipelineConfig())
