"""The judged answers of an exported file beside those of the trained model."""

from __future__ import annotations

from collections.abc import Sequence

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import Metric, ModelKind, Split
from llamaduo_gui.evaluation.results import JudgedModel, judged_models
from llamaduo_gui.evaluation.statistics import PromptScores, ratio, summarize
from llamaduo_gui.export.certificate import ScoreComparison
from llamaduo_gui.store.project import Project


def judged_answers(
    project: Project, config: PipelineConfig, round_number: int, quant: str | None, sha256: str
) -> tuple[list[ScoreComparison], str]:
    """Scores of a file on the test split over those of the trained model, or why there are none.

    Args:
        project: where the answers were judged.
        config: seed and resamples of the intervals.
        round_number: whose student.
        quant: of the exported file, None for a file from elsewhere.
        sha256: of the file; judged answers of another one say nothing of it.
    """
    if quant is None:
        return [], "The answers were not judged: the file is not one this project exported."
    key = f"infer:{ModelKind.GGUF.value}:{quant}:r{round_number}:{Split.TEST.value}"
    run = project.runs.by_key(key)
    answered = run.summary.get("weights_sha256") if run else None
    if answered and answered != sha256:
        return [], "The judged answers are those of an earlier file; the scores say nothing of it."
    models = judged_models(project, Split.TEST)
    file = _find(models, ModelKind.GGUF, round_number, quant)
    student = _find(models, ModelKind.TUNED, round_number, "")
    if file is None or student is None:
        return [], "The answers to the test split have not been judged yet."
    found = []
    for metric in Metric:
        scores, others = file.scores.by_prompt(metric), student.scores.by_prompt(metric)
        if entry := _score_comparison(metric.value, scores, others, config):
            found.append(entry)
    return found, "" if found else "No answer to the test split has a score."


def _score_comparison(
    metric: str, scores: PromptScores, others: PromptScores, config: PipelineConfig
) -> ScoreComparison | None:
    resamples, seed = config.decision.resamples, config.seed
    own = summarize(scores, resamples=resamples, seed=seed)
    other = summarize(others, resamples=resamples, seed=seed)
    compared = ratio(scores, others, resamples=resamples, seed=seed).mean
    if compared.value is None or own.mean.value is None or other.mean.value is None:
        return None
    return ScoreComparison(
        metric=metric,
        file_mean=own.mean.value,
        student_mean=other.mean.value,
        ratio=compared.value,
        low=compared.low,
        high=compared.high,
        responses=own.n_responses,
    )


def _find(
    models: Sequence[JudgedModel], kind: ModelKind, round_number: int, quant: str
) -> JudgedModel | None:
    wanted = (kind, round_number, quant)
    return next((m for m in models if (m.kind, m.round, m.quant) == wanted), None)
