"""Tests of the batch engine: nothing paid twice, nothing lost, whatever happens on the way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.config import PipelineConfig, PriceConfig, ServiceConfig
from llamaduo_gui.core.errors import (
    BudgetReachedError,
    FatalProviderError,
    JobCancelledError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.events import Event, Log
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, Stage
from llamaduo_gui.providers.base import ChatRequest, RateLimitedError, Reply, UnreachableError
from llamaduo_gui.providers.batch_book import MAX_FAULTS
from llamaduo_gui.providers.batch_calls import BatchPace
from llamaduo_gui.providers.batch_engine import BatchEngine
from llamaduo_gui.providers.batch_run import HOPELESS_BATCHES
from llamaduo_gui.providers.ledger import EngineStats, StoredReply
from llamaduo_gui.store.project import Project
from tests.fakes.scripted_batches import Outcome, ScriptedBatches, echo

PACE = BatchPace(
    first_poll_s=0.01,
    longest_poll_s=0.02,
    first_backoff_s=0.005,
    patience_s=0.2,
    appears_within_s=0.0,
    gather_s=0.05,
)
# 1,000 tokens read and 100 written: 0.002 live, half of it in a batch.
PRICE = PriceConfig(input=1.0, output=10.0)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as it:
        yield it


class Asker:
    """Runs the engine the way a stage does and keeps what it is told."""

    def __init__(self, project: Project, remote: ScriptedBatches) -> None:
        self.project = project
        self.remote = remote
        self.service = ServiceConfig(provider="anthropic", model="m", price=PRICE, max_tokens=100)
        self.events: list[Event] = []
        self.context = JobContext(emit=self.events.append)
        self.replies: dict[int, StoredReply] = {}
        self.run_id = project.runs.find_or_create("run", Stage.JUDGE).id

    def request(self, number: int) -> ChatRequest:
        turns = (Message("user", f"question {number}"),)
        return ChatRequest.for_service(self.service, turns, "judge")

    def requests(self, count: int) -> Iterator[tuple[ChatRequest, int]]:
        for number in range(count):
            yield self.request(number), number

    def take(self, number: int, reply: StoredReply) -> ChatRequest | None:
        assert number not in self.replies, "told once"
        self.replies[number] = reply
        row = self.project.replies.find(reply.key)
        assert row is not None
        assert row.state == ("failed" if reply.error else "done"), "stored before it counts"
        return None

    def engine(self, **pace: float) -> BatchEngine:
        return BatchEngine(
            self.remote,
            self.service,
            self.project.replies,
            self.project.batches,
            self.run_id,
            self.context,
            pace=BatchPace(**{**_values(PACE), **pace}),
        )

    def ask(self, count: int, **pace: float) -> EngineStats:
        return self.engine(**pace).run_blocking(self.requests(count), self.take)

    def log(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Log))

    def states(self) -> list[str]:
        return [batch.state for batch in self.project.batches.all()]

    def assert_all_right(self, count: int) -> None:
        texts = {number: reply.text for number, reply in self.replies.items()}
        assert texts == {number: f"echo question {number}" for number in range(count)}

    def assert_paid_once(self, count: int) -> None:
        paid = {number: self.remote.paid[f"question {number}"] for number in range(count)}
        assert set(paid.values()) == {1}


def _values(pace: BatchPace) -> dict[str, float]:
    return {name: getattr(pace, name) for name in BatchPace.__dataclass_fields__}


def fails(number: int, error: ProviderError | None, times: int = 1) -> Any:
    """An answer that gives request `number` this outcome so many times."""
    left = [times]

    def answer(request: ChatRequest) -> Outcome:
        if request.messages[-1].content == f"question {number}" and left[0] > 0:
            left[0] -= 1
            return error
        return echo(request)

    return answer


def test_all_requests_go_in_one_batch_and_every_reply_is_stored_at_half_the_price(
    project: Project,
) -> None:
    asker = Asker(project, ScriptedBatches())
    stats = asker.ask(30)
    asker.assert_all_right(30)
    assert asker.remote.sizes == [30]
    assert (stats.sent, stats.done, stats.failed, stats.retried, stats.lost) == (30, 30, 0, 0, 0)
    usage = project.replies.usage(asker.run_id)
    assert usage.cost_usd == pytest.approx(30 * 0.001)
    assert asker.replies[0].reply is not None
    assert asker.replies[0].reply.cost_usd == pytest.approx(0.001)
    assert (asker.states(), asker.remote.calls["close"]) == (["finished"], 1)
    assert project.batches.all()[0].done == 30


def test_what_is_stored_is_not_handed_in_again(project: Project) -> None:
    first = Asker(project, ScriptedBatches())
    first.ask(20)
    again = Asker(project, first.remote)
    stats = again.ask(30)
    again.assert_all_right(30)
    again.assert_paid_once(30)
    assert (stats.from_store, again.remote.sizes) == (20, [20, 10])


def test_equal_requests_are_handed_in_once_and_answered_for_each_tag(project: Project) -> None:
    asker = Asker(project, ScriptedBatches())
    asker.engine().run_blocking([(asker.request(0), 0), (asker.request(0), 1)], asker.take)
    assert [reply.text for reply in asker.replies.values()] == ["echo question 0"] * 2
    assert asker.remote.sizes == [1]


def test_requests_are_noted_before_they_are_handed_in(project: Project) -> None:
    remote = ScriptedBatches()
    asker = Asker(project, remote)
    noted: list[tuple[str, str | None, set[str]]] = []

    class Watched(ScriptedBatches):
        async def submit_batch(self, requests: Any, label: str) -> str:
            for batch in project.batches.all():
                keys = project.batches.keys_under_way(batch.id)
                noted.append((batch.label, batch.remote_id, keys))
            assert set(requests) == noted[0][2]
            assert label == noted[0][0]
            return await super().submit_batch(requests, label)

    asker.remote = Watched()
    asker.ask(3)
    assert [(remote_id, len(keys)) for _, remote_id, keys in noted] == [(None, 3)]
    assert len(noted[0][0]) <= 64
    assert noted[0][0].replace("-", "").isalnum()


def test_more_requests_than_a_batch_takes_go_in_several_that_run_together(
    project: Project,
) -> None:
    asker = Asker(project, ScriptedBatches(limit=8, polls=3))
    asker.ask(20)
    asker.assert_all_right(20)
    assert asker.remote.sizes == [8, 8, 4]
    assert asker.remote.calls["status"] <= 4 * 3


def test_a_source_that_decides_late_gets_a_batch_for_each_of_its_turns(project: Project) -> None:
    asker = Asker(project, ScriptedBatches())
    news = asyncio.Event()

    async def late() -> AsyncIterator[tuple[ChatRequest, int]]:
        for number in range(8):
            if number == 5:
                await news.wait()
            yield asker.request(number), number

    def take(number: int, reply: StoredReply) -> ChatRequest | None:
        if len(asker.replies) == 4:
            news.set()
        return asker.take(number, reply)

    asker.engine().run_blocking(late(), take)
    asker.assert_all_right(8)
    assert asker.remote.sizes == [5, 3]


def test_further_requests_of_the_stage_go_together_into_the_next_batch(project: Project) -> None:
    asker = Asker(project, ScriptedBatches())

    def take(number: int, reply: StoredReply) -> ChatRequest | None:
        if reply.request.attempt == 0 and number < 4:
            return reply.request.again()
        return asker.take(number, reply)

    asker.engine().run_blocking(asker.requests(10), take)
    assert asker.remote.sizes == [10, 4]
    assert [asker.replies[number].request.attempt for number in range(5)] == [1, 1, 1, 1, 0]


def test_only_what_failed_in_passing_is_handed_in_again(project: Project) -> None:
    error = TransientProviderError("It expired.")
    asker = Asker(project, ScriptedBatches(fails(3, error)))
    stats = asker.ask(10)
    asker.assert_all_right(10)
    asker.assert_paid_once(10)
    assert asker.remote.sizes == [10, 1]
    assert (stats.retried, stats.failed, asker.replies[3].attempts) == (1, 0, 2)


def test_a_request_left_out_of_the_results_is_handed_in_again(project: Project) -> None:
    asker = Asker(project, ScriptedBatches(fails(3, None)))
    asker.ask(10)
    asker.assert_all_right(10)
    asker.assert_paid_once(10)
    assert asker.remote.sizes == [10, 1]


def test_a_request_that_cannot_succeed_is_told_and_not_handed_in_again(project: Project) -> None:
    error = RequestRejectedError("Filtered; leave it out.")
    asker = Asker(project, ScriptedBatches(fails(3, error, times=9)))
    stats = asker.ask(5)
    assert (asker.remote.sizes, stats.failed) == ([5], 1)
    assert (asker.replies[3].reply, asker.replies[3].error) == (None, "Filtered; leave it out.")


def test_a_request_is_given_up_after_some_batches_with_its_last_fault(project: Project) -> None:
    error = TransientProviderError("Overloaded; try again later.")
    asker = Asker(project, ScriptedBatches(fails(3, error, times=99)))
    stats = asker.ask(5)
    assert asker.remote.sizes == [5, *[1] * (MAX_FAULTS - 1)]
    assert (asker.replies[3].error, stats.failed) == (str(error), 1)


def test_polls_become_rarer_up_to_a_limit_and_tell_what_is_answered(project: Project) -> None:
    asker = Asker(project, ScriptedBatches(polls=5))
    started = time.monotonic()
    asker.ask(4, first_poll_s=0.02, longest_poll_s=0.08, growth=2.0)
    assert 0.02 + 0.02 + 0.04 + 3 * 0.08 <= time.monotonic() - started < 2
    assert asker.remote.calls["status"] == 6
    told = [line for line in asker.log().splitlines() if "answered" in line]
    assert told == ["Batch of 4: 2 answered, asked again in 0 s."], "once, for it did not change"


def test_faults_of_the_calls_are_waited_out(project: Project) -> None:
    down = TransientProviderError("The service is overloaded.")
    faults: dict[str, list[ProviderError | None]] = {
        "submit": [RateLimitedError("Too many (429)."), UnreachableError("Not there.")],
        "status": [down, down],
        "results": [down],
    }
    asker = Asker(project, ScriptedBatches(faults=faults))
    asker.ask(6)
    asker.assert_all_right(6)
    asker.assert_paid_once(6)
    assert asker.remote.calls["find"] == 0, "nothing had been handed in"


def test_a_submission_whose_answer_is_lost_is_found_and_not_made_twice(project: Project) -> None:
    lost: list[ProviderError] = [TransientProviderError("The connection broke.")]
    asker = Asker(project, ScriptedBatches(lost_answers=lost))
    asker.ask(6)
    asker.assert_all_right(6)
    asker.assert_paid_once(6)
    assert (asker.remote.calls["submit"], asker.remote.calls["find"]) == (1, 1)


def test_a_service_that_vanishes_while_a_batch_is_handed_in_is_asked_for_it_later(
    project: Project,
) -> None:
    gone: list[ProviderError | None] = [UnreachableError("Not there; check the network.")] * 999
    lost: list[ProviderError] = [TransientProviderError("The connection broke.")]
    remote = ScriptedBatches(lost_answers=lost, faults={"find": gone})
    asker = Asker(project, remote)
    with pytest.raises(FatalProviderError, match="check the network"):
        asker.ask(3)
    assert asker.states() == ["noted"]
    assert "it is looked for when you resume" in asker.log()
    remote.faults.clear()
    stats = asker.ask(3)
    asker.assert_all_right(3)
    asker.assert_paid_once(3)
    assert (stats.lost, stats.sent) == (0, 0)


def test_results_that_break_off_are_read_again_without_counting_twice(project: Project) -> None:
    class Breaking(ScriptedBatches):
        async def batch_results(
            self, batch_id: str
        ) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
            self.calls["results"] += 1
            for count, (key, request) in enumerate(self._get(batch_id).requests.items()):
                if count == 3 and self.calls["results"] == 1:
                    raise TransientProviderError("The connection broke.")
                outcome = self.answer(request)
                assert outcome is not None
                yield key, outcome

    asker = Asker(project, Breaking(fails(1, TransientProviderError("Busy."))))
    stats = asker.ask(6)
    asker.assert_all_right(6)
    assert (stats.done, stats.retried, asker.remote.sizes) == (6, 1, [6, 1])


def test_a_service_that_stays_away_ends_the_run_and_the_batch_is_fetched_later(
    project: Project,
) -> None:
    gone: list[ProviderError | None] = [UnreachableError("Not there; check the network.")] * 99
    remote = ScriptedBatches(faults={"status": gone})
    asker = Asker(project, remote)
    with pytest.raises(FatalProviderError, match="check the network"):
        asker.ask(6)
    assert "fetched when you resume" in asker.log()
    remote.faults.clear()
    again = Asker(project, remote)
    again.ask(6)
    again.assert_all_right(6)
    again.assert_paid_once(6)
    assert remote.sizes == [6]


def test_a_wrong_key_ends_the_run_and_frees_its_requests(project: Project) -> None:
    error = FatalProviderError("The key is wrong; set the right one.")
    asker = Asker(project, ScriptedBatches(faults={"submit": [error]}))
    with pytest.raises(FatalProviderError, match="key is wrong"):
        asker.ask(3)
    assert asker.states() == ["failed"]
    assert "resume" not in asker.log()
    stats = asker.ask(3)
    assert stats.lost == 0
    asker.assert_all_right(3)


def test_a_batch_turned_down_as_a_whole_is_handed_in_by_halves_one_after_the_other(
    project: Project,
) -> None:
    asker = Asker(project, ScriptedBatches(turned_down=["Too many tokens are waiting."]))
    asker.ask(9)
    asker.assert_all_right(9)
    asker.assert_paid_once(9)
    assert asker.remote.sizes == [9, 4, 4, 1]
    assert asker.states() == ["failed", *["finished"] * 3]
    assert "Too many tokens are waiting. Trying half as many." in asker.log()


def test_a_service_that_turns_every_batch_down_ends_the_run_with_its_reason(
    project: Project,
) -> None:
    remote = ScriptedBatches(turned_down=["The model takes no batches."] * 99)
    asker = Asker(project, remote)
    with pytest.raises(FatalProviderError, match="takes no batches"):
        asker.ask(100)
    assert len(remote.sizes) == HOPELESS_BATCHES
    assert project.replies.usage().failed == 100


def test_one_request_that_spoils_its_batch_is_found_and_given_up(project: Project) -> None:
    class Picky(ScriptedBatches):
        async def submit_batch(self, requests: Any, label: str) -> str:
            texts = [request.messages[-1].content for request in requests.values()]
            if "question 5" in texts:
                raise RequestRejectedError("Line 5 is not valid.")
            return await super().submit_batch(requests, label)

    asker = Asker(project, Picky())
    stats = asker.ask(8)
    assert stats.failed == 1
    assert asker.replies[5].error == "Line 5 is not valid."
    assert len(asker.replies) == 8


def test_a_batch_cancelled_at_the_service_keeps_what_was_answered_and_stops(
    project: Project,
) -> None:
    remote = ScriptedBatches(fails(3, None), polls=0)

    class Cancelled(ScriptedBatches):
        async def submit_batch(self, requests: Any, label: str) -> str:
            remote_id = await super().submit_batch(requests, label)
            self.batches[remote_id].is_cancelled = len(self.batches) == 1
            return remote_id

    asker = Asker(project, Cancelled(remote.answer, polls=0))
    with pytest.raises(FatalProviderError, match="was cancelled there"):
        asker.ask(5)
    assert len(asker.replies) == 4
    again = Asker(project, asker.remote)
    again.ask(5)
    again.assert_all_right(5)
    again.assert_paid_once(5)


def test_a_stop_is_seen_within_a_second_and_the_batch_goes_on(project: Project) -> None:
    remote = ScriptedBatches(polls=2)
    asker = Asker(project, remote)
    timer = threading.Timer(0.2, asker.context.cancel_requested.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(JobCancelledError):
        asker.ask(400, first_poll_s=60.0)
    timer.join()
    assert time.monotonic() - started < 1.0
    assert (
        "The batch of 400 requests goes on at the service; its results are fetched when you resume."
        in asker.log()
    )
    again = Asker(project, remote)
    stats = again.ask(400)
    again.assert_all_right(400)
    again.assert_paid_once(400)
    assert (remote.sizes, stats.lost, stats.sent) == ([400], 0, 0)


def test_a_stop_while_a_batch_is_handed_in_waits_a_moment_for_its_id(project: Project) -> None:
    class Slow(ScriptedBatches):
        async def submit_batch(self, requests: Any, label: str) -> str:
            asker.context.cancel_requested.set()
            await asyncio.sleep(0.3)
            return await super().submit_batch(requests, label)

    asker = Asker(project, Slow())
    with pytest.raises(JobCancelledError):
        asker.ask(3)
    assert [batch.remote_id for batch in project.batches.all()] == ["remote-0"]
    asker.context.cancel_requested.clear()
    asker.ask(3)
    asker.assert_all_right(3)
    asker.assert_paid_once(3)


def test_a_batch_that_may_have_been_handed_in_is_found_by_its_label(project: Project) -> None:
    asker = Asker(project, ScriptedBatches())
    kill_while_handing_in(asker, 5)
    assert asker.states() == ["noted"]
    stats = asker.ask(5)
    asker.assert_all_right(5)
    asker.assert_paid_once(5)
    assert (asker.remote.sizes, stats.lost) == ([5], 0)


def test_a_batch_that_cannot_be_found_counts_as_lost_with_its_price(project: Project) -> None:
    asker = Asker(project, ScriptedBatches(keeps_labels=False))
    kill_while_handing_in(asker, 5)
    stats = asker.ask(5)
    asker.assert_all_right(5)
    assert (asker.remote.sizes, asker.states()) == ([5, 5], ["lost", "finished"])
    usage = project.replies.usage(asker.run_id)
    assert stats.lost == usage.lost_in_flight == 5
    assert stats.lost_usd == usage.lost_usd > 0
    assert "count as lost" in asker.log()


def test_a_batch_is_looked_for_as_long_as_it_may_still_appear(project: Project) -> None:
    remote = ScriptedBatches(keeps_labels=False)
    asker = Asker(project, remote)
    kill_while_handing_in(asker, 5)
    timer = threading.Timer(0.2, lambda: setattr(remote, "keeps_labels", True))
    timer.start()
    asker.ask(5, appears_within_s=60.0)
    timer.join()
    asker.assert_paid_once(5)
    assert remote.sizes == [5]


def hand_in_and_stop(asker: Asker, count: int) -> None:
    asker.context.cancel_requested.set()
    with pytest.raises(JobCancelledError):
        asker.ask(count, first_poll_s=60.0)
    asker.context.cancel_requested.clear()


def kill_while_handing_in(asker: Asker, count: int) -> None:
    """Leave the database and the service as a kill between submission and its answer does."""

    class Killed(BaseException):
        pass

    submit = asker.remote.submit_batch

    async def submit_and_die(requests: Any, label: str) -> str:
        await submit(requests, label)
        raise Killed

    asker.remote.submit_batch = submit_and_die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        asker.ask(count)
    asker.remote.submit_batch = submit  # type: ignore[method-assign]


def test_a_batch_the_key_does_not_see_is_not_paid_again_within_a_day(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = ScriptedBatches(polls=99)
    asker = Asker(project, remote)
    hand_in_and_stop(asker, 5)
    kept, remote.batches = remote.batches, {}
    with pytest.raises(FatalProviderError, match="use the key it was handed in with"):
        asker.ask(5)
    day_s = 25 * 3600
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + day_s)
    remote.polls = 0
    stats = asker.ask(5)
    assert (stats.lost, len(kept)) == (5, 1)
    asker.assert_all_right(5)


def test_results_that_are_kept_no_longer_count_as_lost(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = RequestRejectedError("The results are kept no longer (404).")
    remote = ScriptedBatches(faults={"results": [gone, gone]})
    asker = Asker(project, remote)
    with pytest.raises(FatalProviderError, match="kept no longer"):
        asker.ask(3)
    now = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: now)
    stats = asker.ask(3)
    asker.assert_all_right(3)
    assert (stats.lost, asker.states()) == (3, ["lost", "finished"])


def test_the_rest_of_a_batch_is_stored_even_if_nobody_asks_for_it_any_more(
    project: Project,
) -> None:
    remote = ScriptedBatches(polls=0)
    asker = Asker(project, remote)
    hand_in_and_stop(asker, 10)
    stats = asker.ask(4)
    asker.assert_all_right(4)
    assert stats.done == 10
    usage = project.replies.usage()
    assert (usage.requests, usage.cost_usd) == (10, pytest.approx(10 * 0.001))


def test_a_request_that_died_live_counts_as_lost_and_goes_into_the_batch(project: Project) -> None:
    asker = Asker(project, ScriptedBatches())
    request = asker.request(0)
    project.replies.begin(
        request.key(),
        run_id=asker.run_id,
        provider="anthropic",
        model="m",
        purpose="judge",
        request=request.content(),
    )
    stats = asker.ask(2)
    asker.assert_all_right(2)
    assert (stats.lost, project.replies.lost_count()) == (1, 1)


def test_a_batch_is_as_large_as_the_budget_and_the_next_call_is_not_sent(project: Project) -> None:
    def short(request: ChatRequest) -> Outcome:
        return Reply(echo_text(request), prompt_tokens=20, completion_tokens=50)

    asker = Asker(project, ScriptedBatches(short))
    most = asker.engine()._link.lost_usd(asker.request(0))
    assert most is not None
    limit = 4 * most
    asker.context.budget = Budget(limit, lambda: project.replies.usage().cost_usd)
    with pytest.raises(BudgetReachedError, match="budget"):
        asker.ask(10)
    usage = project.replies.usage()
    assert usage.cost_usd <= limit
    assert asker.remote.sizes[0] == 4
    assert len(asker.replies) == sum(asker.remote.sizes) < 10
    asker.context.budget = Budget(100 * most, lambda: project.replies.usage().cost_usd)
    again = Asker(project, asker.remote)
    again.ask(10)
    again.assert_all_right(10)
    again.assert_paid_once(10)


def test_money_for_a_batch_found_again_is_set_aside_before_more_is_handed_in(
    project: Project,
) -> None:
    ended: list[int] = []

    class Watched(ScriptedBatches):
        async def submit_batch(self, requests: Any, label: str) -> str:
            ended.append(self.calls["results"])
            return await super().submit_batch(requests, label)

    asker = Asker(project, Watched(lambda request: Reply(echo_text(request), completion_tokens=1)))
    most = asker.engine()._link.lost_usd(asker.request(0))
    assert most is not None
    hand_in_and_stop(asker, 4)
    asker.context.budget = Budget(4.5 * most, lambda: project.replies.usage().cost_usd)
    asker.ask(6)
    asker.assert_all_right(6)
    assert ended == [0, 1], "the second batch waited for the first"
    assert asker.context.budget.reserved_usd == 0


def echo_text(request: ChatRequest) -> str:
    return f"echo {request.messages[-1].content}"


def test_an_error_of_the_stage_ends_the_run_and_what_came_is_stored(project: Project) -> None:
    remote = ScriptedBatches(polls=0)
    asker = Asker(project, remote)

    def take(number: int, _reply: StoredReply) -> ChatRequest | None:
        raise RuntimeError(f"cannot use {number}")

    with pytest.raises(RuntimeError, match="cannot use 0"):
        asker.engine().run_blocking(asker.requests(5), take)
    stats = asker.ask(5)
    asker.assert_all_right(5)
    assert (stats.from_store, stats.done, remote.sizes) == (1, 4, [5])


def test_an_error_of_the_source_ends_the_run(project: Project) -> None:
    asker = Asker(project, ScriptedBatches())

    def broken() -> Iterator[tuple[ChatRequest, int]]:
        yield asker.request(0), 0
        raise RuntimeError("no more seeds")

    with pytest.raises(RuntimeError, match="no more seeds"):
        asker.engine().run_blocking(broken(), asker.take)


def test_recalling_stops_the_runs_batches_and_keeps_what_was_answered(project: Project) -> None:
    remote = ScriptedBatches(fails(3, None), polls=99)
    asker = Asker(project, remote)
    hand_in_and_stop(asker, 5)
    other = project.runs.find_or_create("other", Stage.JUDGE).id
    asker.run_id, mine = other, asker.run_id
    asyncio.run(asker.engine().recall())
    assert remote.calls["cancel"] == 0, "another run's batch is left alone"
    asker.run_id = mine
    asyncio.run(asker.engine().recall())
    assert (remote.calls["cancel"], asker.states()) == (1, ["finished"])
    asyncio.run(asker.engine().recall())
    assert remote.calls["cancel"] == 1, "nothing is open any more"
    assert project.replies.usage(mine).failed == 1
    stats = asker.ask(5)
    asker.assert_all_right(5)
    assert stats.from_store == 4
