"""Tests of Claude through the request engine: real SDK, real HTTP, real project database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import FatalProviderError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers import faults
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.providers.ledger import EngineStats, StoredReply
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project
from tests.anthropic_requests import KEY, SCHEMA, service_of
from tests.fakes.answers import Answers
from tests.fakes.anthropic_faults import Fault
from tests.fakes.anthropic_server import PASSING_FAULTS, FakeAnthropic, Settings

PAIRS = {f"question number {n}": f"answer {n}" for n in range(100)}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAnthropic]:
    monkeypatch.setattr(faults, "FIRST_BACKOFF_S", 0.02)
    with FakeAnthropic(Settings(key=KEY), Answers(known=PAIRS)) as it:
        yield it


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as it:
        yield it


def ask_all(
    project: Project, server: FakeAnthropic, count: int, model: str = "claude-fake", **changes: Any
) -> tuple[EngineStats, dict[str, StoredReply]]:
    """Ask the first questions the way a stage does; the outcomes by question."""
    service = service_of(server, model=model, timeout_s=10)
    provider = make_provider(service, {"anthropic": KEY})
    engine = RequestEngine(
        provider, service, project.replies, None, JobContext(emit=lambda _event: None)
    )
    requests = [
        (ChatRequest.for_service(service, (Message("user", text),), "judge", **changes), text)
        for text in list(PAIRS)[:count]
    ]
    found: dict[str, StoredReply] = {}

    def take(text: str, reply: StoredReply) -> None:
        assert text not in found, "told once"
        found[text] = reply

    return engine.run_blocking(requests, take), found


def assert_all_right(found: dict[str, StoredReply], count: int) -> None:
    assert {text: reply.text for text, reply in found.items()} == dict(list(PAIRS.items())[:count])


def test_faults_are_retried_and_nothing_is_asked_twice(
    project: Project, server: FakeAnthropic
) -> None:
    spoilt: tuple[Fault, ...] = ("malformed_json", "error_in_200", "timeout")
    server.settings.faults = dict.fromkeys((*PASSING_FAULTS, *spoilt), 0.03)
    stats, found = ask_all(project, server, 100)
    assert_all_right(found, 100)
    assert stats.retried == stats.sent - 100 > 5
    assert set(server.delivered.values()) == {1}
    assert project.replies.lost_count() == stats.lost, "spoilt replies may have been paid"
    again, found = ask_all(project, server, 100)
    assert_all_right(found, 100)
    assert (again.from_store, again.sent) == (100, 0)


def test_a_model_that_takes_nothing_special_is_asked_plainly_after_a_few_refusals(
    project: Project, server: FakeAnthropic
) -> None:
    server.settings.structured = "plain"
    server.settings.refuses_temperature = True
    stats, found = ask_all(project, server, 40, temperature=0.7, reply_schema=SCHEMA)
    assert_all_right(found, 40)
    assert stats.failed == 0
    assert stats.retried <= 3 * 8, "each of the three ways only by those under way together"
    assert set(server.delivered.values()) == {1}


def test_an_unknown_limit_is_found_with_few_refusals(
    project: Project, server: FakeAnthropic
) -> None:
    server.settings.max_rpm = 1200
    server.settings.retry_after_s = 0.2
    stats, found = ask_all(project, server, 60)
    assert_all_right(found, 60)
    assert stats.rate_limited < 30


@pytest.mark.parametrize("fault", ["no_credit", "own_spend_limit", "tier_spend_limit", "forbidden"])
def test_what_no_waiting_helps_against_stops_the_run_at_once(
    project: Project, server: FakeAnthropic, fault: Fault
) -> None:
    server.settings.faults = {fault: 1.0}
    with pytest.raises(FatalProviderError, match=r"^anthropic:claude-fake "):
        ask_all(project, server, 100)
    assert len(server.log) <= 10


def test_a_retired_model_stops_the_run_by_name(project: Project, server: FakeAnthropic) -> None:
    server.settings.models = ("claude-fake",)
    with pytest.raises(FatalProviderError, match="claude-3-sonnet-20240229 has left service"):
        ask_all(project, server, 5, model="claude-3-sonnet-20240229")


def test_tokens_of_every_kind_are_stored(project: Project, server: FakeAnthropic) -> None:
    server.settings.cached_tokens = 2
    server.settings.cache_write_tokens = 1
    server.settings.thinking_tokens = 30
    _, found = ask_all(project, server, 1)
    row = project.replies.find(next(iter(found.values())).key)
    assert row is not None
    assert (row.prompt_tokens, row.cached_tokens, row.cache_write_tokens) == (5, 2, 1)
    assert (row.completion_tokens, row.reasoning_tokens) == (33, 30)
