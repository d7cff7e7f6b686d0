"""What earlier rounds say to the next ones: the decision on a round, and where it was weak."""

from __future__ import annotations

from statistics import fmean

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import LlamaDuoError
from llamaduo_gui.core.types import POOLED, ModelKind, Record, Split
from llamaduo_gui.evaluation.scores import RunScores, load_scores
from llamaduo_gui.evaluation.verdict import gather
from llamaduo_gui.pipeline.decide import Decision, decide
from llamaduo_gui.pipeline.plan import DecidedRound, answer_steps
from llamaduo_gui.pipeline.weak_spots import weigh_seeds
from llamaduo_gui.store.project import Project

_WEIGHTS_SETTING = "synthesis.weights.r"


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


def seed_weights(
    project: Project, config: PipelineConfig, round_number: int
) -> dict[str, float] | None:
    """How much more data a round needs around each training record, by prompt_id.

    Taken from the validation scores of the round before; None for the other strategies and where
    nothing was judged. The weights a round began with are kept: judging once more does not change
    the requests of a round that was stopped.
    """
    if config.synthesis.strategy != "failure_driven":
        return None
    key = f"{_WEIGHTS_SETTING}{round_number}"
    kept: dict[str, float] | None = project.get_setting(key)
    if kept:
        return kept
    judged = _judged_prompts(project, config, round_number - 1)
    if not judged:
        return None
    train = [row.record for row in project.records.by_split(Split.TRAIN)]
    weights = weigh_seeds(train, judged, config.seed)
    project.set_setting(key, weights)
    return weights


def _judged_prompts(
    project: Project, config: PipelineConfig, number: int
) -> list[tuple[Record, float]]:
    """The deciding split's records with the mean score of the student's answers."""
    scores = _scores(project, config, ModelKind.TUNED, number)
    if scores is None:
        return []
    values: dict[int, list[float]] = {}
    for response in scores.responses:
        found = response.scores.get(POOLED, {}).values()
        values.setdefault(response.record_id, []).extend(v for v in found if v is not None)
    rows = project.records.by_ids([record_id for record_id, found in values.items() if found])
    return [(row.record, fmean(values[row.id])) for row in rows]


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
