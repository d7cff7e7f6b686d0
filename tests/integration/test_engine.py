"""Tests of the request engine: real SDK, real HTTP on loopback, real project database."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import FatalProviderError, JobCancelledError
from llamaduo_gui.core.events import Log
from llamaduo_gui.core.service_settings import LimitConfig, set_own_limits
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers import faults
from llamaduo_gui.providers.base import ChatRequest, ReplySchema
from llamaduo_gui.providers.ledger import StoredReply
from llamaduo_gui.store.project import Project
from tests.asker import PAIRS, Asker
from tests.fakes.answers import Answers
from tests.fakes.openai_server import PASSING_FAULTS, FakeOpenAI, Settings


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(), Answers(known=dict(PAIRS))) as it:
        yield it


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as it:
        yield it


def test_every_request_is_answered_and_stored_before_it_counts(
    project: Project, server: FakeOpenAI
) -> None:
    asker = Asker(project, server)
    stats = asker.ask(50)
    asker.assert_all_right(50)
    assert (stats.sent, stats.done, stats.failed, stats.retried) == (50, 50, 0, 0)
    usage = project.replies.usage()
    assert (usage.requests, usage.failed, usage.attempts) == (50, 0, 50)
    assert usage.prompt_tokens > 0


def test_what_is_stored_is_not_asked_for_again(project: Project, server: FakeOpenAI) -> None:
    Asker(project, server).ask(20)
    again = Asker(project, server)
    stats = again.ask(30)
    again.assert_all_right(30)
    assert (stats.from_store, stats.sent) == (20, 10)
    assert set(server.delivered.values()) == {1}
    assert [again.replies[number].is_from_store for number in (0, 29)] == [True, False]


def test_no_more_requests_are_open_than_allowed(project: Project, server: FakeOpenAI) -> None:
    server.settings.latency_s = 0.05
    Asker(project, server, concurrency=4).ask(40)
    assert server.most_open == 4


def test_the_users_own_limits_hold_where_the_project_sets_none(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.latency_s = 0.05
    set_own_limits("openai_compatible:fake-model", LimitConfig(max_rpm=1200, concurrency=2))
    asker = Asker(project, server)
    started = time.monotonic()
    asker.ask(30)
    assert time.monotonic() - started >= 1.15, "a twentieth of a second apart, less what was late"
    assert server.most_open <= 2


def test_requests_leave_evenly_and_run_into_no_limit(project: Project, server: FakeOpenAI) -> None:
    server.settings.max_rpm = 1200
    asker = Asker(project, server, max_rpm=1200)
    started = time.monotonic()
    stats = asker.ask(60)
    assert stats.rate_limited == 0
    assert 2.7 <= time.monotonic() - started <= 6
    times = [entry.at for entry in server.log]
    busiest_s = max(sum(1 for at in times if start <= at < start + 0.5) for start in times)
    assert busiest_s <= 20, "ten in half a second, and what was late"


def test_faults_are_retried_and_nothing_is_lost(
    project: Project, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "FIRST_BACKOFF_S", 0.05)
    server.settings.faults = dict.fromkeys((*PASSING_FAULTS, "malformed_json"), 0.04)
    asker = Asker(project, server)
    stats = asker.ask(120)
    asker.assert_all_right(120)
    assert stats.retried == stats.sent - 120 > 5
    assert set(server.delivered.values()) == {1}
    spoilt = sum(entry.fault in ("drop", "truncated", "malformed_json") for entry in server.log)
    assert project.replies.lost_count() == stats.lost == spoilt > 0, "they may have been paid"


def test_a_429_holds_everybody_back_for_as_long_as_it_says(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.script = [None] * 10 + ["rate_limit"]
    server.settings.retry_after_s = 1.0
    asker = Asker(project, server, concurrency=2, max_rpm=3000)
    stats = asker.ask(40)
    asker.assert_all_right(40)
    assert stats.rate_limited == 1
    limited_at = next(entry.at for entry in server.log if entry.status == 429)
    later = [entry.at - limited_at for entry in server.log if entry.at > limited_at]
    assert sum(1 for wait in later if wait < 0.9) <= 1, "only what was under way already"
    told = [event.text for event in asker.events if isinstance(event, Log)]
    assert len(told) == 1
    assert "fewer requests (429" in told[0]
    assert told[0].endswith("Waiting 1 s.")


def test_an_unknown_limit_is_found_by_slowing_down(project: Project, server: FakeOpenAI) -> None:
    server.settings.max_rpm = 1200
    server.settings.retry_after_s = 0.2
    asker = Asker(project, server, concurrency=8)
    stats = asker.ask(100)
    asker.assert_all_right(100)
    assert 0 < stats.rate_limited < 40


def test_a_rejected_request_is_told_and_the_rest_goes_on(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.script = [None, "content_filter", None]
    asker = Asker(project, server, concurrency=1)
    stats = asker.ask(5)
    assert stats.failed == 1
    assert "content filter" in asker.replies[1].error
    assert asker.replies[1].reply is None
    assert [asker.replies[number].error for number in (0, 2, 3, 4)] == [""] * 4


def test_a_rejected_request_is_asked_again_by_the_next_run(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.script = ["bad_request"]
    Asker(project, server, concurrency=1).ask(3)
    again = Asker(project, server)
    stats = again.ask(3)
    again.assert_all_right(3)
    assert (stats.from_store, stats.sent) == (2, 1)


def test_a_request_that_never_succeeds_is_given_up_with_its_last_fault(
    project: Project, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "FIRST_BACKOFF_S", 0.01)
    server.settings.script = ["server_error"] * faults.MAX_FAULTS
    asker = Asker(project, server, concurrency=1)
    stats = asker.ask(1)
    assert (stats.sent, stats.failed) == (faults.MAX_FAULTS, 1)
    assert "passing fault (500" in asker.replies[0].error


def test_equal_requests_are_sent_once_and_answered_for_each(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.latency_s = 0.05
    asker = Asker(project, server)
    request = asker.request(0)
    stats = asker.engine().run_blocking([(request, tag) for tag in range(5)], asker.take)
    assert [asker.replies[tag].text for tag in range(5)] == ["answer 0"] * 5
    assert (stats.sent, len(server.log)) == (1, 1)


def test_a_reply_that_cannot_be_used_is_asked_for_again_under_the_same_tag(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.script = ["malformed_content"]
    asker = Asker(project, server, concurrency=1)
    seen: list[tuple[int, str]] = []

    def take(tag: int, reply: StoredReply) -> ChatRequest | None:
        seen.append((tag, reply.text))
        return reply.request.again() if reply.text.startswith("Certainly") else None

    asker.engine().run_blocking(asker.requests(2), take)
    assert seen[0][1].startswith("Certainly")
    assert sorted(seen[1:]) == [(0, "answer 0"), (1, "answer 1")]
    assert project.replies.usage().requests == 3, "the unusable reply was paid for: it is kept"


def test_a_schema_is_dropped_where_it_is_not_taken(project: Project, server: FakeOpenAI) -> None:
    server.settings.structured = "plain"
    asker = Asker(project, server, concurrency=4)
    schema = ReplySchema("s", {"type": "object"})
    requests = [
        (
            ChatRequest.for_service(
                asker.service, (Message("user", PAIRS[n][0]),), "judge", reply_schema=schema
            ),
            n,
        )
        for n in range(20)
    ]
    stats = asker.engine().run_blocking(requests, asker.take)
    asker.assert_all_right(20)
    assert stats.failed == 0
    assert stats.retried <= 8, "two steps for each of the four that were under way"


def test_a_source_may_wait_for_replies(project: Project, server: FakeOpenAI) -> None:
    asker = Asker(project, server, concurrency=4)
    server.settings.script = [None, "server_error"]
    news = asyncio.Event()

    async def waves() -> AsyncIterator[tuple[ChatRequest, int]]:
        for wave in range(3):
            for number in range(4 * wave, 4 * wave + 4):
                yield asker.request(number), number
            while len(asker.replies) < 4 * wave + 4:
                news.clear()
                await news.wait()

    def take(tag: int, reply: StoredReply) -> ChatRequest | None:
        news.set()
        return asker.take(tag, reply)

    asker.engine().run_blocking(waves(), take)
    asker.assert_all_right(12)


def test_a_wrong_key_stops_everything_with_one_sentence(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.key = "another"
    asker = Asker(project, server, concurrency=4)
    with pytest.raises(FatalProviderError, match=r"did not accept the API key \(401\)"):
        asker.ask(100)
    assert len(server.log) == 0
    assert len(asker.replies) <= 4
    assert project.replies.lost_count() == 0


def test_an_endpoint_that_is_down_stops_the_run(
    project: Project, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "UNREACHABLE_PATIENCE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    asker = Asker(project, server, base_url=f"http://127.0.0.1:{port}/v1")
    with pytest.raises(FatalProviderError, match="cannot be reached at"):
        asker.ask(20)
    assert asker.replies == {}


def test_an_endpoint_that_is_still_starting_is_waited_for(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = FakeOpenAI(Settings(), Answers(known=dict(PAIRS)), port)
    asker = Asker(project, server)
    starter = threading.Timer(1.0, server.__enter__)
    starter.start()
    try:
        asker.ask(20)
    finally:
        starter.join()
        server.__exit__(None, None, None)
    asker.assert_all_right(20)


def test_a_stop_takes_a_second_and_keeps_what_was_paid(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.latency_s = 0.2
    asker = Asker(project, server, concurrency=8)
    stopped_at = 0.0

    def take(tag: int, reply: StoredReply) -> ChatRequest | None:
        nonlocal stopped_at
        if len(asker.replies) == 20:
            stopped_at = time.monotonic()
            asker.context.cancel_requested.set()
        return asker.take(tag, reply)

    with pytest.raises(JobCancelledError):
        asker.engine().run_blocking(asker.requests(200), take)
    assert time.monotonic() - stopped_at < 1.0
    assert all(entry.at <= stopped_at + 0.1 for entry in server.log), "nothing sent afterwards"
    assert len(asker.replies) == server.delivered.total(), "nothing that was paid is lost"
    again = Asker(project, server)
    stats = again.ask(60)
    again.assert_all_right(60)
    assert stats.from_store == len(asker.replies)
    assert set(server.delivered.values()) == {1}


def test_a_stop_does_not_wait_for_a_server_that_hangs(project: Project, server: FakeOpenAI) -> None:
    server.settings.script = ["hang"] * 4
    asker = Asker(project, server, concurrency=4, timeout_s=60)
    timer = threading.Timer(0.5, asker.context.cancel_requested.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(JobCancelledError):
        asker.ask(10)
    timer.join()
    assert time.monotonic() - started < 1.8
    assert project.replies.lost_count() == 4, "they may have been paid, and are counted"
    again = Asker(project, server)
    stats = again.ask(10)
    again.assert_all_right(10)
    assert stats.lost == 0
    assert project.replies.lost_count() == 4, "once"


def test_a_stop_while_waiting_for_a_limit_is_seen_at_once(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.script = ["rate_limit"]
    server.settings.retry_after_s = 60
    asker = Asker(project, server)
    timer = threading.Timer(0.5, asker.context.cancel_requested.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(JobCancelledError):
        asker.ask(10)
    timer.join()
    assert time.monotonic() - started < 1.5


def test_an_error_of_the_stage_ends_the_run_and_keeps_the_replies(
    project: Project, server: FakeOpenAI
) -> None:
    asker = Asker(project, server, concurrency=2)

    def take(tag: int, _reply: StoredReply) -> ChatRequest | None:
        raise RuntimeError(f"cannot use {tag}")

    with pytest.raises(RuntimeError, match="cannot use"):
        asker.engine().run_blocking(asker.requests(50), take)
    assert 1 <= project.replies.usage().requests == server.delivered.total() <= 4


def test_an_error_of_the_source_ends_the_run(project: Project, server: FakeOpenAI) -> None:
    asker = Asker(project, server)

    def broken() -> Iterator[tuple[ChatRequest, int]]:
        yield asker.request(0), 0
        raise RuntimeError("no more seeds")

    with pytest.raises(RuntimeError, match="no more seeds"):
        asker.engine().run_blocking(broken(), asker.take)
    asker.assert_all_right(1)


CHILD = """
import sys
from pathlib import Path
from llamaduo_gui.store.project import Project
from tests.asker import Asker

