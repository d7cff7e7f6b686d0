"""The results table: every model that answered a split and was judged, beside the service LLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import POOLED, Metric, ModelKind, Split, Stage
from llamaduo_gui.evaluation.score_table import ScoreRow
from llamaduo_gui.evaluation.scores import JudgeReport, RunScores, load_scores
from llamaduo_gui.evaluation.statistics import PromptScores, p_match, summarize
from llamaduo_gui.evaluation.verdict import Verdict, format_estimate, gather, judge_match
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RunRow

_ORDER = (
    ModelKind.SERVICE,
    ModelKind.CEILING,
    ModelKind.BASE,
    ModelKind.TUNED,
    ModelKind.GGUF,
)

_TIMES = " \u00d7 "
_SUBJECTS = {
    ModelKind.GGUF: "the exported GGUF",
    ModelKind.TUNED: "the tuned model",
    ModelKind.BASE: "the untuned base",
}


@dataclass(frozen=True, slots=True)
class JudgedModel:
    """One row of the table: which weights answered, and the scores of their answers.

    Attributes:
        key: unique within the project, as in the run key without its split ("tuned:r1").
        name: short name for files ("tuned r1", "gguf Q4_K_M r1"; the service LLM by its own).
        title: the name in tables and charts ("Tuned adapter, round 1").
        is_llm: False for the offline tutor.
        answered_by: what computed the answers, in words; empty for services.
    """

    key: str
    kind: ModelKind
    name: str
    title: str
    round: int | None
    quant: str
    split: Split
    candidate_run_id: int
    is_llm: bool
    scores: RunScores
    answered_by: str = ""

    @property
    def side(self) -> Literal["service", "ceiling", "local"]:
        """Which side of P-Match it is on; the noise ceiling is compared and never the best."""
        if self.kind in (ModelKind.SERVICE, ModelKind.CEILING):
            return "service" if self.kind is ModelKind.SERVICE else "ceiling"
        return "local"


def judged_models(
    project: Project, split: Split, judges: Sequence[str] | None = None
) -> list[JudgedModel]:
    """Every model with answers on `split`: service, base, tuned by round, GGUF by round.

    Answers that are not judged yet have no scores; see `load_scores` for `judges`.
    """
    found = [
        _model(project, run, split, load_scores(project, run.id, judges))
        for run in project.runs.all(Stage.INFER)
        if run.split is split and project.candidates.count(run.id)
    ]
    return sorted(found, key=lambda model: (_ORDER.index(model.kind), model.round or 0, model.key))


def judges_of(models: Sequence[JudgedModel]) -> list[str]:
    """The judges of these models, in order."""
    return list(dict.fromkeys(judge for model in models for judge in model.scores.judges))


def result_table(
    models: Sequence[JudgedModel], *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """JSON-able rows: for every model, judge (and "pooled") and metric the summary and P-Match.

    P-Match of a row is its own 100 * value / service value; None for the service LLM and where
    no service LLM was judged.
    """
    judges = [*judges_of(models), POOLED]
    rows = []
    for model in models:
        scores = {
            judge: {
                metric.value: score_cell(
                    model, models, judge, metric, resamples=resamples, seed=seed
                )
                for metric in Metric
            }
            for judge in judges
        }
        rows.append(
            {
                "key": model.key,
                "kind": model.kind.value,
                "name": model.name,
                "title": model.title,
                "round": model.round,
                "quant": model.quant or None,
                "is_llm": model.is_llm,
                "answered_by": model.answered_by,
                "n_answers": len(model.scores.responses),
                "judges": [_judge_row(report) for report in model.scores.reports],
                "scores": scores,
            }
        )
    return rows


def score_cell(
    model: JudgedModel,
    models: Sequence[JudgedModel],
    judge: str,
    metric: Metric,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """One model, judge (or "pooled") and metric of `result_table`: the summary and `p_match`."""
    own: PromptScores = model.scores.by_prompt(metric, judge)
    service = [other.scores.by_prompt(metric, judge) for other in models if other.side == "service"]
    matched = None
    if model.side != "service" and service:
        matched = p_match([own], service, resamples=resamples, seed=seed).to_dict()
    return {**summarize(own, resamples=resamples, seed=seed).to_dict(), "p_match": matched}


def best_p_match(models: Sequence[JudgedModel], *, resamples: int, seed: int) -> dict[str, Any]:
    """P-Match as the paper has it, by judge (and "pooled") and metric: best local / best service.

    Empty without a judged service LLM or without a local model.
    """
    sides = {
        side: [model for model in models if model.side == side] for side in ("local", "service")
    }
    if not all(sides.values()):
        return {}
    found: dict[str, Any] = {}
    for judge in [*judges_of(models), POOLED]:
        found[judge] = {}
        for metric in Metric:
            local, service = (
                [model.scores.by_prompt(metric, judge) for model in sides[side]] for side in sides
            )
            matched = p_match(local, service, resamples=resamples, seed=seed)
            found[judge][metric.value] = matched.to_dict()
    return found


def score_rows(models: Sequence[JudgedModel], task: str) -> list[ScoreRow]:
    """The response scores of every judge (not the pool), for `write_scores`.

    Without the noise ceiling, which is neither side of P-Match.
    """
    return [
        ScoreRow(
            task=task,
            model=model.name,
            kind="service" if model.side == "service" else "local",
            judge=judge,
            metric=metric.value,
            prompt_id=response.prompt_id,
            sample=str(response.sample),
            score=response.scores[judge][metric],
        )
        for model in models
        if model.side != "ceiling"
        for judge in model.scores.judges
        for metric in Metric
        for response in model.scores.responses
        if judge in response.scores
    ]


def final_model(models: Sequence[JudgedModel]) -> JudgedModel | None:
    """The model the verdict is about: the GGUF that answered last, else the tuned one."""
    local = [model for model in models if model.kind in (ModelKind.TUNED, ModelKind.GGUF)]
    return max(
        local,
        key=lambda model: (model.kind is ModelKind.GGUF, model.candidate_run_id),
        default=None,
    )


def final_verdict(models: Sequence[JudgedModel], config: PipelineConfig) -> Verdict:
    """Whether the final model of these matches the service LLM, by the configured rule."""
    chosen = final_model(models)
    if chosen is None:
        return judge_match([], config.decision)
    service = next((model for model in models if model.kind is ModelKind.SERVICE), None)
    evidence = gather(
        chosen.scores.metrics(),
        service.scores.metrics() if service and service.scores.responses else None,
        resamples=config.decision.resamples,
        seed=config.seed,
    )
    return judge_match(evidence, config.decision, subject=_SUBJECTS[chosen.kind])


def describe_ceiling(models: Sequence[JudgedModel], config: PipelineConfig) -> str:
    """How close the service LLM comes to itself, in a sentence; empty if that was not judged."""
    ceiling = next((model for model in models if model.kind is ModelKind.CEILING), None)
    service = next((model for model in models if model.kind is ModelKind.SERVICE), None)
    if ceiling is None or service is None or not ceiling.scores.judges:
        return ""
    options = {"resamples": config.decision.resamples, "seed": config.seed}
    found = gather(ceiling.scores.metrics(), service.scores.metrics(), **options)
    parts = [
        f"{format_estimate(item.ratio.mean, scale=100, unit='%')} of its own {item.metric.value}"
        for item in found
        if item.ratio and item.ratio.mean.value is not None
    ]
    if not parts:
        return ""
    return f"Noise ceiling: asked again, the service LLM itself reaches {' and '.join(parts)}."


def describe_counts(model: JudgedModel) -> str:
    """What the numbers rest on: prompts x responses x judges x repeats, and what is unscored."""
    prompts = len({response.prompt_id for response in model.scores.responses})
    answers = len(model.scores.responses)
    judgements = sum(report.judgements for report in model.scores.reports)
    judges = len(model.scores.reports)
    parts = [
        _counted(prompts, f"{model.split.value} prompt"),
        _counted(round(answers / prompts) if prompts else 0, "response"),
        _counted(judges, "judge"),
        _counted(round(judgements / (answers * judges)) if answers * judges else 0, "repeat"),
    ]
    unscored = f"{model.scores.n_unscored:,} of {judgements:,} judgements unscored"
    return f"{_TIMES.join(parts)}; {unscored}."


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _model(project: Project, run: RunRow, split: Split, scores: RunScores) -> JudgedModel:
    parts = run.key.split(":")
    kind = ModelKind(parts[1])
    quant = parts[2] if kind is ModelKind.GGUF and len(parts) > 3 else ""
    tail = f" r{run.round}" if run.round is not None else ""
    place = f", round {run.round}" if run.round is not None else ""
    names = {
        ModelKind.BASE: ("base", "Untuned base"),
        ModelKind.TUNED: (f"tuned{tail}", f"Tuned adapter{place}"),
        ModelKind.GGUF: (f"gguf {quant}{tail}", f"GGUF {quant}{place}"),
    }
    is_llm = True
    if kind in (ModelKind.SERVICE, ModelKind.CEILING):
        teacher = _teacher_of(project, run)
        is_llm = teacher.get("provider") != "offline"
        name = f"{teacher['provider']}:{teacher['model']}" if teacher else "service"
        names[ModelKind.SERVICE] = (name, name if is_llm else f"{name} (not an LLM)")
        names[ModelKind.CEILING] = (f"{name} again", f"{names[ModelKind.SERVICE][1]}, asked again")
    return JudgedModel(
        key=":".join(parts[1:-1]),
        kind=kind,
        name=names[kind][0],
        title=names[kind][1],
        round=run.round,
        quant=quant,
        split=split,
        candidate_run_id=run.id,
        is_llm=is_llm,
        scores=scores,
        answered_by=str(run.summary.get("backend_note", "")),
    )


def _teacher_of(project: Project, run: RunRow) -> Mapping[str, Any]:
    """The teacher that answered: the one of the run, else the configured one."""
    teacher = run.config.get("teacher")
    if not teacher and (configured := project.config.teacher):
        teacher = configured.model_dump(mode="json")
    return teacher or {}


def _judge_row(report: JudgeReport) -> dict[str, Any]:
    return {
        "judge": report.judge,
        "judgements": report.judgements,
        "unscored": report.unscored,
        "repeat_sd": {metric.value: value for metric, value in report.repeat_sd.items()},
    }
