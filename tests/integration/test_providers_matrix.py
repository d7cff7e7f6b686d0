"""Every provider as teacher and as judge, live and in batches, through the real stages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig, validate_config
from llamaduo_gui.core.errors import ConfigError, JobCancelledError
from llamaduo_gui.providers import batch_engine
from llamaduo_gui.providers.batch_calls import BatchPace
from llamaduo_gui.store.project import Project
from tests.integration.service_matrix import (
    BATCHING,
    EVERY_WAY,
    JUDGEMENTS,
    KEY,
    MODEL,
    PAIRS,
    Bench,
    Mode,
    judge,
    make_bench,
)

PACE = BatchPace(
    first_poll_s=0.05,
    longest_poll_s=0.1,
    first_backoff_s=0.05,
    patience_s=20.0,
    appears_within_s=1.0,
    gather_s=0.05,
)
TIMEOUT_S = 60.0

every_way = pytest.mark.parametrize(
    ("provider", "mode"), EVERY_WAY, ids=[f"{name}-{mode}" for name, mode in EVERY_WAY]
)
every_batching = pytest.mark.parametrize("provider", BATCHING)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_engine, "PACE", PACE)


@pytest.fixture
def bench(tmp_path: Path, provider: str, mode: Mode) -> Iterator[Bench]:
    with make_bench(tmp_path / "project", provider, mode) as made:
        yield made


@pytest.fixture
def batches(tmp_path: Path, provider: str) -> Iterator[Bench]:
    with make_bench(tmp_path / "project", provider, "batch") as made:
        yield made


@every_way
def test_a_teacher_writes_the_pairs_that_are_wanted(bench: Bench) -> None:
    summary = bench.synthesize()
    assert summary["kept"] >= PAIRS
    assert (summary["ended"], summary["failed"]) == ("enough", 0)
    kept = [row for row in bench.project.records.synthetic(1) if row.status == "kept"]
    assert len(kept) == summary["kept"]
    assert {row.record.generator for row in kept} == {f"{bench.provider}:{MODEL}"}
    if bench.server is not None:
        assert summary["cost_usd"] > 0
        assert bench.server.delivered.total() == summary["requests"]
    assert bool(bench.sizes()) == (bench.mode == "batch")


@every_way
def test_a_judge_scores_every_answer_as_often_as_configured(bench: Bench) -> None:
    summary = bench.judge()
    bench.assert_judged(summary)
    assert bench.sizes() == ([JUDGEMENTS] if bench.mode == "batch" else [])
    again = bench.judge()
    bench.assert_judged(again)
    if bench.server is not None:
        assert summary["usage"]["cost_usd"] > 0
        # Repeats of a question are alike on the wire; none is asked by the second run.
        assert bench.server.delivered.total() == JUDGEMENTS


@pytest.mark.parametrize("provider", BATCHING)
def test_a_batch_costs_half_of_what_the_same_requests_cost_live(
    tmp_path: Path, provider: str
) -> None:
    costs = []
    for mode in ("live", "batch"):
        with make_bench(tmp_path / mode, provider, mode) as made:
            costs.append(made.judge()["usage"]["cost_usd"])
    assert costs[1] == pytest.approx(costs[0] / 2)


@pytest.mark.parametrize("provider", ["openai_compatible", "offline"])
def test_batches_are_refused_where_the_api_has_none(tmp_path: Path, provider: str) -> None:
    with make_bench(tmp_path / "project", provider, "batch") as made:
        for stage in (made.judge, made.synthesize):
            with pytest.raises(ConfigError, match=f"{provider}:{MODEL} cannot answer in batches"):
                stage()
        assert made.server is None or not made.server.log


@every_batching
def test_only_the_requests_that_failed_in_passing_go_into_a_second_batch(batches: Bench) -> None:
    assert batches.server is not None
    batches.server.settings.script = ["server_error", None, "overloaded", None, "server_error"]
    batches.assert_judged(batches.judge())
    assert batches.sizes() == [JUDGEMENTS, 3]
    assert batches.server.delivered.total() == JUDGEMENTS


@every_batching
def test_replies_without_scores_are_asked_again_in_a_batch_of_their_own(batches: Bench) -> None:
    assert batches.server is not None
    batches.server.settings.script = ["out_of_range", None, "malformed_content"]
    batches.assert_judged(batches.judge())
    assert batches.sizes() == [JUDGEMENTS, 2]


@every_batching
def test_a_request_that_cannot_succeed_is_unscored_and_asked_once(batches: Bench) -> None:
    assert batches.server is not None
    batches.server.settings.script = [None, "bad_request"]
    batches.assert_judged(batches.judge(), unscored=1)
    assert batches.sizes() == [JUDGEMENTS]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_what_an_expired_batch_did_not_come_to_is_handed_in_again(batches: Bench) -> None:
    good = {"openai": "completed", "anthropic": "ended"}[batches.provider]
    batches.at_end("expired", then=good)
    batches.assert_judged(batches.judge())
    assert batches.sizes() == [JUDGEMENTS, JUDGEMENTS // 2]
    assert batches.states() == ["finished", "finished"]
    assert batches.server is not None
    assert batches.server.delivered.total() == JUDGEMENTS


FAILED = [
    ("openai", "failed", "completed", "too many tokens waiting"),
    ("openai", "expired_unanswered", "completed", "within its day"),
    ("anthropic", "expired_unanswered", "ended", "not answered within a day"),
    ("gemini", "FAILED", "SUCCEEDED", "could not be read"),
    ("gemini", "EXPIRED", "SUCCEEDED", "expired"),
]


@pytest.mark.parametrize(
    ("provider", "outcome", "good", "reason"), FAILED, ids=[f"{c[0]}-{c[1]}" for c in FAILED]
)
def test_a_batch_that_failed_as_a_whole_is_handed_in_by_halves(
    batches: Bench, outcome: str, good: str, reason: str
) -> None:
    batches.at_end(outcome, then=good)
    batches.assert_judged(batches.judge())
    assert batches.sizes() == [JUDGEMENTS, JUDGEMENTS // 2, JUDGEMENTS // 2]
    assert batches.states() == ["failed", "finished", "finished"]
    assert reason in batches.project.batches.all()[0].problem
    assert reason in batches.log()
    assert batches.server is not None
    assert batches.server.delivered.total() == JUDGEMENTS


@every_batching
def test_a_batch_whose_answer_was_lost_is_found_and_not_handed_in_twice(batches: Bench) -> None:
    assert batches.server is not None
    batches.server.settings.batches.lost_answers = 1
    slow_down(batches)
    batches.assert_judged(batches.judge())
    assert len(batches.server.desk.batches) == 1
    assert batches.server.delivered.total() == JUDGEMENTS


@every_batching
def test_a_stopped_job_leaves_its_batch_to_the_service_and_fetches_it_later(
    batches: Bench,
) -> None:
    assert batches.server is not None
    slow_down(batches, 1.0)
    context = batches.context()
    stopped: list[float] = []

    def stop(text: str) -> None:
        if "Handed in" in text:
            stopped.append(time.monotonic())
            context.cancel_requested.set()

    batches.on_log = stop
    with pytest.raises(JobCancelledError):
        judge(batches.project, context)
    assert time.monotonic() - stopped[0] < 1.0
    assert "fetched when you resume" in batches.log()
    batches.assert_judged(batches.judge())
    assert len(batches.server.desk.batches) == 1
    assert batches.server.delivered.total() == JUDGEMENTS


@every_batching
def test_going_back_to_live_stops_the_batch_and_asks_only_the_rest(batches: Bench) -> None:
    assert batches.server is not None
    slow_down(batches, 60.0)
    context = batches.context()
    batches.on_log = lambda text: context.cancel_requested.set() if "Handed in" in text else None
    with pytest.raises(JobCancelledError):
        judge(batches.project, context)
    batches.project.save_config(set_mode(batches.config, "live"))
    batches.assert_judged(batches.judge())
    assert len(batches.server.desk.batches) == 1
    assert batches.states() == ["finished"]
    assert batches.server.delivered.total() == JUDGEMENTS
    live = [entry for entry in batches.server.log if "custom_id" not in entry.body]
    assert live


def set_mode(config: PipelineConfig, mode: Mode) -> PipelineConfig:
    values = config.model_dump(mode="json", exclude_none=True)
    values["teacher"]["mode"] = values["judges"][0]["mode"] = mode
    return validate_config(values)


def slow_down(bench: Bench, delay_s: float = 0.3) -> None:
    """Let batches take their time."""
    assert bench.server is not None
    settings: Any = bench.server.settings.batches
    if bench.provider == "gemini":
        settings.polls = 1 + round(delay_s / PACE.longest_poll_s)
    else:
        settings.delay_s = delay_s


CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from llamaduo_gui.providers import batch_engine
from llamaduo_gui.store.project import Project
from tests.integration.service_matrix import Bench
from tests.integration.test_providers_matrix import PACE

folder, provider, backoff = sys.argv[1:]
longest_s = max(PACE.longest_poll_s, float(backoff))
batch_engine.PACE = replace(
    PACE, first_backoff_s=float(backoff), longest_poll_s=longest_s, patience_s=3600.0
)
with Project.open(Path(folder)) as project:
    Bench(provider, "batch", project, None).judge()
"""


