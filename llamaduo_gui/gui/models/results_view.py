"""What the Results page shows of one split, read from the project; no widgets here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llamaduo_gui.core.types import POOLED, ModelKind, RunStatus, Split, Stage
from llamaduo_gui.gui.models.bulk import bulk_read
from llamaduo_gui.gui.models.data_view import last_question
from llamaduo_gui.gui.models.text_lines import one_line, shared_beginning

if TYPE_CHECKING:
    from llamaduo_gui.core.config import PipelineConfig
    from llamaduo_gui.evaluation.results import JudgedModel
    from llamaduo_gui.store.project import Project
    from llamaduo_gui.store.rows import RunRow

_SPLITS = (Split.TEST, Split.VALIDATION)


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict, or why there is none yet.

    Attributes:
        kind, word, icon: of the pill.
        claim: the sentence in large type.
        ground: why, and what the numbers rest on, with the unscored judgements.
        services: who taught and who judged.
        caveats: what a reader has to know before believing the scores.
    """

    kind: Literal["ok", "warn", "run", "neutral"]
    word: str
    icon: str
    claim: str
    ground: str
    services: str = ""
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitResults:
    """The models that answered a split, with all their scores.

    Attributes:
        models: in the report's order.
        judges: names of the judges, in order.
        prompts: one line for each record, by its row id.
        is_settled: whether every answer is judged, so that there is a verdict.
    """

    split: Split
    config: PipelineConfig
    models: tuple[JudgedModel, ...]
    judges: tuple[str, ...]
    prompts: Mapping[int, str]
    headline: Headline
    is_settled: bool

    @property
    def final_key(self) -> str:
        """Key of the model the verdict is about; the first model's without one."""
        from llamaduo_gui.evaluation.results import final_model

        chosen = final_model(self.models)
        return chosen.key if chosen else self.models[0].key

    def model(self, key: str) -> JudgedModel | None:
        """The model of that key."""
        return next((model for model in self.models if model.key == key), None)


@dataclass(frozen=True, slots=True)
class ResultsView:
    """Which splits have answers, and the one that is shown; None while nothing is answered."""

    splits: tuple[Split, ...] = ()
    results: SplitResults | None = None
    has_started: bool = False


def read_results(project: Project, wanted: Split | None) -> ResultsView:
    """Read a split: the wanted one, else test once it is answered, else validation.

    Takes 0.7 s for 4,000 responses with 24,000 judgements: not for the GUI thread.
    """
    from llamaduo_gui.evaluation.results import judged_models

    runs = project.runs.all()
    answered = {run.split for run in runs if run.stage is Stage.INFER and run.attempts}
    splits = tuple(split for split in _SPLITS if split in answered)
    has_started = any(run.attempts for run in runs)
    order = [split for split in splits if split is wanted] + list(splits)
    for split in order:
        with bulk_read():
            models = judged_models(project, split)
        if models:
            results = _read_split(project, split, models, runs)
            return ResultsView(splits, results, has_started)
    return ResultsView((), None, has_started)


def display_name(model: JudgedModel, models: Sequence[JudgedModel]) -> str:
    """A model's name in tables and charts, as short as tells it from the other models.

    The role says more there than a service's own name.
    """
    same = [other for other in models if other.kind is model.kind]
    if model.kind in (ModelKind.SERVICE, ModelKind.CEILING):
        name = "Service LLM" if model.is_llm else "Tutor (not an LLM)"
        return name if model.kind is ModelKind.SERVICE else f"{name} again"
    if len({(other.round, other.quant) for other in same}) <= 1:
        return model.title.partition(",")[0]
    return model.title.replace("Tuned adapter", "Tuned")


def short_name(model: JudgedModel) -> str:
    """A model in a word or two, where the table beside says the rest."""
    words = {
        ModelKind.SERVICE: "Service",
        ModelKind.CEILING: "Ceiling",
        ModelKind.BASE: "Base",
        ModelKind.GGUF: "GGUF",
    }
    return words.get(model.kind, f"Tuned, round {model.round}")


