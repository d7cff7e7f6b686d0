"""Tests of the batch engine: every request answered once, whatever the service does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import (
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.providers.base import ChatRequest, RateLimitedError, Reply, UnreachableError
from llamaduo_gui.providers.batch_book import MAX_FAULTS
from llamaduo_gui.providers.batch_calls import BatchPace
from llamaduo_gui.providers.batch_run import HOPELESS_BATCHES
from llamaduo_gui.providers.ledger import StoredReply
from llamaduo_gui.providers.open_batch import OpenBatch
from llamaduo_gui.store.project import Project
from tests.fakes.scripted_batches import ScriptedBatches
from tests.unit.providers.batch_asker import (
    Asker,
    fails,
)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as it:
        yield it


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


def test_polls_become_rarer_up_to_a_limit(project: Project) -> None:
    asker = Asker(project, ScriptedBatches(polls=0))
    asker.ask(1)
    pace = BatchPace(first_poll_s=5.0, longest_poll_s=60.0, growth=2.0)
    batch = OpenBatch.of(project.batches.all()[0], pace)
    waits = []
    for _ in range(6):
        before = time.monotonic()
        batch.postpone(pace)
        waits.append(round(batch.due_at - before))
    assert waits == [5, 10, 20, 40, 60, 60]


def test_the_log_tells_what_is_answered_and_when_it_is_asked_for_again(project: Project) -> None:
    asker = Asker(project, ScriptedBatches(polls=5))
    started = time.monotonic()
    asker.ask(4, first_poll_s=0.02, longest_poll_s=0.08, growth=2.0)
    assert time.monotonic() - started >= 0.02 + 0.02 + 0.04 + 3 * 0.08
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
