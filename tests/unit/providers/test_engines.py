"""Tests of the choice between live requests and batches, and of the names batches get."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, Stage
from llamaduo_gui.providers import batch_engine
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.batch_calls import BatchPace
from llamaduo_gui.providers.batch_engine import BatchEngine
from llamaduo_gui.providers.batch_label import make_label, read_label
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.providers.engines import make_engine
from llamaduo_gui.providers.ledger import StoredReply
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project
from tests.fakes.scripted_batches import ScriptedBatches


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as it:
        yield it


def service(provider: str = "anthropic", **changes: Any) -> ServiceConfig:
    return ServiceConfig(provider=provider, model="m", **changes)


def context() -> JobContext:
    return JobContext(emit=lambda _event: None)


def test_the_mode_of_the_service_chooses_the_engine(project: Project) -> None:
    remote = ScriptedBatches()
    made = make_engine(remote, service(mode="batch"), project, None, context())
    assert isinstance(made, BatchEngine)
    offline = service("offline")
    made = make_engine(make_provider(offline, {}), offline, project, None, context())
    assert isinstance(made, RequestEngine)


def test_batch_mode_without_a_batch_api_says_what_to_do(project: Project) -> None:
    offline = service("offline", mode="batch")
    with pytest.raises(ConfigError) as caught:
        make_engine(make_provider(offline, {}), offline, project, None, context())
    assert str(caught.value) == (
        "offline:m cannot answer in batches: set `mode: live` for it, or choose openai, anthropic "
        "or gemini."
    )


def test_a_run_that_goes_back_to_live_pays_for_nothing_twice(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = BatchPace(first_poll_s=0.01, longest_poll_s=0.02, gather_s=0.02)
    monkeypatch.setattr(batch_engine, "PACE", pace)
    run_id = project.runs.find_or_create("run", Stage.JUDGE).id
    remote = ScriptedBatches(polls=0)

    class Stopped(BaseException):
        pass

    requests = [
        (ChatRequest.for_service(service(), (Message("user", f"q{number}"),), "judge"), number)
        for number in range(4)
    ]

    def stop(_tag: int, _reply: StoredReply) -> None:
        raise Stopped

    batching = make_engine(remote, service(mode="batch"), project, run_id, context())
    with pytest.raises(Stopped):
        batching.run_blocking(requests, stop)
    told: dict[int, str] = {}
    live = make_engine(remote, service(), project, run_id, context())
    stats = live.run_blocking(requests, lambda tag, reply: told.update({tag: reply.text}))
    assert told == {number: f"echo q{number}" for number in range(4)}
    assert set(remote.paid.values()) == {1}
    assert (stats.from_store, remote.calls["close"]) == (4, 2)


def test_a_label_is_unique_short_and_tells_when_and_how_many() -> None:
    first, second = make_label(400), make_label(400)
    assert first != second
    assert len(first) <= 64
    assert set(first) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    facts = read_label(first)
    assert facts is not None
    assert facts.total == 400
    assert abs(facts.made_at - time.time()) < 5
    assert read_label("run-7_part-1") is None