class Server:
    url = sys.argv[2]

with Project.open(Path(sys.argv[1])) as project:
    Asker(project, Server(), concurrency=6).ask(200)
"""


def test_after_a_kill_only_what_was_under_way_is_asked_for_again(
    project: Project, server: FakeOpenAI, repository: Path
) -> None:
    server.settings.latency_s = 0.05
    server.settings.faults = {"server_error": 0.05}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(project.folder), server.url], cwd=repository
    )
    deadline = time.monotonic() + 60
    while server.delivered.total() < 60 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    time.sleep(0.2)
    sent_before = len(server.log)
    asker = Asker(project, server)
    rows = [project.replies.find(asker.request(number).key()) for number in range(200)]
    states = Counter(row.state for row in rows if row is not None)
    stats = asker.ask(200)
    asker.assert_all_right(200)
    assert states["done"] >= 50
    assert stats.from_store == states["done"]
    assert stats.lost == states["in_flight"] <= 6
    assert project.replies.lost_count() == states["in_flight"]
    stored = {row.request["messages"][0]["content"] for row in rows if row and row.state == "done"}
    asked = {entry.body["messages"][0]["content"] for entry in server.log[sent_before:]}
    assert not stored & asked, "no stored reply is asked for again"
    assert project.replies.usage().requests == 200, "every reply is there once"
