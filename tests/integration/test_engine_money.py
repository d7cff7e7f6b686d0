"""Tests of what the request engine does with money and shared limits, over real HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.config import PipelineConfig, PriceConfig
from llamaduo_gui.core.errors import (
    BudgetReachedError,
    FatalProviderError,
    JobCancelledError,
)
from llamaduo_gui.core.events import Log
from llamaduo_gui.providers.base import ChatRequest, Reply
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.providers.ledger import StoredReply
from llamaduo_gui.providers.limits import shared_limiter
from llamaduo_gui.providers.pricing import estimate_usd
from llamaduo_gui.store.project import Project
from tests.asker import PAIRS, Asker
from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI, Settings

PRICE = PriceConfig(input=1000, output=2000)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(), Answers(known=dict(PAIRS))) as it:
        yield it


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as it:
        yield it


class Gate:
    """A provider whose replies come when the test says so; request 0 fails for good."""

    name = "gate"

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.opened = asyncio.Event()
        self.asked: list[str] = []

    async def complete(self, request: ChatRequest) -> Reply:
        text = request.messages[-1].content
        self.asked.append(text)
        if self.fault is not None and text == PAIRS[0][0]:
            await asyncio.sleep(0.1)  # the others are under way by then
            raise self.fault
        await self.opened.wait()
        return Reply(dict(PAIRS)[text], prompt_tokens=10, completion_tokens=10)

    async def close(self) -> None:
        """Nothing is held open."""


def gated(asker: Asker, gate: Gate) -> RequestEngine:
    return RequestEngine(gate, asker.service, asker.project.replies, None, asker.context)  # type: ignore[arg-type]


def test_when_nothing_can_succeed_what_is_under_way_is_still_waited_for(
    project: Project, server: FakeOpenAI
) -> None:
    asker = Asker(project, server, concurrency=4, max_rpm=60_000)

    async def run() -> None:
        gate = Gate(FatalProviderError("no credit is left"))
        # Later than a stop by the user would wait.
        asyncio.get_running_loop().call_later(1.2, gate.opened.set)
        with pytest.raises(FatalProviderError, match="no credit"):
            await gated(asker, gate).run(asker.requests(100), asker.take)
        assert len(gate.asked) <= 4

    asyncio.run(run())
    answered = [number for number, reply in asker.replies.items() if reply.reply]
    assert 1 <= len(answered) <= 3
    assert project.replies.usage().requests == len(answered) + 1
    assert project.replies.lost_count() == 0


def test_a_stop_by_the_user_cuts_that_wait_short(project: Project, server: FakeOpenAI) -> None:
    asker = Asker(project, server, concurrency=4, max_rpm=60_000, price=PRICE)
    started = time.monotonic()

    async def run() -> None:
        gate = Gate(FatalProviderError("no credit is left"))
        asyncio.get_running_loop().call_later(0.3, asker.context.cancel_requested.set)
        with pytest.raises(FatalProviderError, match="no credit"):
            await gated(asker, gate).run(asker.requests(100), asker.take)

    asyncio.run(run())
    assert time.monotonic() - started < 2.5, "and not for ever"
    lost = project.replies.lost_count()
    assert lost >= 1
    assert project.replies.usage().lost_usd > 0


def test_a_reply_that_comes_in_the_moment_after_a_stop_is_stored(
    project: Project, server: FakeOpenAI
) -> None:
    asker = Asker(project, server, concurrency=6, max_rpm=60_000)

    async def run() -> int:
        gate = Gate()
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, asker.context.cancel_requested.set)
        loop.call_later(0.5, gate.opened.set)
        with pytest.raises(JobCancelledError):
            await gated(asker, gate).run(asker.requests(100), asker.take)
        return len(gate.asked)

    asked = asyncio.run(run())
    assert asked == 6
    asker.assert_all_right(6)
    assert project.replies.lost_count() == 0


def test_a_run_that_is_stopped_from_outside_twice_still_stores_what_is_under_way(
    project: Project, server: FakeOpenAI
) -> None:
    asker = Asker(project, server, concurrency=3, max_rpm=60_000)

    async def run() -> None:
        gate = Gate()
        running = asyncio.create_task(gated(asker, gate).run(asker.requests(100), asker.take))
        while len(gate.asked) < 3:
            await asyncio.sleep(0.01)
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0.1)
        assert not running.done()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(run())
    asker.assert_all_right(3)
    assert project.replies.lost_count() == 0


def test_what_a_stop_drops_is_counted_with_its_cost_at_once(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.script = ["hang"] * 3
    asker = Asker(project, server, concurrency=3, timeout_s=60, price=PRICE)

    def stop_when_sent() -> None:
        deadline = time.monotonic() + 20
        while server.open_requests < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        asker.context.cancel_requested.set()

    stopper = threading.Thread(target=stop_when_sent)
    stopper.start()
    with pytest.raises(JobCancelledError):
        asker.ask(10)
    stopper.join()
    most = [estimate_usd(asker.service, asker.request(number)) for number in range(3)]
    assert project.replies.usage().lost_in_flight == 3
    assert project.replies.usage().lost_usd == pytest.approx(sum(usd or 0 for usd in most))
    assert project.costs.spent_usd() == pytest.approx(project.replies.usage().lost_usd)


def test_what_a_dead_process_had_under_way_is_counted_with_its_cost(
    project: Project, server: FakeOpenAI
) -> None:
    asker = Asker(project, server, price=PRICE)
    for number in (0, 1):
        request = asker.request(number)
        project.replies.begin(
            request.key(),
            run_id=None,
            provider=request.provider,
            model=request.model,
            purpose=request.purpose,
            request=request.content(),
        )
    stats = asker.ask(3)
    most = sum(estimate_usd(asker.service, asker.request(number)) or 0 for number in (0, 1))
    assert (stats.lost, stats.lost_usd) == (2, pytest.approx(most))
    usage = project.replies.usage()
    assert (usage.lost_in_flight, usage.lost_usd) == (2, pytest.approx(most))
    assert asker.ask_again(3).lost == 0
    assert project.replies.usage().lost_in_flight == 2


def test_a_reply_that_broke_on_the_way_is_a_loss_and_is_asked_for_again(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.script = ["truncated"]
    asker = with_budget(project, server, 50.0)
    stats = asker.ask(3)
    asker.assert_all_right(3)
    assert (stats.lost, stats.retried, project.replies.lost_count()) == (1, 1, 1)
    usage = project.replies.usage()
    assert stats.lost_usd == usage.lost_usd > 0
    assert asker.context.budget is not None
    assert asker.context.budget.spent_usd == pytest.approx(usage.cost_usd + usage.lost_usd)
    assert asker.context.budget.reserved_usd == 0


def test_a_retry_is_no_loss(project: Project, server: FakeOpenAI) -> None:
    server.settings.script = ["server_error", "rate_limit"]
    server.settings.retry_after_s = 0.1
    Asker(project, server, concurrency=1, price=PRICE).ask(3)
    usage = project.replies.usage()
    assert (usage.lost_in_flight, usage.lost_usd) == (0, 0.0)


def test_every_reply_has_its_cost(project: Project, server: FakeOpenAI) -> None:
    asker = Asker(project, server, price=PRICE)
    asker.ask(5)
    usage = project.replies.usage()
    dollars = (usage.prompt_tokens * PRICE.input + usage.completion_tokens * PRICE.output) / 1e6
    assert usage.cost_usd == pytest.approx(dollars)
    assert dollars > 0
    told = [reply.reply.cost_usd for reply in asker.replies.values() if reply.reply]
    assert sum(usd or 0 for usd in told) == pytest.approx(dollars)


def with_budget(project: Project, server: FakeOpenAI, usd: float, **settings: Any) -> Asker:
    asker = Asker(project, server, price=PRICE, max_tokens=20, **settings)
    asker.context.budget = Budget(usd, project.costs.spent_usd)
    return asker


def test_the_budget_stops_before_the_call_that_would_cross_it_and_resumes_when_raised(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.latency_s = 0.1
    asker = with_budget(project, server, 1.0, concurrency=8)
    with pytest.raises(BudgetReachedError, match=r"The budget of \$1.00 is reached"):
        asker.ask(100)
    spent = project.costs.spent_usd()
    most = estimate_usd(asker.service, asker.request(50)) or 0.0
    assert 1.0 - most < spent <= 1.0, "used to the last call that fits, and not crossed"
    assert len(asker.replies) == server.delivered.total() > 0, "what was under way is stored"
    assert project.replies.lost_count() == 0
    stored = len(asker.replies)
    again = with_budget(project, server, 20.0)
    stats = again.ask(100)
    again.assert_all_right(100)
    assert stats.from_store == stored
    assert set(server.delivered.values()) == {1}


def test_retries_hold_no_money_back(project: Project, server: FakeOpenAI) -> None:
    server.settings.script = ["rate_limit", "server_error", "content_filter"]
    server.settings.retry_after_s = 0.1
    asker = with_budget(project, server, 5.0, concurrency=1)
    asker.ask(4)
    assert asker.context.budget is not None
    assert asker.context.budget.reserved_usd == 0


def test_a_request_larger_than_a_whole_minutes_tokens_is_refused_with_a_sentence(
    project: Project, server: FakeOpenAI
) -> None:
    asker = Asker(project, server, max_tpm=600, max_tokens=100)
    small, large = asker.request(0), asker.request(1)
    large = ChatRequest.for_service(
        asker.service, (large.messages[0].__class__("user", "word " * 1000),), "answer"
    )
    outcomes: dict[int, StoredReply] = {}

    def take(tag: int, outcome: StoredReply) -> None:
        outcomes[tag] = outcome

    stats = asker.engine().run_blocking([(large, 1), (small, 0)], take)
    assert outcomes[0].text == "answer 0"
    assert "600 tokens a minute" in outcomes[1].error
    assert outcomes[1].error.endswith("raise max_tpm or shorten the record.")
    assert (stats.sent, stats.failed, len(server.log)) == (1, 1, 1)


def test_tokens_a_minute_are_kept_without_a_429(project: Project, server: FakeOpenAI) -> None:
    server.settings.max_tpm = 12_000
    asker = Asker(project, server, max_tpm=12_000, max_tokens=40)
    started = time.monotonic()
    stats = asker.ask(60)
    asker.assert_all_right(60)
    usage = project.replies.usage()
    tokens = usage.prompt_tokens + usage.completion_tokens
    assert stats.rate_limited <= 1
    assert tokens / (time.monotonic() - started) * 60 <= 1.2 * 12_000


def test_a_teacher_that_is_also_a_judge_shares_one_limit(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.max_rpm = 1200
    askers = [Asker(project, server, max_rpm=1200, concurrency=8) for _ in range(2)]
    # Different questions: equal ones would be answered from the database.
    lists = [
        [(askers[0].request(n), n) for n in range(30)],
        [(askers[1].request(n), n) for n in range(30, 60)],
    ]

    both_ready = threading.Barrier(2)

    def requests(place: int) -> Iterator[tuple[ChatRequest, int]]:
        both_ready.wait(20)
        yield from lists[place]

    def run(place: int) -> None:
        askers[place].engine().run_blocking(requests(place), askers[place].take)

    started = time.monotonic()
    threads = [threading.Thread(target=run, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert time.monotonic() - started >= 2.6
    assert [len(asker.replies) for asker in askers] == [30, 30]
    assert server.counts().get("status_429", 0) <= 2, "on a machine that stops and starts"
    asked = [entry.body["messages"][0]["content"] for entry in server.log]
    first = [{PAIRS[n][0] for _, n in part} for part in lists]
    both_since = max(min(asked.index(text) for text in texts) for texts in first)
    together = asked[both_since : both_since + 10]
    assert len(together) == 10
    assert sum(text in first[0] for text in together) in range(3, 8), "they take turns"


def test_what_one_stage_learns_of_a_limit_the_next_one_knows(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.max_rpm = 1200
    server.settings.tells_limits = True
    first = Asker(project, server, concurrency=16)
    stats = first.ask(40)
    assert stats.rate_limited == 0, "few were sent before the limit was known"
    assert shared_limiter(first.service).rpm == pytest.approx(1200 * 0.99)
    second = Asker(project, server, concurrency=16)
    second.engine().run_blocking([(second.request(n), n) for n in range(40, 80)], second.take)
    times = [entry.at for entry in server.log[40:]]
    busiest = max(sum(1 for at in times if start <= at < start + 0.5) for start in times)
    assert busiest <= 20, "ten in half a second, and what was late"
    told = [event.text for event in first.events if isinstance(event, Log)]
    assert told == []
