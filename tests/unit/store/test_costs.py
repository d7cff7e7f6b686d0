"""Costs by run, service and judge: retries, unusable replies, failures, losses and batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import Stage, TokenCounts
from llamaduo_gui.store.costs import CostTotal, total_by
from llamaduo_gui.store.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "p", PipelineConfig()) as made:
        yield made


def _begin(
    project: Project, key: str, run_id: int | None, *, model: str = "m", attempt: int = 0
) -> None:
    project.replies.begin(
        key,
        run_id=run_id,
        provider="openai",
        model=model,
        purpose="judge",
        request={"messages": [], "attempt": attempt},
    )


def _complete(project: Project, key: str, cost: float | None, attempts: int = 1) -> None:
    project.replies.complete(
        key,
        text="reply",
        finish_reason="stop",
        tokens=TokenCounts(prompt=10, completion=5, cached=4, reasoning=2),
        cost_usd=cost,
        latency_s=0.1,
        attempts=attempts,
    )


def test_a_project_without_replies_has_spent_nothing(project: Project) -> None:
    assert project.costs.spent_usd() == 0.0
    assert project.costs.rows() == []


def test_every_kind_of_request_is_counted_where_it_belongs(project: Project) -> None:
    run = project.runs.find_or_create("judge:tuned:r1:validation", Stage.JUDGE, round_number=1)
    _begin(project, "first", run.id)
    _complete(project, "first", 0.5, attempts=3)
    _begin(project, "first again", run.id, attempt=1)
    _complete(project, "first again", 0.25)
    _begin(project, "refused", run.id)
    project.replies.fail("refused", error="no", attempts=2)
    _begin(project, "unpriced", run.id)
    _complete(project, "unpriced", None)
    _begin(project, "under way", run.id)

    (row,) = project.costs.rows()
    assert (row.run_key, row.stage, row.round) == (run.key, Stage.JUDGE, 1)
    assert (row.service, row.purpose) == ("openai:m", "judge")
    assert (row.requests, row.done, row.failed, row.under_way) == (5, 3, 1, 1)
    assert (row.asked_again, row.attempts, row.unpriced, row.lost) == (1, 7, 1, 0)
    assert (row.prompt_tokens, row.completion_tokens) == (30, 15)
    assert (row.cached_tokens, row.reasoning_tokens) == (12, 6)
    assert row.cost_usd == row.spent_usd == project.costs.spent_usd() == 0.75


def test_judges_runs_and_rounds_can_be_told_apart_and_summed(project: Project) -> None:
    for number in (0, 1):
        run = project.runs.find_or_create(f"judge:r{number}", Stage.JUDGE, round_number=number)
        for model, cost in (("a", 1.0), ("b", 0.25)):
            key = f"{number}:{model}"
            _begin(project, key, run.id, model=model)
            _complete(project, key, cost)
    _begin(project, "chat", None, model="a")
    _complete(project, "chat", 4.0)

    rows = project.costs.rows()
    by_service = total_by(rows, lambda row: row.service)
    assert {name: total.cost_usd for name, total in by_service.items()} == {
        "openai:a": 6.0,
        "openai:b": 0.5,
    }
    by_round = total_by(rows, lambda row: row.round)
    assert {name: total.requests for name, total in by_round.items()} == {None: 1, 0: 2, 1: 2}
    assert CostTotal.of(rows).cost_usd == project.costs.spent_usd() == 6.5
    second = project.runs.by_key("judge:r1")
    assert second is not None
    assert [row.round for row in project.costs.rows(second.id)] == [1, 1]


def test_calls_for_forecasts_are_the_answered_ones_of_a_service_newest_first(
    project: Project,
) -> None:
    begun = project.runs.find_or_create("judge:a", Stage.JUDGE)
    project.runs.start(begun.id, {})
    pilot = project.runs.find_or_create("judge:b", Stage.JUDGE)
    for key, run_id, cost in (("1", begun.id, 0.1), ("2", pilot.id, 0.2), ("3", None, 0.3)):
        _begin(project, key, run_id)
        _complete(project, key, cost)
    _begin(project, "under way", begun.id)
    _begin(project, "again", begun.id, attempt=1)
    _complete(project, "again", 0.4)
    calls = project.costs.calls("openai", "m", "judge")
    assert [call.cost_usd for call in calls] == [0.4, 0.3, 0.2, 0.1]
    assert [call.is_pilot for call in calls] == [False, False, True, False]
    assert calls[0].tokens == TokenCounts(prompt=10, completion=5, cached=4, reasoning=2)
    assert len(project.costs.calls("openai", "m", "judge", limit=1)) == 1
    assert project.costs.calls("openai", "m", "answer") == []
    assert project.costs.answered() == {("judge:a", "openai:m"): 1, ("judge:b", "openai:m"): 1}


def test_losses_and_batches_are_counted_with_what_they_may_have_cost(project: Project) -> None:
    run = project.runs.find_or_create("judge:a", Stage.JUDGE)

    def begin_again() -> None:
        project.replies.begin(
            "k",
            run_id=run.id,
            provider="openai",
            model="m",
            purpose="judge",
            request={"messages": []},
            lost_usd=0.25,
        )

    begin_again()
    begin_again()
    assert project.costs.spent_usd() == 0.25
    _complete(project, "k", 0.125)
    project.batches.note(
        "label",
        run_id=run.id,
        provider="openai",
        base_url="",
        model="m",
        requests=[("in batch", "judge", {"messages": []})],
    )
    (row,) = project.costs.rows()
    assert (row.lost, row.lost_usd, row.cost_usd) == (1, 0.25, 0.125)
    assert row.spent_usd == project.costs.spent_usd() == 0.375
    assert (row.under_way, row.batched) == (1, 1)
    _complete(project, "in batch", 0.5)
    (row,) = project.costs.rows()
    assert (row.done, row.under_way, row.batched) == (2, 0, 1)
    calls = project.costs.calls("openai", "m", "judge")
    assert [call.latency_s for call in calls] == [None, 0.1], "a batch's wait is no latency"