def start_child(bench: Bench, repository: Path, *, backoff_s: float) -> subprocess.Popen[bytes]:
    """A process of its own that judges."""
    arguments = [str(bench.project.folder), bench.provider, str(backoff_s)]
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], cwd=repository)


def kill(child: subprocess.Popen[bytes]) -> None:
    assert child.poll() is None, "it is still at work"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@every_batching
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_after_a_kill_while_polling_the_batch_is_found_by_its_id(
    batches: Bench, repository: Path
) -> None:
    server = batches.server
    assert server is not None
    slow_down(batches, 60.0)
    child = start_child(batches, repository, backoff_s=0.05)
    wait_until(lambda: [batch for batch in batches.project.batches.all() if batch.remote_id])
    time.sleep(0.3)
    kill(child)
    assert batches.states() == ["running"]
    release(batches)
    summary = batches.judge()
    batches.assert_judged(summary)
    assert len(server.desk.batches) == 1
    assert server.delivered.total() == JUDGEMENTS
    assert summary["usage"]["lost_in_flight"] == 0


@every_batching
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_after_a_kill_before_its_id_is_stored_the_batch_is_found_all_the_same(
    batches: Bench, repository: Path
) -> None:
    server = batches.server
    assert server is not None
    slow_down(batches, 60.0)
    server.settings.batches.lost_answers = 1
    child = start_child(batches, repository, backoff_s=60.0)
    wait_until(lambda: server.desk.batches)
    time.sleep(0.3)
    kill(child)
    assert (batches.states(), batches.project.batches.all()[0].remote_id) == (["noted"], None)
    release(batches)
    summary = batches.judge()
    batches.assert_judged(summary)
    assert len(server.desk.batches) == 1
    assert server.delivered.total() == JUDGEMENTS
    assert summary["usage"]["lost_in_flight"] == 0


@every_batching
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_after_a_kill_while_results_are_read_only_the_rest_is_stored(
    batches: Bench, repository: Path
) -> None:
    server = batches.server
    assert server is not None
    child = start_child(batches, repository, backoff_s=0.05)
    wait_until(lambda: batches.project.replies.usage().cost_usd > 0)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    summary = batches.judge()
    batches.assert_judged(summary)
    assert len(server.desk.batches) == 1
    assert server.delivered.total() == JUDGEMENTS
    assert batches.project.replies.usage().requests == JUDGEMENTS


def release(bench: Bench) -> None:
    """Let the batches that are under way end."""
    server = bench.server
    assert server is not None
    slow_down(bench, 0.0)
    for batch in server.desk.batches.values():
        if hasattr(batch, "polls_left"):
            batch.polls_left = 1


def test_a_project_says_which_batches_it_has(tmp_path: Path) -> None:
    with make_bench(tmp_path / "project", "openai", "batch") as made:
        made.judge()
        with Project.open(made.project.folder) as opened:
            (batch,) = opened.batches.all()
    assert (batch.provider, batch.model, batch.done) == ("openai", MODEL, JUDGEMENTS)
    assert batch.base_url == (made.server.url if made.server else "")
    assert KEY not in str(batch)
