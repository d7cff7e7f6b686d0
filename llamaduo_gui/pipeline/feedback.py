"""What earlier rounds say to the next ones: the decision on a round, and where it was weak."""

from __future__ import annotations

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import LlamaDuoError
from llamaduo_gui.core.types import ModelKind, Split
from llamaduo_gui.evaluation.scores import RunScores, category_scores, load_scores
from llamaduo_gui.evaluation.verdict import gather
from llamaduo_gui.pipeline.decide import Decision, decide
from llamaduo_gui.pipeline.plan import DecidedRound, answer_steps
from llamaduo_gui.store.project import Project


def decide_round(
    project: Project, config: PipelineConfig, number: int, last_round: int
) -> Decision:
    """Decide on a judged round from what the database holds."""
    split = Split(config.decision.split)
    student = _scores(project, config, ModelKind.TUNED, number)
    if student is None:
        raise LlamaDuoError(f"Round {number} has not been judged on the {split.value} split.")
    teacher = _scores(project, config, ModelKind.SERVICE, None)
    evidence = gather(
        student.metrics(),
        teacher.metrics() if teacher is not None else None,
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
    scores = _scores(project, config, ModelKind.TUNED, judged_round)
    if scores is None:
        return None
    means = {item.category: item.mean for item in category_scores(scores)}
    return {name: 101.0 - mean for name, mean in means.items() if mean is not None} or None


def _scores(
    project: Project, config: PipelineConfig, kind: ModelKind, number: int | None
) -> RunScores | None:
    """Scores of one model on the deciding split, by the configured judges; None if not judged."""
    split = Split(config.decision.split)
    answer, judge = answer_steps(kind, split, number)
    run, judged = project.runs.by_key(answer.key), project.runs.by_key(judge.key)
    if run is None or judged is None:
        return None
    return load_scores(project, run.id, [item.name for item in config.judges])
