"""Tests of the replies table: each request once, its losses counted with their cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import TokenCounts
from llamaduo_gui.store.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as it:
        yield it


def begin(project: Project, key: str, lost_usd: float | None = None) -> None:
    project.replies.begin(
        key,
        run_id=None,
        provider="openai",
        model="m",
        purpose="judge",
        request={},
        lost_usd=lost_usd,
    )


def completion(key: str, **changes: Any) -> dict[str, Any]:
    return {
        "request_key": key,
        "text": f"reply to {key}",
        "finish_reason": "stop",
        "tokens": TokenCounts(10, 5, 4, 2, 1),
        "cost_usd": 0.5,
        "latency_s": 0.1,
        "attempts": 2,
        **changes,
    }


def test_several_replies_stored_together_are_what_they_are_one_by_one(project: Project) -> None:
    for key in "abc":
        begin(project, key)
    project.replies.complete_many([completion("a"), completion("b", cost_usd=None)])
    alone = project.replies.complete(**completion("c"))
    together = project.replies.find("a")
    assert together is not None
    same = ("state", "finish_reason", "cost_usd", "latency_s", "attempts", "error")
    tokens = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens")
    for name in (*same, *tokens, "reasoning_tokens"):
        assert getattr(together, name) == getattr(alone, name), name
    assert (together.text, together.reasoning_tokens) == ("reply to a", 1)
    usage = project.replies.usage()
    assert (usage.requests, usage.unpriced, usage.cost_usd) == (3, 1, 1.0)


def test_a_request_left_in_flight_is_one_loss_with_its_cost(project: Project) -> None:
    begin(project, "a", 0.25)
    assert project.replies.usage().lost_usd == 0, "nothing is lost yet"
    begin(project, "a", 0.25)
    begin(project, "a", 0.25)
    usage = project.replies.usage()
    assert (usage.lost_in_flight, usage.lost_usd) == (2, 0.5)


def test_a_loss_without_a_price_is_counted_and_leaves_the_known_cost(project: Project) -> None:
    begin(project, "a")
    begin(project, "a", None)
    row = project.replies.find("a")
    assert row is not None
    assert (row.losses, row.lost_usd) == (1, None)
    begin(project, "a", 0.25)
    begin(project, "a", None)
    row = project.replies.find("a")
    assert row is not None
    assert (row.losses, row.lost_usd) == (3, 0.25)


def test_a_request_that_was_dropped_is_lost_once_and_one_that_was_answered_never(
    project: Project,
) -> None:
    for key in "ab":
        begin(project, key)
    project.replies.complete_many([completion("a")])
    project.replies.lose({"a": 1.0, "b": 0.25})
    begin(project, "b", 0.25)
    assert project.replies.usage().lost_in_flight == 1
    assert project.replies.usage().lost_usd == 0.25
    row = project.replies.find("a")
    assert row is not None
    assert (row.state, row.losses) == ("done", 0)
