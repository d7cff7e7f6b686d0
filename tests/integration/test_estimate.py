"""Forecast and pilot against replies of random lengths: ranges hold, nothing is paid twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.budget import is_budget_stop
from llamaduo_gui.core.config import PipelineConfig, ServiceConfig, validate_config
from llamaduo_gui.core.errors import BudgetReachedError, ConfigError
from llamaduo_gui.core.events import Event, Log
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, ModelKind, Record, RunStatus, Split, Stage
from llamaduo_gui.evaluation.report import build_report
from llamaduo_gui.evaluation.report_html import render_report
from llamaduo_gui.inference.stage import service_request
from llamaduo_gui.pipeline.estimate import StepForecast, make_forecast
from llamaduo_gui.pipeline.execute import Executor
from llamaduo_gui.pipeline.forecast_text import forecast_lines
from llamaduo_gui.pipeline.pilot import (
    PILOT_CALLS,
    answer_requests,
    plan_pilot,
    run_pilot,
)
from llamaduo_gui.pipeline.plan import Step, answer_steps
from llamaduo_gui.pipeline.spending import put_budget_in_force
from llamaduo_gui.providers.base import ChatRequest, ModelInfo, Reply
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.store.project import Project
from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI, Settings

PRICE = {"input": 1.0, "output": 10.0}
KEY = "sk-marked-3f9c2b7d"
FURTHER = {"has_further_rounds": True}
RECORDS = {Split.TRAIN: 30, Split.VALIDATION: 15, Split.TEST: 5}


class RandomLengths(Answers):
    """Replies as long as a log-normal draw says, of judgements and of answers alike."""

    def __init__(self, seed: int) -> None:
        super().__init__(pool=[("ask", "answer")])
        self._rng = random.Random(seed)

    def words(self) -> str:
        return "word " * max(1, round(self._rng.lognormvariate(4, 0.7)))

    def look_up(self, prompt: str) -> str:
        return self.words()

    def judge(self, target: str, candidate: str) -> str:
        part = {"reason": self.words(), "score": 70}
        return json.dumps({"precision": part, "similarity": part})

    def pairs(self, count: int) -> str:
        marks = [self._rng.randrange(10**9) for _ in range(count)]
        pairs = [{"instruction": f"ask {n} {self.words()}", "response": "x y z"} for n in marks]
        return json.dumps({"pairs": pairs})


def records() -> Iterator[tuple[Record, Split, str]]:
    rng = random.Random(5)
    number = 0
    for split, count in RECORDS.items():
        for _ in range(count):
            number += 1
            asked = f"Question {number}: " + "what is it? " * rng.randrange(1, 30)
            answered = "It is so. " * rng.randrange(1, 40)
            turns = (Message("user", asked), Message("assistant", answered))
            yield Record(turns, "general", f"p{number:03d}"), split, f"f:{number}"


def settings(url: str, **values: Any) -> PipelineConfig:
    service = {
        "provider": "openai_compatible",
        "model": "fake-model",
        "base_url": url,
        "price": PRICE,
        "max_rpm": 60_000,
    }
    return validate_config(
        {
            "teacher": service,
            "judges": [{**service, "model": "fake-judge", "repeats": 2}],
            "inference": {"samples": 4, "max_new_tokens": 16},
            "synthesis": {"pairs_per_round": 60, "pairs_per_request": 4, "strategy": "uniform"},
            "decision": {"max_rounds": 1, "resamples": 200},
            **values,
        }
    )


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(key=KEY), RandomLengths(1)) as running:
        yield running


def make_project(folder: Path, config: PipelineConfig) -> Project:
    project = Project.create(folder, config)
    project.records.add_coverage(records())
    return project


@pytest.fixture
def project(tmp_path: Path, server: FakeOpenAI) -> Iterator[Project]:
    with make_project(tmp_path / "p", settings(server.url)) as made:
        yield made


def job(events: list[Event] | None = None) -> JobContext:
    seen = events if events is not None else []
    return JobContext(emit=seen.append, secrets={"openai_compatible": KEY})


def step_of(project: Project, key: str) -> StepForecast:
    return next(step for step in make_forecast(project).steps if step.key == key)


def test_without_a_call_the_forecast_is_wide_and_says_that_it_is_from_lengths(
    project: Project,
) -> None:
    forecast = make_forecast(project)
    by_key = {step.key: step for step in forecast.steps}
    answers = by_key["infer:service:validation"]
    assert answers.calls.low == answers.calls.high == 60
    assert [part.basis_text for part in answers.parts] == ["text lengths"]
    assert answers.cost_usd is not None
    assert 0 < answers.cost_usd.low < answers.cost_usd.expected < answers.cost_usd.high
    judging = by_key["judge:service:validation"]
    assert judging.calls.expected == 120
    assert by_key["finetune:r0"].is_local
    assert by_key["infer:base:validation"].is_local
    assert not by_key["synthesize:r1"].is_certain
    assert by_key["judge:service:test"].is_certain
    total = forecast.total_usd
    assert total is not None
    certain = [step.cost_usd.low for step in forecast.steps if step.is_certain and step.cost_usd]
    assert total.low == pytest.approx(sum(certain))
    text = "\n".join(forecast_lines(forecast))
    assert "Judging the teacher, validation" in text
    assert "New pairs, round 1 (if not matched)" in text
    assert "set in pipeline.yaml" in text


def test_a_pilots_replies_are_used_by_the_stages_and_the_cost_falls_in_its_range(
    project: Project, server: FakeOpenAI
) -> None:
    events: list[Event] = []
    assert {part.step.stage for part in plan_pilot(project, project.config)} == {
        Stage.INFER,
        Stage.JUDGE,
    }, "what may never come is not tried unasked"
    parts = plan_pilot(project, project.config, has_further_rounds=True)
    assert [(part.step.stage, part.count) for part in parts] == [
        (Stage.INFER, 20),
        (Stage.JUDGE, 20),
        (Stage.SYNTHESIZE, 15),
    ]
    result = run_pilot(project, job(events), FURTHER)
    spent = project.costs.spent_usd()
    assert 0 < result["pilot"]["spent_usd"] == pytest.approx(spent)
    assert spent < result["pilot"]["most_usd"]
    assert any(isinstance(event, Log) and "may cost" in event.text for event in events)
    assert server.delivered.total() == 55

    answers, judging = answer_steps(ModelKind.SERVICE, Split.VALIDATION, None)
    forecast = step_of(project, answers.key)
    assert forecast.parts[0].basis_text == "a pilot of 20 calls"
    assert forecast.calls.expected == 40
    executor = Executor(project, job(), project.config, 1)
    before = project.costs.spent_usd()
    executor.run(answers)
    assert server.delivered.total() == 55 + 40
    actual = project.costs.spent_usd() - before
    assert forecast.cost_usd is not None
    assert forecast.cost_usd.low <= actual <= forecast.cost_usd.high

    forecast = step_of(project, judging.key)
    assert forecast.calls.low == 100
    assert forecast.cost_usd is not None
    before = project.costs.spent_usd()
    executor.run(judging)
    assert forecast.cost_usd.low <= project.costs.spent_usd() - before <= forecast.cost_usd.high
    assert server.delivered.total() == 60 + 120 + 15, "nothing is paid for twice"

    rows = {row.run_key: row for row in project.costs.rows()}
    assert rows[answers.key].requests == 60
    assert rows[judging.key].requests == 120
    assert rows["synthesize:r1"].requests == 15
    # What is done needs no forecast; later judging is forecast from all calls so far.
    later = step_of(project, "judge:base:validation")
    assert later.parts[0].basis_text == "120 calls made so far"
    assert "What it cost" in render_report(build_report(project))


def test_a_second_pilot_asks_nothing_and_the_synthesis_uses_the_first(
    project: Project, server: FakeOpenAI
) -> None:
    run_pilot(project, job(), FURTHER)
    sent = server.delivered.total()
    assert plan_pilot(project, project.config, has_further_rounds=True) == []
    run_pilot(project, job(), FURTHER)
    assert server.delivered.total() == sent
    run = Executor(project, job(), project.config, 1).run(
        Step("synthesize:r1", Stage.SYNTHESIZE, 1)
    )
    assert run.status is RunStatus.SUCCEEDED
    assert run.summary["requests"] >= 15
    assert server.delivered.total() == sent + run.summary["requests"] - 15


def test_synthesis_driven_by_failures_has_no_pilot_before_a_round_is_judged(
    tmp_path: Path, server: FakeOpenAI
) -> None:
    config = settings(server.url, synthesis={"strategy": "failure_driven"})
    with make_project(tmp_path / "p", config) as project:
        parts = plan_pilot(project, config, has_further_rounds=True)
        stages = [part.step.stage for part in parts]
    assert Stage.SYNTHESIZE not in stages


def test_unusable_judgements_are_part_of_the_pilot_and_of_the_forecast(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.faults = {"out_of_range": 0.3}
    run_pilot(project, job())
    (row,) = [row for row in project.costs.rows() if row.purpose == "judge"]
    assert row.asked_again > 0
    part = step_of(project, "judge:base:validation").parts[0]
    assert part.calls.low > 120
    assert part.calls.high > part.calls.expected > 120 * 1.05


def test_a_pilot_stops_before_the_budget_and_goes_on_when_it_is_raised(
    tmp_path: Path, server: FakeOpenAI
) -> None:
    # The longest reply costs 2048 * $10 a million: two calls fit into five cents.
    config = settings(server.url, budget={"usd": 0.05})
    with make_project(tmp_path / "p", config) as project:
        with pytest.raises(BudgetReachedError, match="Raise `budget: usd`"):
            run_pilot(project, job())
        stored = project.costs.rows()[0].done
        assert stored > 0
        assert project.costs.spent_usd() <= 0.05
        assert make_forecast(project).is_over_budget
        project.save_config(settings(server.url, budget={"usd": 50}))
        run_pilot(project, job(), FURTHER)
        assert {row.purpose for row in project.costs.rows()} == {"answer", "judge", "synthesize"}
        assert server.delivered.total() == sum(row.done for row in project.costs.rows())


def test_a_budget_without_a_price_is_refused_before_anything_is_sent(
    tmp_path: Path, server: FakeOpenAI
) -> None:
    config = settings(server.url, budget={"usd": 5})
    assert config.teacher is not None
    unpriced = config.teacher.model_copy(update={"price": None, "base_url": "http://192.0.2.1/v1"})
    config = config.model_copy(update={"teacher": unpriced})
    with make_project(tmp_path / "p", config) as project:
        with pytest.raises(ConfigError, match="No price is known"):
            run_pilot(project, job())
        assert make_forecast(project).total_usd is None
    assert server.delivered.total() == 0


class RandomReplies:
    """A service whose replies have log-normal lengths; it counts its tokens itself."""

    name = "openai"

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._sigma = self._rng.choice((0.3, 0.6, 0.9))

    async def complete(self, request: ChatRequest) -> Reply:
        size = sum(len(message.content) for message in request.messages)
        written = min(request.max_tokens, round(self._rng.lognormvariate(4.5, self._sigma)))
        return Reply("x", prompt_tokens=size // 4, completion_tokens=max(1, written))

    async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        yield ""

    async def list_models(self) -> Sequence[ModelInfo]:
        return []

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.slow
def test_the_range_holds_the_cost_for_at_least_ninety_of_a_hundred_services(
    tmp_path: Path,
) -> None:
    hits, widths = 0, []
    with make_project(tmp_path / "p", settings("http://127.0.0.1:9/v1")) as project:
        for seed in range(100):
            service = ServiceConfig(provider="openai", model=f"m{seed}", price=PRICE)
            config = settings("http://127.0.0.1:9/v1").model_copy(
                update={"teacher": service, "judges": ()}
            )
            low, actual, high = pilot_then_all(project, config, service, RandomReplies(seed))
            hits += low <= actual <= high
            widths.append((high - low) / actual)
    assert hits >= 90
    assert sorted(widths)[50] < 1.0, "a range that says nothing would hold anything"


def pilot_then_all(
    project: Project, config: PipelineConfig, service: ServiceConfig, provider: RandomReplies
) -> tuple[float, float, float]:
    """The forecast after 20 pilot calls, and what the step's other calls cost."""
    answers, _ = answer_steps(ModelKind.SERVICE, Split.VALIDATION, None)
    run = project.runs.find_or_create(answers.key, answers.stage)

    def ask(requests: Sequence[ChatRequest]) -> None:
        engine = RequestEngine(provider, service, project.replies, run.id, job())
        engine.run_blocking(((request, None) for request in requests), lambda *_: None)

    ask([request for request, _ in answer_requests(project, config, answers)])
    before = project.costs.spent_usd()
    step = next(s for s in make_forecast(project, config).steps if s.key == answers.key)
    assert step.parts[0].basis_calls == PILOT_CALLS
    rows = project.records.by_split(Split.VALIDATION)
    ask(
        [
            service_request(service, row.record, sample, config)
            for row in rows
            for sample in range(config.inference.samples)
        ]
    )
    assert step.cost_usd is not None
    return step.cost_usd.low, project.costs.spent_usd() - before, step.cost_usd.high


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llamaduo_gui", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OPENAI_COMPATIBLE_API_KEY": KEY},
        check=False,
    )


