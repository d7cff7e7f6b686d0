"""The judging stage: every answer of an inference run, by every judge, as often as configured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from llamaduo_gui.core.config import JudgeConfig, PipelineConfig
from llamaduo_gui.core.errors import ConfigError, JobCancelledError
from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.core.types import POOLED, Metric, ModelKind, Record
from llamaduo_gui.evaluation.judges import judge_request, parse_judgement
from llamaduo_gui.evaluation.scores import load_scores, records_of_run
from llamaduo_gui.evaluation.statistics import summarize
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.engines import make_engine
from llamaduo_gui.providers.ledger import EngineStats, StoredReply
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import CandidateRow, NewJudgement, RunRow

# A reply that gives no scores is asked for again this often, then it is unscored.
_DECLINED = {
    "refusal": "the judge declined to answer",
    "content_filter": "the service's content filter stopped the reply",
}
RETRIES = 2

_SOURCE = "judge"
_BATCH = 64
_FLUSH_EVERY_S = 0.3


@dataclass(frozen=True, slots=True)
class _Tag:
    """Which judgement a request is for."""

    candidate_id: int
    repeat: int


def run_judging(
    project: Project,
    run: RunRow,
    context: JobContext,
    *,
    candidate_run_id: int,
    config: PipelineConfig,
) -> dict[str, Any]:
    """Judge the candidates of an inference run; judgements that are there are not made again.

    A reply without two valid scores is asked for again, as a request of its own, up to `RETRIES`
    times; then the judgement is stored as unscored with the raw text. An empty answer is judged
    as the text it is. An answer the student failed to give (`error`) is judged as empty; one the
    service LLM failed to give is unscored: no fault of the line may favour the student.

    Requests that failed for good become unscored judgements when the judge is through. If the
    run stops before, they are asked again when it is resumed.

    Args:
        project: an open project.
        run: this judging run.
        context: progress, cancellation, API keys.
        candidate_run_id: the inference run whose answers are judged.
        config: judges with their repeats; resamples and seed of the summary.

    Returns:
        The summary: scores by judge and pooled, unscored counts, tokens, cost, losses.

    Raises:
        ConfigError: no judge is set, or two have the same name.
        FatalProviderError: a judge cannot be used at all.
        JobCancelledError: the user asked to stop; what was judged is kept.
    """
    judges = _checked(config.judges)
    answers = project.runs.get(candidate_run_id)
    work = _Work.open(project, run, context, answers, judges)
    context.log(_SOURCE, work.start_text(answers), run_id=run.id)
    try:
        stats = asyncio.run(_ask_all(work, judges))
    finally:
        work.flush()
    summary = _summary(project, run, candidate_run_id, config, stats)
    text = f"{summary['judgements']} judgements of {answers.key}, {summary['unscored']} unscored."
    context.log(_SOURCE, text, level="warning" if summary["unscored"] else "info", run_id=run.id)
    return summary


async def _ask_all(work: _Work, judges: Sequence[JudgeConfig]) -> dict[str, EngineStats]:
    """Let all judges work at the same time; the first fault of one stops the others."""
    tasks = {judge.name: asyncio.create_task(_ask(work, judge)) for judge in judges}
    try:
        await asyncio.gather(*tasks.values())
    except BaseException as error:
        # When the user stopped the job, every judge is winding down by itself.
        if not isinstance(error, JobCancelledError):
            for task in tasks.values():
                task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        raise
    return {name: task.result() for name, task in tasks.items()}


async def _ask(work: _Work, judge: JudgeConfig) -> EngineStats:
    provider = make_provider(judge, work.context.secrets)
    failed: list[NewJudgement] = []

    def take(tag: _Tag, outcome: StoredReply) -> ChatRequest | None:
        return work.take(judge, tag, outcome, failed)

    try:
        engine = make_engine(provider, judge, work.project, work.run.id, work.context)
        stats = await engine.run(work.requests(judge), take)
    finally:
        await provider.close()
    work.batch.extend(failed)
    return stats


@dataclass(slots=True)
class _Work:
    """What is to be judged, what is there already, and what waits to be stored."""

    project: Project
    run: RunRow
    context: JobContext
    candidates: Sequence[CandidateRow]
    records: Mapping[int, Record]
    existing: set[tuple[int, str, int]]
    meter: ProgressMeter
    is_service: bool
    batch: list[NewJudgement] = field(default_factory=list)
    flushed_at: float = field(default_factory=time.monotonic)

    @classmethod
    def open(
        cls,
        project: Project,
        run: RunRow,
        context: JobContext,
        answers: RunRow,
        judges: Sequence[JudgeConfig],
    ) -> _Work:
        candidates = project.candidates.of_run(answers.id)
        existing = project.judgements.existing(answers.id)
        wanted = {
            (candidate.id, judge.name, repeat)
            for candidate in candidates
            for judge in judges
            for repeat in range(judge.repeats)
        }
        meter = ProgressMeter(
            context, run.id, len(wanted), "judgements", initial=len(wanted & existing)
        )
        records = {key: row.record for key, row in records_of_run(project, answers.id).items()}
        return cls(
            project,
            run,
            context,
            candidates,
            records,
            existing,
            meter,
            is_service=f"{answers.key}:".split(":")[1] in (ModelKind.SERVICE, ModelKind.CEILING),
        )

    def start_text(self, answers: RunRow) -> str:
        """The first line of the log."""
        there = f", {self.meter.initial} of them there already" if self.meter.initial else ""
        return f"{answers.key}: {self.meter.total} judgements to make{there}."

    def requests(self, judge: JudgeConfig) -> Iterator[tuple[ChatRequest, _Tag]]:
        """What this judge still has to be asked."""
        for candidate in self.candidates:
            for repeat in range(judge.repeats):
                if (candidate.id, judge.name, repeat) in self.existing:
                    continue
                if candidate.error and self.is_service:
                    reason = f"the service LLM gave no answer: {candidate.error}"
                    self.store(self._unscored(judge, _Tag(candidate.id, repeat), reason))
                    continue
                record = self.records[candidate.record_id]
                yield (
                    judge_request(judge, record, candidate.text, repeat),
                    _Tag(candidate.id, repeat),
                )

    def take(
        self, judge: JudgeConfig, tag: _Tag, outcome: StoredReply, failed: list[NewJudgement]
    ) -> ChatRequest | None:
        """Turn a reply into a judgement, or ask again; failed requests go to `failed`."""
        if outcome.reply is None:
            failed.append(self._unscored(judge, tag, outcome.error))
            self.meter.update()
            return None
        parsed = parse_judgement(outcome.text)
        # A judge that declines does so again; only a slip is worth another call.
        declined = _DECLINED.get(outcome.reply.finish_reason, "")
        if not parsed.is_complete and not declined and outcome.request.attempt < RETRIES:
            return outcome.request.again()
        precision, similarity = Metric.PRECISION, Metric.SIMILARITY
        self.store(
            NewJudgement(
                self.run.id,
                tag.candidate_id,
                judge.name,
                tag.repeat,
                parsed.scores[precision],
                parsed.scores[similarity],
                precision_reason=parsed.reasons[precision],
                similarity_reason=parsed.reasons[similarity],
                unscored_reason=parsed.problem and (declined or parsed.problem),
                raw=outcome.text,
            )
        )
        return None

    def store(self, judgement: NewJudgement) -> None:
        """Count a judgement and store it with the next batch."""
        self.batch.append(judgement)
        self.meter.update()
        is_due = time.monotonic() - self.flushed_at >= _FLUSH_EVERY_S
        if is_due or len(self.batch) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Commit what waits, and tell the views."""
        self.flushed_at = time.monotonic()
        if not self.batch:
            return
        self.project.judgements.add(self.batch)
        self.batch.clear()
        self.project.runs.set_progress(self.run.id, self.meter.done, self.meter.total)
        self.context.changed("judgements")

    def _unscored(self, judge: JudgeConfig, tag: _Tag, reason: str) -> NewJudgement:
        return NewJudgement(
            self.run.id,
            tag.candidate_id,
            judge.name,
            tag.repeat,
            None,
            None,
            unscored_reason=reason or "the request failed",
        )


