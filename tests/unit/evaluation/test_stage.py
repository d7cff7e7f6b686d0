"""Judging a run: every reply accounted for, nothing judged twice, nothing lost on the way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest

from llamaduo_gui.core.config import JudgeConfig, PipelineConfig, ServiceConfig
from llamaduo_gui.core.errors import (
    ConfigError,
    FatalProviderError,
    JobCancelledError,
    RequestRejectedError,
)
from llamaduo_gui.core.events import Changed, Event, Progress
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Metric, Stage
from llamaduo_gui.core.wire import extract_tag
from llamaduo_gui.evaluation import stage
from llamaduo_gui.evaluation.scores import load_scores
from llamaduo_gui.evaluation.stage import RETRIES, run_judging
from llamaduo_gui.providers.base import ChatRequest, FinishReason, ModelInfo, Reply
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewCandidate, RunRow
from tests.unit.evaluation.judged_project import JUDGE, TEACHER, add_answers

Script = Callable[[ChatRequest], str]


def grade(precision: object = 80, similarity: object = 60) -> str:
    return json.dumps(
        {
            "precision": {"reason": "p", "score": precision},
            "similarity": {"reason": "s", "score": similarity},
        }
    )


class ScriptedProvider:
    """Stands where the network would be."""

    name = "openai_compatible"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[ChatRequest] = []
        self.closed = 0
        self.finish_reason: FinishReason = "stop"

    async def complete(self, request: ChatRequest) -> Reply:
        self.asked.append(request)
        text = self.script(request)
        return Reply(
            text, self.finish_reason, prompt_tokens=100, completion_tokens=20, cost_usd=0.001
        )

    async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        yield self.script(request)

    async def list_models(self) -> Sequence[ModelInfo]:
        """None: a script has no models."""
        return []

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def judged_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], ScriptedProvider]:
    """Make every judge answer by a script."""

    def install(script: Script) -> ScriptedProvider:
        provider = ScriptedProvider(script)

        def make(service: ServiceConfig, secrets: Mapping[str, str]) -> ScriptedProvider:
            return provider

        monkeypatch.setattr(stage, "make_provider", make)
        return provider

    return install


def config_with(*judges: JudgeConfig) -> PipelineConfig:
    return PipelineConfig(teacher=TEACHER, judges=judges, decision={"resamples": 200})


def judging_run(project: Project, answers: RunRow) -> RunRow:
    return project.runs.find_or_create(
        answers.key.replace("infer:", "judge:", 1), Stage.JUDGE, split=answers.split
    )


def candidate_of(request: ChatRequest) -> str:
    found = extract_tag("candidate_response", request.messages[-1].content)
    assert found is not None
    return found


REPEATED = JUDGE.model_copy(update={"repeats": 3})


def test_every_answer_is_judged_as_often_as_configured(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    provider = judged_by(lambda request: grade(80 + request.repeat))
    answers = add_answers(project, "tuned:r0:validation")
    events: list[Event] = []
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=events.append),
        candidate_run_id=answers.id,
        config=config_with(REPEATED),
    )
    assert (summary["candidates"], summary["judgements"], summary["unscored"]) == (16, 48, 0)
    assert summary["pooled"]["precision"]["mean"]["value"] == 81.0
    assert summary["judges"][0]["repeat_sd"]["precision"] == 1.0
    assert summary["usage"]["requests"] == 48
    assert summary["usage"]["cost_usd"] == pytest.approx(0.048)
    assert len(provider.asked) == 48
    assert provider.closed == 1
    json.dumps(summary, allow_nan=False)
    progress = [event for event in events if isinstance(event, Progress)]
    assert (progress[-1].done, progress[-1].total, progress[-1].units) == (48, 48, "judgements")
    assert Changed(("judgements",)) in events
    row = project.judgements.of_candidates(answers.id)[0]
    assert (row.precision_reason, row.raw) == ("p", grade(80))


def test_a_finished_run_is_not_asked_again(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    provider = judged_by(lambda request: grade())
    answers = add_answers(project, "tuned:r0:validation")
    run, context = judging_run(project, answers), JobContext(emit=lambda event: None)
    options = {"candidate_run_id": answers.id, "config": config_with(JUDGE)}
    first = run_judging(project, run, context, **options)
    second = run_judging(project, run, context, **options)
    assert len(provider.asked) == 16
    assert second["pooled"] == first["pooled"]
    assert second["judgements"] == 16


def test_more_repeats_add_to_the_judgements_that_are_there(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    provider = judged_by(lambda request: grade())
    answers = add_answers(project, "tuned:r0:validation")
    run, context = judging_run(project, answers), JobContext(emit=lambda event: None)
    run_judging(project, run, context, candidate_run_id=answers.id, config=config_with(JUDGE))
    run_judging(project, run, context, candidate_run_id=answers.id, config=config_with(REPEATED))
    assert len(provider.asked) == 48
    assert {request.repeat for request in provider.asked[16:]} == {1, 2}


def test_a_reply_that_gives_no_scores_is_asked_for_again_and_then_counts(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    provider = judged_by(lambda request: grade() if request.attempt == RETRIES else "No idea.")
    answers = add_answers(project, "tuned:r0:validation", samples=1)
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=lambda event: None),
        candidate_run_id=answers.id,
        config=config_with(JUDGE),
    )
    assert summary["unscored"] == 0
    assert len(provider.asked) == 8 * (RETRIES + 1)


@pytest.mark.parametrize(
    ("reason", "said"), [("refusal", "declined"), ("content_filter", "content filter")]
)
def test_a_judge_that_declines_is_not_paid_to_decline_again(
    project: Project,
    judged_by: Callable[[Script], ScriptedProvider],
    reason: FinishReason,
    said: str,
) -> None:
    provider = judged_by(lambda request: "")
    provider.finish_reason = reason
    answers = add_answers(project, "tuned:r0:validation", samples=1)
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=lambda event: None),
        candidate_run_id=answers.id,
        config=config_with(JUDGE),
    )
    assert len(provider.asked) == summary["unscored"] == 8
    row = project.judgements.of_candidates(answers.id)[0]
    assert said in row.unscored_reason


@pytest.mark.parametrize("score", [0, 101, 87.5])
def test_a_score_that_stays_invalid_is_stored_as_unscored_with_the_raw_reply(
    project: Project, judged_by: Callable[[Script], ScriptedProvider], score: float
) -> None:
    provider = judged_by(lambda request: grade(70, score))
    answers = add_answers(project, "tuned:r0:validation", samples=1)
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=lambda event: None),
        candidate_run_id=answers.id,
        config=config_with(JUDGE),
    )
    assert len(provider.asked) == 8 * (RETRIES + 1)
    assert summary["unscored"] == summary["judgements"] == 8
    assert summary["pooled"]["similarity"]["n_unscored"] == 8
    assert summary["pooled"]["similarity"]["mean"]["value"] is None
    assert summary["pooled"]["precision"]["mean"]["value"] == 70.0
    row = project.judgements.of_candidates(answers.id)[0]
    assert row.similarity is None
    assert "similarity" in row.unscored_reason
    assert row.raw == grade(70, score)


def test_the_same_answer_is_asked_about_once_and_counts_for_each_sample(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    provider = judged_by(lambda request: grade())
    answers = project.runs.find_or_create(
        "infer:base:validation", Stage.INFER, split=add_answers(project, "x:validation").split
    )
    rows = project.records.by_split(answers.split)  # type: ignore[arg-type]
    project.candidates.add(
        [NewCandidate(answers.id, row.id, k, "Same", seed=0) for row in rows for k in range(4)]
    )
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=lambda event: None),
        candidate_run_id=answers.id,
        config=config_with(JUDGE),
    )
    assert summary["judgements"] == 32
    assert len(provider.asked) == 8


def failed_answers(project: Project, tail: str) -> RunRow:
    answers = add_answers(project, tail, samples=1)
    row = project.records.by_split(answers.split)[0]  # type: ignore[arg-type]
    project.candidates.add([NewCandidate(answers.id, row.id, 1, "", seed=1, error="timed out")])
    return answers


def test_an_answer_the_student_failed_to_give_is_judged_as_empty(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    provider = judged_by(lambda request: grade() if candidate_of(request) else grade(1, 1))
    answers = failed_answers(project, "tuned:r0:validation")
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=lambda event: None),
        candidate_run_id=answers.id,
        config=config_with(JUDGE),
    )
    assert summary["unscored"] == 0
    assert [candidate_of(request) for request in provider.asked].count("") == 1
    scores = load_scores(project, answers.id).by_prompt(Metric.PRECISION)
    assert scores["p00"].tolist() == [80.0, 1.0]


def test_an_answer_the_service_failed_to_give_is_unscored_and_does_not_lower_the_teacher(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    provider = judged_by(lambda request: grade())
    answers = failed_answers(project, "service:validation")
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=lambda event: None),
        candidate_run_id=answers.id,
        config=config_with(JUDGE),
    )
    assert len(provider.asked) == 8
    assert (summary["judgements"], summary["unscored"]) == (9, 1)
    assert summary["pooled"]["precision"]["mean"]["value"] == 80.0
    reasons = {row.unscored_reason for row in project.judgements.of_candidates(answers.id)}
    assert "the service LLM gave no answer: timed out" in reasons


def test_a_request_that_is_refused_for_good_is_unscored_with_the_services_words(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    def script(request: ChatRequest) -> str:
        if candidate_of(request).endswith("3.0"):
            raise RequestRejectedError("refused by a filter")
        return grade()

    judged_by(script)
    answers = add_answers(project, "tuned:r0:validation", samples=1)
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=lambda event: None),
        candidate_run_id=answers.id,
        config=config_with(JUDGE),
    )
    assert (summary["judgements"], summary["unscored"]) == (8, 1)
    reasons = {row.unscored_reason for row in project.judgements.of_candidates(answers.id)}
    assert reasons == {"", "refused by a filter"}


def test_a_judge_that_cannot_be_used_leaves_no_unscored_judgement_behind(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    def no_key(request: ChatRequest) -> str:
        raise FatalProviderError("The key was refused; check it in Settings.")

    provider = judged_by(no_key)
    answers = add_answers(project, "tuned:r0:validation")
    run, context = judging_run(project, answers), JobContext(emit=lambda event: None)
    options = {"candidate_run_id": answers.id, "config": config_with(JUDGE)}
    with pytest.raises(FatalProviderError, match="key was refused"):
        run_judging(project, run, context, **options)
    assert project.judgements.of_candidates(answers.id) == []
    assert provider.closed == 1
    judged_by(lambda request: grade())
    assert run_judging(project, run, context, **options)["unscored"] == 0


def test_a_stopped_run_keeps_what_was_judged_and_resumes_with_the_rest(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    stop = threading.Event()
    slow = JUDGE.model_copy(update={"concurrency": 1})

    def script(request: ChatRequest) -> str:
        if len(provider.asked) >= 5 and not is_resumed:
            stop.set()
            # The engine looks for a stop between replies; instant ones could outrun its look.
            time.sleep(0.1)
        return grade()

    is_resumed = False
    provider = judged_by(script)
    answers = add_answers(project, "tuned:r0:validation")
    run = judging_run(project, answers)
    options = {"candidate_run_id": answers.id, "config": config_with(slow)}
    with pytest.raises(JobCancelledError):
        run_judging(project, run, JobContext(lambda event: None, stop), **options)
    kept = len(project.judgements.of_candidates(answers.id))
    assert 5 <= kept == len(provider.asked) < 16
    events: list[Event] = []
    is_resumed = True
    summary = run_judging(project, run, JobContext(events.append), **options)
    assert len(provider.asked) == summary["judgements"] == 16
    first = next(event for event in events if isinstance(event, Progress))
    assert (first.done, first.total) == (kept, 16)


def test_several_judges_work_at_the_same_time_and_are_pooled(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    second = JudgeConfig(provider="openai_compatible", model="second")
    judged_by(lambda request: grade(90 if request.model == "second" else 70))
    answers = add_answers(project, "tuned:r0:validation")
    config = config_with(JUDGE, second)
    project.save_config(config)
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=lambda event: None),
        candidate_run_id=answers.id,
        config=config,
    )
    assert [item["judge"] for item in summary["judges"]] == [JUDGE.name, second.name]
    assert summary["pooled"]["precision"]["mean"]["value"] == 80.0
    assert summary["judgements"] == 32


def test_the_fault_of_one_judge_stops_the_run_and_keeps_the_others_work(
    project: Project, judged_by: Callable[[Script], ScriptedProvider]
) -> None:
    second = JudgeConfig(provider="openai_compatible", model="second", concurrency=1)

    def script(request: ChatRequest) -> str:
        if request.model == "second" and candidate_of(request).endswith("3.0"):
            raise FatalProviderError("The model is gone.")
        return grade()

    judged_by(script)
    answers = add_answers(project, "tuned:r0:validation")
    with pytest.raises(FatalProviderError):
        run_judging(
            project,
            judging_run(project, answers),
            JobContext(emit=lambda event: None),
            candidate_run_id=answers.id,
            config=config_with(JUDGE, second),
        )
    kept = {row.judge for row in project.judgements.of_candidates(answers.id)}
    assert kept == {JUDGE.name, second.name}
    assert all(row.is_scored for row in project.judgements.of_candidates(answers.id))


def test_judging_without_a_judge_or_with_the_same_one_twice_is_refused(project: Project) -> None:
    answers = add_answers(project, "tuned:r0:validation")
    run, context = judging_run(project, answers), JobContext(emit=lambda event: None)
    for judges, message in (((), "No judge is set"), ((JUDGE, REPEATED), "Two judges are called")):
        with pytest.raises(ConfigError, match=message):
            run_judging(
                project, run, context, candidate_run_id=answers.id, config=config_with(*judges)
            )


def test_the_offline_tutor_judges_by_reference_metrics(project: Project) -> None:
    offline = JudgeConfig(provider="offline", model="tutor")
    answers = add_answers(project, "tuned:r0:validation", samples=1, text="Target")
    summary = run_judging(
        project,
        judging_run(project, answers),
        JobContext(emit=lambda event: None),
        candidate_run_id=answers.id,
        config=config_with(offline),
    )
    assert summary["unscored"] == 0
    assert summary["usage"]["cost_usd"] == 0.0
    row = project.judgements.of_candidates(answers.id)[0]
    assert "Token F1" in row.precision_reason
