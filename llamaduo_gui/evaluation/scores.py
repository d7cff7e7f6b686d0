"""Response scores of an inference run: the judgements in the database, averaged and pooled."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from llamaduo_gui.core.types import POOLED, Metric, Split
from llamaduo_gui.evaluation.bootstrap import FloatArray
from llamaduo_gui.evaluation.statistics import GroupedPrompt
from llamaduo_gui.store.project import PASSAGE_GROUPS, Project
from llamaduo_gui.store.rows import JudgementRow, RecordRow

MetricValues = Mapping[Metric, float | None]


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """One candidate response and its scores `s[i,k]`.

    `scores` has an entry for every judge that has judged it (None on a metric that is unscored)
    and one for `POOLED` once all judges have. `sample` counts from 0 within the prompt. `group` is
    the passage the prompt shares with others, empty if none.
    """

    candidate_id: int
    record_id: int
    prompt_id: str
    category: str
    sample: int
    scores: Mapping[str, MetricValues]
    group: str = ""


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """How one judge worked: its judgements, how many gave no full score, and its steadiness.

    `repeat_sd` is the standard deviation of repeats of the same judgement, in points of the score
    (the root of the mean variance over responses judged more than once); None without repeats.
    """

    judge: str
    judgements: int
    unscored: int
    repeat_sd: Mapping[Metric, float | None]


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """Mean over the responses (and metrics) of one category; None if none is scored."""

    category: str
    mean: float | None
    n_prompts: int
    n_responses: int


@dataclass(frozen=True, slots=True)
class RunScores:
    """All scores of the candidates of one inference run."""

    candidate_run_id: int
    judges: tuple[str, ...]
    responses: tuple[ScoredResponse, ...]
    reports: tuple[JudgeReport, ...]

    def by_prompt(self, metric: Metric, judge: str = POOLED) -> dict[str, FloatArray]:
        """Scores by prompt, NaN where unscored; responses the judge has not seen are left out."""
        found: dict[str, list[float]] = defaultdict(list)
        for response in self.responses:
            if judge in response.scores:
                value = response.scores[judge][metric]
                prompt = response.prompt_id
                key = GroupedPrompt(prompt, response.group) if response.group else prompt
                found[key].append(math.nan if value is None else value)
        return {prompt: np.array(values) for prompt, values in found.items()}

    def metrics(self, judge: str = POOLED) -> dict[Metric, dict[str, FloatArray]]:
        """`by_prompt` of every metric, the form `evaluation.verdict.gather` takes."""
        return {metric: self.by_prompt(metric, judge) for metric in Metric}

    @property
    def n_unscored(self) -> int:
        """Judgements without a full score, of all judges."""
        return sum(report.unscored for report in self.reports)


def load_scores(
    project: Project, candidate_run_id: int, judges: Sequence[str] | None = None
) -> RunScores:
    """Read the judgements on a run's candidates.

    A response score is the mean over its valid judgements by one judge. The pooled score is the
    mean over the judges and needs all of them: with one missing, the pool would shift by how
    lenient that judge is, so the response is unscored in the pool instead, and counted.

    Args:
        project: an open project.
        candidate_run_id: an inference run.
        judges: names to use, in order. By default the configured ones, so that two runs are
            never compared by different judges after the settings were changed; without any
            configured, those that judged this run.
    """
    judged = _by_candidate(project.judgements.of_candidates(candidate_run_id))
    if judges is None:
        judges = [judge.name for judge in project.config.judges]
    judges = list(dict.fromkeys(judges))
    if not judges:
        judges = sorted({judge for rows in judged.values() for judge in rows})
    records = records_of_run(project, candidate_run_id)
    groups = project.get_setting(PASSAGE_GROUPS) or {}
    counts: dict[str, int] = defaultdict(int)
    responses = []
    for candidate in project.candidates.of_run(candidate_run_id):
        row = records[candidate.record_id]
        by_judge = judged.get(candidate.id, {})
        scores = {name: _means(by_judge[name]) for name in judges if name in by_judge}
        if judges and len(scores) == len(judges):
            scores[POOLED] = _pool(scores.values())
        prompt_id = row.record.prompt_id
        responses.append(
            ScoredResponse(
                candidate_id=candidate.id,
                record_id=candidate.record_id,
                prompt_id=prompt_id,
                category=row.record.category,
                sample=counts[prompt_id],
                scores=scores,
                group=str(groups.get(prompt_id, "")),
            )
        )
        counts[prompt_id] += 1
    reports = tuple(_report(name, judged.values()) for name in judges)
    return RunScores(candidate_run_id, tuple(judges), tuple(responses), reports)


def records_of_run(project: Project, candidate_run_id: int) -> dict[int, RecordRow]:
    """The coverage records an inference run answered, by row id."""
    split = project.runs.get(candidate_run_id).split
    splits = [split] if split else list(Split)
    return {row.id: row for item in splits for row in project.records.by_split(item)}


def category_scores(scores: RunScores, judge: str = POOLED) -> list[CategoryScore]:
    """Every category, lowest mean first; those without a score come last."""
    groups: dict[str, list[ScoredResponse]] = defaultdict(list)
    for response in scores.responses:
        groups[response.category].append(response)
    found = [_category_score(name, group, judge) for name, group in groups.items()]
    return sorted(found, key=lambda item: (item.mean is None, item.mean or 0.0, item.category))


def _category_score(name: str, group: Sequence[ScoredResponse], judge: str) -> CategoryScore:
    values = [
        value
        for response in group
        for value in response.scores.get(judge, {}).values()
        if value is not None
    ]
    prompts = {response.prompt_id for response in group}
    return CategoryScore(name, fmean(values) if values else None, len(prompts), len(group))


def _by_candidate(rows: Iterable[JudgementRow]) -> dict[int, dict[str, list[JudgementRow]]]:
    found: dict[int, dict[str, list[JudgementRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row.candidate_id][row.judge].append(row)
    return found


def _valid(rows: Sequence[JudgementRow], metric: Metric) -> list[float]:
    values = (row.precision if metric is Metric.PRECISION else row.similarity for row in rows)
    return [value for value in values if value is not None]


def _means(rows: Sequence[JudgementRow]) -> dict[Metric, float | None]:
    valid = {metric: _valid(rows, metric) for metric in Metric}
    return {metric: fmean(values) if values else None for metric, values in valid.items()}


def _pool(judges: Iterable[MetricValues]) -> dict[Metric, float | None]:
    items = list(judges)
    pooled: dict[Metric, float | None] = {}
    for metric in Metric:
        values = [value for item in items if (value := item[metric]) is not None]
        pooled[metric] = fmean(values) if len(values) == len(items) else None
    return pooled


def _report(judge: str, judged: Iterable[Mapping[str, Sequence[JudgementRow]]]) -> JudgeReport:
    groups = [rows[judge] for rows in judged if judge in rows]
    rows = [row for group in groups for row in group]
    spread: dict[Metric, float | None] = {}
    for metric in Metric:
        repeated = [values for group in groups if len(values := _valid(group, metric)) > 1]
        variances = [float(np.var(values, ddof=1)) for values in repeated]
        spread[metric] = math.sqrt(fmean(variances)) if variances else None
    return JudgeReport(judge, len(rows), sum(not row.is_scored for row in rows), spread)