def _checked(judges: Sequence[JudgeConfig]) -> Sequence[JudgeConfig]:
    if not judges:
        raise ConfigError(
            "No judge is set: name one in pipeline.yaml, for example "
            "`judges: [{provider: openai_compatible, model: NAME, base_url: URL}]`."
        )
    names = [judge.name for judge in judges]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(
            f"Two judges are called {twice}; keep one of them in pipeline.yaml and set its "
            "`repeats` instead."
        )
    return judges


def _summary(
    project: Project,
    run: RunRow,
    candidate_run_id: int,
    config: PipelineConfig,
    stats: Mapping[str, EngineStats],
) -> dict[str, Any]:
    """Scores by judge and pooled, with what they cost."""
    scores = load_scores(project, candidate_run_id, [judge.name for judge in config.judges])
    options = {"resamples": config.decision.resamples, "seed": config.seed}

    def summaries(judge: str) -> dict[str, Any]:
        return {
            metric.value: summarize(scores.by_prompt(metric, judge), **options).to_dict()
            for metric in Metric
        }

    judges = [
        {
            "judge": report.judge,
            "judgements": report.judgements,
            "unscored": report.unscored,
            "repeat_sd": {metric.value: value for metric, value in report.repeat_sd.items()},
            "scores": summaries(report.judge),
            "requests": asdict(stats[report.judge]),
        }
        for report in scores.reports
    ]
    usage = project.replies.usage(run.id)
    return {
        "candidate_run_id": candidate_run_id,
        "candidates": len(scores.responses),
        "judgements": sum(report.judgements for report in scores.reports),
        "unscored": scores.n_unscored,
        "judges": judges,
        POOLED: summaries(POOLED),
        "usage": {**asdict(usage), "by_purpose": dict(usage.by_purpose)},
    }
