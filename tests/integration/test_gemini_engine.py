"""Tests of Gemini behind the request engine: real SDK, real HTTP, real project database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.errors import FatalProviderError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest, ReplySchema
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.providers.ledger import EngineStats, StoredReply
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project
from tests.fakes.answers import Answers
from tests.fakes.gemini_server import PASSING_FAULTS, FakeGemini, Settings

KEY = "AIza-marked-0123456789"
PAIRS = [(f"question number {n}", f"answer {n}") for n in range(100)]
SCHEMA = ReplySchema("answer", {"type": "object", "properties": {}})


@pytest.fixture
def server() -> Iterator[FakeGemini]:
    with FakeGemini(Settings(key=KEY, seed=3), Answers(known=dict(PAIRS))) as it:
        yield it


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as it:
        yield it


def ask(
    project: Project,
    server: FakeGemini,
    count: int,
    schema: ReplySchema | None = None,
    **limits: Any,
) -> tuple[EngineStats, dict[int, StoredReply]]:
    """Ask the first questions as a stage does."""
    settings = {"provider": "gemini", "model": "fake-model", "base_url": server.url, **limits}
    service = ServiceConfig(**settings)
    replies: dict[int, StoredReply] = {}

    def requests() -> Iterator[tuple[ChatRequest, int]]:
        for number in range(count):
            message = Message("user", PAIRS[number][0])
            request = ChatRequest.for_service(
                service, (message,), "answer", temperature=0.0, reply_schema=schema
            )
            yield request, number

    def take(number: int, reply: StoredReply) -> None:
        replies[number] = reply

    provider = make_provider(service, {"gemini": KEY})
    context = JobContext(emit=lambda _event: None)
    engine = RequestEngine(provider, service, project.replies, None, context)
    return engine.run_blocking(requests(), take), replies


def assert_all_right(replies: dict[int, StoredReply], count: int) -> None:
    texts = {number: reply.text for number, reply in replies.items()}
    assert texts == {number: PAIRS[number][1] for number in range(count)}


def test_faults_are_got_over_and_no_content_is_delivered_twice(
    project: Project, server: FakeGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llamaduo_gui.providers import faults

    monkeypatch.setattr(faults, "FIRST_BACKOFF_S", 0.01)
    server.settings.faults = dict.fromkeys(PASSING_FAULTS, 0.05)
    stats, replies = ask(project, server, 100)
    assert_all_right(replies, 100)
    assert stats.done == 100
    assert stats.retried > 0, "faults did happen"
    assert set(server.delivered.values()) == {1}
    _, again = ask(project, server, 100)
    assert_all_right(again, 100)
    assert set(server.delivered.values()) == {1}


def test_thoughts_reach_the_database(project: Project, server: FakeGemini) -> None:
    server.settings.thinking_tokens = 50
    ask(project, server, 2)
    usage = project.replies.usage()
    assert usage.completion_tokens == 2 * (50 + 3)


def test_the_pace_of_a_429_is_kept(project: Project, server: FakeGemini) -> None:
    server.settings.script = ["rate_limit"]
    server.settings.max_rpm = 6000
    server.settings.retry_after_s = 0.2
    stats, replies = ask(project, server, 3, concurrency=1)
    assert_all_right(replies, 3)
    assert stats.done == 3
    first, second = server.log[:2]
    assert first.status == 429
    assert second.at - first.at >= 0.2


def test_a_day_without_quota_ends_the_run_with_its_sentence_and_can_be_resumed(
    project: Project, server: FakeGemini
) -> None:
    server.settings.script = [None, None, "daily_quota"]
    with pytest.raises(FatalProviderError, match="used up its quota of 20 requests for today"):
        ask(project, server, 5, concurrency=1)
    assert server.delivered.total() == 2
    _, replies = ask(project, server, 5)
    assert_all_right(replies, 5)
    assert set(server.delivered.values()) == {1}


def test_a_blocked_prompt_is_kept_as_a_reply_and_not_asked_again(
    project: Project, server: FakeGemini
) -> None:
    server.settings.script = ["blocked"]
    _, replies = ask(project, server, 1)
    assert (replies[0].text, replies[0].error) == ("", "")
    assert replies[0].reply is not None
    assert replies[0].reply.finish_reason == "content_filter"
    ask(project, server, 1)
    assert len(server.log) == 1


def test_a_model_without_structured_output_answers_all_the_same(
    project: Project, server: FakeGemini
) -> None:
    server.settings.structured = "plain"
    stats, replies = ask(project, server, 20, SCHEMA)
    assert_all_right(replies, 20)
    assert stats.done == 20
    assert set(server.delivered.values()) == {1}
