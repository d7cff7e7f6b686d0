"""Tests of the batches table: noted before it is handed in, and no request forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import Stage, TokenCounts
from llamaduo_gui.store.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "p", PipelineConfig()) as made:
        yield made


def note(project: Project, label: str, *keys: str) -> int:
    return project.batches.note(
        label,
        run_id=None,
        provider="p",
        base_url="",
        model="m",
        requests=[(key, "judge", {"messages": [key]}) for key in keys],
    )


def answer(project: Project, key: str) -> None:
    project.replies.complete(
        key,
        text=f"reply to {key}",
        finish_reason="stop",
        tokens=TokenCounts(prompt=1, completion=1),
        cost_usd=0.5,
        latency_s=0.0,
        attempts=1,
    )


def states(project: Project, *keys: str) -> list[tuple[str, int]]:
    rows = [project.replies.find(key) for key in keys]
    return [(row.state, row.losses) for row in rows if row is not None]


def test_a_noted_batch_is_there_with_its_requests_before_it_has_an_id(project: Project) -> None:
    batch_id = note(project, "one", "a", "b")
    batch = project.batches.get(batch_id)
    assert (batch.label, batch.state, batch.remote_id, batch.total) == ("one", "noted", None, 2)
    assert batch.is_open
    assert project.batches.keys_under_way(batch_id) == {"a", "b"}
    row = project.replies.find("a")
    assert row is not None
    assert (row.state, row.batch_id, row.request) == ("in_batch", batch_id, {"messages": ["a"]})
    with pytest.raises(KeyError):
        project.batches.get(99)


def test_a_batch_that_ends_frees_only_requests_without_a_reply(project: Project) -> None:
    batch_id = note(project, "one", "a", "b")
    project.batches.set_remote(batch_id, "remote-1")
    answer(project, "a")
    project.batches.finish(batch_id, 1)
    batch = project.batches.get(batch_id)
    assert (batch.state, batch.done, batch.remote_id) == ("finished", 1, "remote-1")
    assert batch.finished_at is not None
    assert not batch.is_open
    assert states(project, "a", "b") == [("done", 0), ("failed", 0)]
    assert project.replies.usage().cost_usd == 0.5


def test_the_requests_of_a_failed_batch_go_into_the_next_and_stay_there(project: Project) -> None:
    first = note(project, "one", "a", "b")
    project.batches.fail(first, "too many tokens")
    second = note(project, "two", "b")
    project.batches.fail(first, "too many tokens")
    assert states(project, "a", "b") == [("failed", 0), ("in_batch", 0)]
    assert project.batches.keys_under_way(second) == {"b"}
    assert [batch.state for batch in project.batches.all()] == ["failed", "noted"]


def test_a_lost_batch_counts_each_request_that_has_no_reply(project: Project) -> None:
    batch_id = note(project, "one", "a", "b", "c")
    answer(project, "c")
    project.batches.lose(batch_id, "not found", {"a": 0.25, "b": None, "c": 0.25})
    assert states(project, "a", "b", "c") == [("failed", 1), ("failed", 1), ("done", 0)]
    assert project.replies.lost_count() == 2
    row = project.replies.find("a")
    assert row is not None
    assert row.lost_usd == 0.25
    assert project.batches.get(batch_id).problem == "not found"


def test_noting_keeps_a_reply_that_is_there(project: Project) -> None:
    project.replies.begin("a", run_id=None, provider="p", model="m", purpose="judge", request={})
    answer(project, "a")
    batch_id = note(project, "one", "a", "b")
    assert states(project, "a", "b") == [("done", 0), ("in_batch", 0)]
    assert project.batches.keys_under_way(batch_id) == {"b"}


def test_batches_are_listed_by_run(project: Project) -> None:
    run = project.runs.find_or_create("r", Stage.JUDGE)
    note(project, "one", "a")
    mine = project.batches.note(
        "two", run_id=run.id, provider="p", base_url="", model="m", requests=[("b", "judge", {})]
    )
    project.batches.set_done(mine, 1)
    assert [batch.label for batch in project.batches.all()] == ["one", "two"]
    assert [(batch.id, batch.done) for batch in project.batches.all(run.id)] == [(mine, 1)]