def test_the_command_forecasts_and_says_what_a_pilot_may_cost_before_it_is_made(
    project: Project, server: FakeOpenAI
) -> None:
    project.close()
    plain = command("estimate", project.folder)
    assert plain.returncode == 0, plain.stderr
    assert "Answers of the teacher, validation" in plain.stderr
    assert "text lengths" in plain.stderr
    assert server.delivered.total() == 0
    piloted = command("estimate", project.folder, "--pilot", "--further-rounds", "--json")
    assert piloted.returncode == 0, piloted.stderr
    assert "The pilot makes 55 calls to 2 services and may cost at most about $" in piloted.stderr
    document = json.loads(piloted.stdout)
    assert document["pilot"]["calls"] == 55
    assert document["total_usd"]["low"] < document["total_usd"]["high"]
    (first, *_) = document["steps"]
    assert first["parts"][0]["basis_text"] == "a pilot of 20 calls"
    assert server.delivered.total() == 55


def test_a_stage_stopped_by_the_budget_says_so_and_resumes_when_it_is_raised(
    tmp_path: Path, server: FakeOpenAI
) -> None:
    answers, _ = answer_steps(ModelKind.SERVICE, Split.VALIDATION, None)
    with make_project(tmp_path / "p", settings(server.url, budget={"usd": 0.06})) as project:
        context = job()
        put_budget_in_force(project, context, project.config, {Stage.INFER})
        with pytest.raises(BudgetReachedError):
            Executor(project, context, project.config, 1).run(answers)
        run = project.runs.by_key(answers.key)
        assert run is not None
        assert run.status is RunStatus.CANCELLED
        assert is_budget_stop(run.error)
        paid = server.delivered.total()
        assert 0 < paid < 60
        spent = project.costs.spent_usd()
        longest_usd = 2048 * 10 / 1e6
        assert 0.06 - 2 * longest_usd < spent <= 0.06, "used to its last call, and not crossed"

        project.set_budget(5)
        put_budget_in_force(project, context, project.config, {Stage.INFER})
        resumed = Executor(project, context, project.config, 1).run(answers)
        assert resumed.status is RunStatus.SUCCEEDED
        assert server.delivered.total() == 60
        assert project.costs.answered()[answers.key, "openai_compatible:fake-model"] == 60
