"""The synthesis stage: asks the teacher for new pairs until a round has enough good ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.errors import ConfigError, UserError
from llamaduo_gui.core.events import Level
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import RecordStatus, RejectReason, Split
from llamaduo_gui.providers.engines import make_engine
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RecordRow, RunRow
from llamaduo_gui.synthesis.filtering import PairFilter
from llamaduo_gui.synthesis.intake import Intake
from llamaduo_gui.synthesis.plan import RequestPlan
from llamaduo_gui.synthesis.seeds import SeedPool, all_strategies

# Pairs of earlier rounds that later seeds may keep away from, kept or not. What became of them is
# left out of account, so that a decision by hand does not change the requests of a stopped round;
# those too close to validation or test are left out, for seeds are not chosen by them.
_OWN_WORK = (
    None,
    RejectReason.EXACT_DUPLICATE,
    RejectReason.NEAR_DUPLICATE,
    RejectReason.TOO_CLOSE_TO_SEED,
)


def run_synthesis(
    project: Project,
    run: RunRow,
    context: JobContext,
    *,
    round_number: int,
    config: PipelineConfig,
    seed_weights: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Fill one round with synthetic pairs; called again, it goes on where it was.

    Requests are derived from the project's seed, the round and their number, so a resumed run
    makes the same ones: those that were answered are answered from the database.

    Args:
        project: the project; its coverage training records are the seeds.
        run: the run's row; its key names the pairs' source.
        context: cancellation, progress and API keys.
        round_number: 1 or more.
        config: settings; `synthesis.pairs_per_round` pairs are wanted.
        seed_weights: for the failure-driven strategy, how much more data is needed around each
            training record, by prompt_id. These numbers are all that requests can know of
            validation: its text is given to the filter alone.

    Returns:
        The summary: pairs asked for, received, parsed, kept, rejected by reason; requests,
        tokens, cost; how the round ended ("enough", "quotas", "request_limit" or "fruitless").

    Raises:
        ConfigError: no teacher is set.
        UserError: not one pair could be kept, or there is nothing to make pairs from.
        FatalProviderError, JobCancelledError: from the request engine; what came is stored.
    """
    teacher = _teacher(config)
    intake = _make_intake(project, run, context, round_number, config, teacher, seed_weights)
    context.log(
        "synthesize",
        f"Round {round_number}: asking {teacher.name} for {intake.target} pairs, "
        f"{config.synthesis.pairs_per_request} a request, at most {intake.max_requests} requests.",
        run_id=run.id,
    )
    provider = make_provider(teacher, context.secrets)
    engine = make_engine(provider, teacher, project, run.id, context)
    try:
        engine.run_blocking(intake.requests(), intake.on_reply)
    finally:
        intake.finish()
    summary = _summarise(project, run, intake)
    _report(context, run, intake, summary)
    return summary


def plan_requests(
    project: Project,
    *,
    round_number: int,
    config: PipelineConfig,
    seed_weights: Mapping[str, float] | None = None,
) -> RequestPlan:
    """The requests a round may make; the same before the round, in it, and when it is resumed.

    Args are those of `run_synthesis`.
    """
    train = [row.record for row in project.records.by_split(Split.TRAIN)]
    prompts = [
        row.record.instruction
        for row in _earlier(project, round_number)
        if row.reject_reason in _OWN_WORK
    ]
    pool = SeedPool.of(train, config.seed, round_number, seed_weights, prompts)
    order = all_strategies()[config.synthesis.strategy].make(pool)
    return RequestPlan(order, pool, config.synthesis)


def _make_intake(
    project: Project,
    run: RunRow,
    context: JobContext,
    round_number: int,
    config: PipelineConfig,
    teacher: ServiceConfig,
    seed_weights: Mapping[str, float] | None,
) -> Intake:
    train = [row.record for row in project.records.by_split(Split.TRAIN)]
    evaluation = [
        row.record
        for split in (Split.VALIDATION, Split.TEST)
        for row in project.records.by_split(split)
    ]
    pair_filter = PairFilter(train, evaluation, config.synthesis)
    pair_filter.remember(
        row.record
        for row in _earlier(project, round_number)
        if row.status is RecordStatus.KEPT or row.is_decided_by_hand
    )
    return Intake(
        project=project,
        run=run,
        context=context,
        teacher=teacher,
        settings=config.synthesis,
        round_number=round_number,
        plan=plan_requests(
            project, round_number=round_number, config=config, seed_weights=seed_weights
        ),
        pair_filter=pair_filter,
    )


def _earlier(project: Project, round_number: int) -> list[RecordRow]:
    return [row for number in range(1, round_number) for row in project.records.synthetic(number)]


def _teacher(config: PipelineConfig) -> ServiceConfig:
    if config.teacher is None:
        raise ConfigError(
            "No teacher is set: name one in pipeline.yaml, for example "
            "`teacher: {provider: openai_compatible, model: NAME, base_url: URL}`."
        )
    return config.teacher


def _summarise(project: Project, run: RunRow, intake: Intake) -> dict[str, Any]:
    usage = project.replies.usage(run.id)
    result = intake.result
    ended = "request_limit"
    if intake.kept >= intake.target:
        ended = "enough"
    elif intake.has_all_quotas:
        ended = "quotas"
    elif intake.is_fruitless:
        ended = "fruitless"
    return {
        "round": intake.round_number,
        "teacher": intake.teacher.name,
        "wanted": intake.target,
        "strategy": intake.settings.strategy,
        "asked": intake.counts()["asked"],
        "parsed": result.parsed,
        "kept": result.kept,
        "kept_by_category": dict(sorted(result.kept_by_category.items())),
        "rejected": dict(sorted(result.rejected.items())),
        "requests": result.requests,
        "max_requests": intake.max_requests,
        "received": result.replies,
        "failed": usage.failed,
        "lost_in_flight": usage.lost_in_flight,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost_usd": usage.cost_usd,
        "unpriced": usage.unpriced,
        "ended": ended,
    }


def _report(context: JobContext, run: RunRow, intake: Intake, summary: Mapping[str, Any]) -> None:
    """Say how the round ended; raises UserError when it brought nothing."""
    reasons = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in summary["rejected"].items())
    if not intake.kept:
        raise UserError(
            f"No pair of {summary['asked']} asked for could be kept ({reasons or 'none came'}); "
            "look at the rejected pairs on the Synthesise page, then change the teacher or the "
            "limits there."
        )
    endings = {
        "enough": "",
        "quotas": " Every category has its quota.",
        "request_limit": f" The limit of {intake.max_requests} requests was reached.",
        "fruitless": " The last replies had no pair to keep, so no more were asked for.",
    }
    text = f"Round {intake.round_number}: kept {intake.kept} of {intake.target} pairs wanted"
    rejected = f"; rejected: {reasons}" if reasons else ""
    level: Level = "info" if summary["ended"] in ("enough", "quotas") else "warning"
    ending = endings[summary["ended"]]
    context.log("synthesize", f"{text}{rejected}.{ending}", level=level, run_id=run.id)