def judge_label(judge: str, judges: Sequence[str]) -> str:
    """A judge without its provider, where that is enough to tell the judges apart."""
    short = [name.partition(":")[2] or name for name in judges]
    own = judge.partition(":")[2] or judge
    return own if short.count(own) <= 1 else judge


def _read_split(
    project: Project, split: Split, models: list[JudgedModel], runs: Sequence[RunRow]
) -> SplitResults:
    from llamaduo_gui.evaluation.results import judges_of

    config = project.config
    rows = project.records.by_split(split)
    questions = {row.id: last_question(row.record) for row in rows}
    beginning = shared_beginning(list(questions.values()))
    waiting = _waiting(models, runs, split)
    return SplitResults(
        split=split,
        config=config,
        models=tuple(models),
        judges=tuple(judges_of(models)),
        prompts={key: one_line(text, beginning) for key, text in questions.items()},
        headline=(
            _open_headline(waiting, models, runs)
            if waiting
            else _headline(models, config, project.records.accepted_contaminated())
        ),
        is_settled=not waiting,
    )


def _waiting(models: Sequence[JudgedModel], runs: Sequence[RunRow], split: Split) -> list[str]:
    """Keys of models whose answers are still to be judged; a verdict now would be about a part.

    On the test split the loop has not said its last word before the GGUF has answered.
    """
    done = {run.key for run in runs if run.status is RunStatus.SUCCEEDED}
    waiting = [model.key for model in models if f"judge:{model.key}:{split.value}" not in done]
    is_looping = any(
        run.stage is Stage.PIPELINE and not run.summary.get("is_complete") for run in runs
    )
    has_gguf = any(model.kind is ModelKind.GGUF for model in models)
    if not waiting and split is Split.TEST and is_looping and not has_gguf:
        return [""]
    return waiting


def _headline(models: Sequence[JudgedModel], config: PipelineConfig, contaminated: int) -> Headline:
    from llamaduo_gui.evaluation.results import (
        describe_ceiling,
        describe_counts,
        final_model,
        final_verdict,
    )
    from llamaduo_gui.evaluation.verdict import caveats

    verdict = final_verdict(models, config)
    chosen = final_model(models)
    counts = describe_counts(chosen) if chosen else ""
    ceiling = describe_ceiling(models, config)
    ground = verdict.ground if verdict.claim else ""
    is_matched = verdict.is_matched
    return Headline(
        kind="ok" if is_matched else "warn",
        word=verdict.word,
        icon="check" if is_matched else "minus",
        claim=verdict.claim or verdict.ground,
        ground=" ".join(part for part in (ground, ceiling, counts) if part),
        services=_services(config),
        caveats=tuple(caveats(config, contaminated)),
    )


def _open_headline(
    waiting: Sequence[str], models: Sequence[JudgedModel], runs: Sequence[RunRow]
) -> Headline:
    is_running = any(run.status is RunStatus.RUNNING for run in runs)
    parts = []
    for model in models:
        responses = model.scores.responses
        judged = sum(POOLED in response.scores for response in responses)
        if model.key in waiting:
            parts.append(f"{display_name(model, models)} {judged:,} of {len(responses):,}")
    so_far = f"Responses judged so far: {', '.join(parts)}." if parts else "The GGUF comes next."
    total = sum(report.judgements for model in models for report in model.scores.reports)
    unscored = sum(model.scores.n_unscored for model in models)
    return Headline(
        kind="run" if is_running else "neutral",
        word="Judging" if is_running else "Not finished",
        icon="migrate" if is_running else "pause",
        claim="No verdict yet: the numbers below are about the part that is judged.",
        ground=f"{so_far} {unscored:,} of {total:,} judgements unscored.",
    )


def _services(config: PipelineConfig) -> str:
    names = [judge.name for judge in config.judges]
    labels = [judge_label(name, names) for name in names]
    teacher = config.teacher
    text = f"Teacher {judge_label(teacher.name, [teacher.name])}" if teacher else "No teacher"
    if not labels:
        return f"{text}, no judge set."
    return f"{text}; {'judge' if len(labels) == 1 else 'judges'} {', '.join(labels)}."
