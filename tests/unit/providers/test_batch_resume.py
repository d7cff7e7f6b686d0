"""Tests of the batch engine over stops and kills: nothing paid twice, nothing lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import (
    BudgetReachedError,
    FatalProviderError,
    JobCancelledError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.types import Stage
from llamaduo_gui.providers.base import ChatRequest, Reply, UnreachableError
from llamaduo_gui.store.project import Project
from tests.fakes.scripted_batches import Outcome, ScriptedBatches
from tests.unit.providers.batch_asker import (
    Asker,
    echo_text,
    fails,
    hand_in_and_stop,
    kill_while_handing_in,
)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as it:
        yield it


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
    hand_in_and_stop(asker, 400)
    assert time.monotonic() - asker.stopped_at < 1.0
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


def test_a_batch_of_other_settings_is_stopped_and_what_it_answered_is_counted(
    project: Project,
) -> None:
    remote = ScriptedBatches(fails(1, None), polls=99)
    asker = Asker(project, remote)
    hand_in_and_stop(asker, 3)
    remote.polls = 0
    changed = [(asker.request(number), number) for number in (7, 8)]
    asker.engine().run_blocking(changed, asker.take)
    assert sorted(asker.replies) == [7, 8]
    assert (remote.calls["cancel"], asker.states()) == (1, ["finished", "finished"])
    usage = project.replies.usage(asker.run_id)
    assert (usage.requests, usage.failed) == (5, 1)
    assert usage.cost_usd == pytest.approx(4 * 0.001)
