"""The list of scored responses, in order and searched, and one response in full."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from llamaduo_gui.core.types import Metric
from llamaduo_gui.gui.models.bulk import bulk_read
from llamaduo_gui.gui.models.text_lines import short_id
from llamaduo_gui.gui.widgets.judge_card import JudgeNote, JudgeReply
from llamaduo_gui.gui.widgets.text_diff import compare

if TYPE_CHECKING:
    from llamaduo_gui.core.types import Message
    from llamaduo_gui.evaluation.results import JudgedModel
    from llamaduo_gui.evaluation.scores import ScoredResponse
    from llamaduo_gui.gui.widgets.text_diff import Diff
    from llamaduo_gui.store.project import Project
    from llamaduo_gui.store.rows import CandidateRow, JudgementRow

Order = Literal["lowest", "highest", "unscored"]


class ResponseRow(NamedTuple):
    """One line of the list; a score is None when it is unscored."""

    candidate_id: int
    prompt_id: str
    prompt: str
    sample: int
    precision: float | None
    similarity: float | None


@dataclass(frozen=True, slots=True)
class ResponseList:
    """The lines to show, out of `total` judged responses."""

    rows: list[ResponseRow]
    total: int
    decimals: int


@dataclass(frozen=True, slots=True)
class ResponseDetail:
    """One response with all that is known about it; `notes` are by judge, one a metric."""

    candidate: CandidateRow
    prompt_turns: tuple[Message, ...]
    prompt_id: str
    category: str
    target: str
    sample: int
    samples: int
    notes: Mapping[str, tuple[JudgeNote, ...]]
    diff: Diff

    @property
    def judges(self) -> list[str]:
        """Who judged it, in order."""
        return list(self.notes)

    @property
    def unscored_judge(self) -> str:
        """The judge to ask why a response is unscored; empty if every judge has scored it."""
        notes = self.notes.items()
        return next((judge for judge, own in notes if any(n.mean is None for n in own)), "")

    @property
    def facts(self) -> str:
        """Which of the prompt's responses it is, and how it ended."""
        parts = [f"response {self.sample + 1} of {self.samples}", self.category]
        if self.candidate.finish_reason == "length":
            parts.append("cut off at the longest length allowed")
        return " \u00b7 ".join(part for part in parts if part)


def list_responses(
    model: JudgedModel,
    judge: str,
    metric: Metric,
    order: Order,
    prompts: Mapping[int, str],
    matching: Collection[int] | None = None,
) -> ResponseList:
    """The judged responses of a model by their score, unscored ones last.

    Args:
        model: whose responses.
        judge: a judge's name or the pool.
        metric: the score that orders them.
        order: lowest or highest first, or those without a score alone.
        prompts: the line shown for each record.
        matching: candidate ids the search found; None shows all.
    """
    judged = [item for item in model.scores.responses if judge in item.scores]
    with bulk_read():
        rows = [
            _row(item, judge, prompts)
            for item in judged
            if matching is None or item.candidate_id in matching
        ]
    if order == "unscored":
        rows = [row for row in rows if row.precision is None or row.similarity is None]
    else:
        rows = _sorted(rows, metric, is_rising=order == "lowest")
    scores = (value for row in rows for value in row[4:] if value is not None)
    is_whole = all(float(value).is_integer() for value in scores)
    return ResponseList(rows, len(judged), 0 if is_whole else 1)


def read_search_texts(project: Project, model: JudgedModel) -> dict[int, str]:
    """Everything that can be searched, by candidate id: prompt, response, the judges' words."""
    with bulk_read():
        records = {
            row.id: f"{row.record.prompt_id}\n{row.record.instruction}".casefold()
            for row in project.records.by_split(model.split)
        }
        found = {
            row.id: f"{records.get(row.record_id, '')}\n{row.text.casefold()}"
            for row in project.candidates.of_run(model.candidate_run_id)
        }
        for row in project.judgements.of_candidates(model.candidate_run_id):
            words = f"{row.precision_reason}\n{row.similarity_reason}"
            if not row.is_scored:
                words = f"{row.unscored_reason}\n{row.raw}"
            found[row.candidate_id] += f"\n{words.casefold()}"
        return found


def search_texts(texts: Mapping[int, str], wanted: str) -> frozenset[int]:
    """Candidate ids whose texts contain the words as they stand, whatever their case."""
    folded = wanted.casefold()
    return frozenset(key for key, text in texts.items() if folded in text)


def read_response(project: Project, model: JudgedModel, candidate_id: int) -> ResponseDetail | None:
    """One response of a model; None if it is gone."""
    scored = next((r for r in model.scores.responses if r.candidate_id == candidate_id), None)
    if scored is None:
        return None
    row = project.records.get(scored.record_id)
    if row is None:
        return None
    candidate = project.candidates.get(candidate_id)
    by_judge: dict[str, list[JudgementRow]] = {name: [] for name in scored.scores}
    for judgement in project.judgements.of_candidate(candidate_id):
        if judgement.judge in by_judge:
            by_judge[judgement.judge].append(judgement)
    return ResponseDetail(
        candidate=candidate,
        prompt_turns=row.record.prompt_messages,
        prompt_id=row.record.prompt_id,
        category=row.record.category,
        target=row.record.target,
        sample=scored.sample,
        samples=sum(item.record_id == row.id for item in model.scores.responses),
        notes={
            judge: tuple(_note(scored, judge, metric, rows) for metric in Metric)
            for judge, rows in by_judge.items()
            if rows
        },
        diff=compare(row.record.target, candidate.text),
    )


def _sorted(rows: list[ResponseRow], metric: Metric, *, is_rising: bool) -> list[ResponseRow]:
    """By score, unscored ones last, equal ones in the order of the data.

    numpy sorts 100k scores in 10 ms; Python takes 300, during which no other thread runs.
    """
    import numpy as np

    place = ResponseRow._fields.index(metric.value)
    known = (math.nan if row[place] is None else row[place] for row in rows)
    scores = np.fromiter(known, dtype=np.float64, count=len(rows))
    ranks = np.argsort(scores if is_rising else -scores, kind="stable")
    return [rows[rank] for rank in ranks]


def _row(item: ScoredResponse, judge: str, prompts: Mapping[int, str]) -> ResponseRow:
    scores = item.scores[judge]
    return ResponseRow(
        item.candidate_id,
        short_id(item.prompt_id),
        prompts.get(item.record_id, ""),
        item.sample,
        scores[Metric.PRECISION],
        scores[Metric.SIMILARITY],
    )


def _note(
    scored: ScoredResponse, judge: str, metric: Metric, rows: Sequence[JudgementRow]
) -> JudgeNote:
    return JudgeNote(
        metric.value.capitalize(),
        scored.scores[judge][metric],
        tuple(_reply(row, metric) for row in rows),
        judge,
    )


def _reply(row: JudgementRow, metric: Metric) -> JudgeReply:
    is_precision = metric is Metric.PRECISION
    score = row.precision if is_precision else row.similarity
    reason = row.precision_reason if is_precision else row.similarity_reason
    if score is None:
        return JudgeReply(None, row.unscored_reason, row.raw)
    return JudgeReply(score, reason)
