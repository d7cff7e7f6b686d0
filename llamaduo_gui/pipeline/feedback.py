"""What earlier rounds say to the next ones: the decision on a round, and where it was weak."""

from __future__ import annotations

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import LlamaDuoError
from llamaduo_gui.core.types import Metric, ModelKind, Split
from llamaduo_gui.evaluation.scores import category_means, pooled_scores
from llamaduo_gui.evaluation.statistics import PromptScores
from llamaduo_gui.evaluation.verdict import gather
from llamaduo_gui.pipeline.decide import Decision, decide
from llamaduo_gui.pipeline.plan import DecidedRound, answer_steps
from llamaduo_gui.store.project import Project


def decide_round(
    project: Project, config: PipelineConfig, number: int, last_round: int
) -> Decision:
    """Decide on a judged round from what the database holds."""
    split = Split(config.decision.split)
    student = _scores(project, ModelKind.TUNED, split, number)
    if student is None:
        raise LlamaDuoError(f"Round {number} has not been judged on the {split.value} split.")
    evidence = gather(
        student,
        _scores(project, ModelKind.SERVICE, split, None),
        resamples=config.decision.resamples,
        seed=config.seed,
    )
    earlier = []
    for before in range(number):
        run = project.runs.by_key(f"decide:r{before}")
        earlier.append(run.summary.get("round_score") if run else None)
    rules = config.decision.model_copy(update={"max_rounds": last_round})
    return decide(evidence, rules, earlier_scores=earlier)


def read_decisions(project: Project) -> dict[int, DecidedRound]:
    """Decisions of all decided rounds."""
    found = {}
    number = 0
    while (run := project.runs.by_key(f"decide:r{number}")) is not None and run.summary:
        found[number] = DecidedRound(
            is_matched=run.summary["is_matched"],
            should_continue=run.summary["should_continue"],
            best_round=run.summary["best_round"],
            last_round=run.summary["last_round"],
        )
        number += 1
    return found


def category_weights(
    project: Project, config: PipelineConfig, judged_round: int
) -> dict[str, float] | None:
    """How much each category needs more data: 1 for a perfect one, 100 for one that always fails.

    Taken from the validation means of a judged round; None for the uniform strategy or when
    nothing was judged.
    """
    if config.synthesis.strategy != "failure_driven":
        return None
    step = answer_steps(ModelKind.TUNED, Split(config.decision.split), judged_round)[0]
    run = project.runs.by_key(step.key)
    if run is None:
        return None
    means = category_means(project, run.id)
    return {name: max(1.0, 101.0 - mean) for name, mean in means.items()} or None


def _scores(
    project: Project, kind: ModelKind, split: Split, number: int | None
) -> dict[Metric, PromptScores] | None:
    run = project.runs.by_key(answer_steps(kind, split, number)[0].key)
    return pooled_scores(project, run.id) if run is not None else None
