"""Every prompt of a split with its answers and what the judges wrote about each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from llamaduo_gui.core.types import POOLED
from llamaduo_gui.evaluation.results import JudgedModel, final_model
from llamaduo_gui.evaluation.scores import ScoredResponse, records_of_run
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import CandidateRow, JudgementRow


def click_through(project: Project, models: Sequence[JudgedModel]) -> list[dict[str, Any]]:
    """Every prompt of the split with all its answers and what the judges wrote, weakest first.

    The order is by the final model's mean pooled score; prompts without one come last.
    """
    prompts: dict[int, dict[str, Any]] = {}
    for model in models:
        records = records_of_run(project, model.candidate_run_id)
        answers = {row.id: row for row in project.candidates.of_run(model.candidate_run_id)}
        words: dict[int, list[JudgementRow]] = defaultdict(list)
        for row in project.judgements.of_candidates(model.candidate_run_id):
            words[row.candidate_id].append(row)
        for response in model.scores.responses:
            record = records[response.record_id].record
            prompt = prompts.setdefault(
                response.record_id,
                {
                    "prompt_id": record.prompt_id,
                    "category": record.category,
                    "prompt": record.instruction,
                    "target": record.target,
                    "answers": [],
                },
            )
            answer = answers[response.candidate_id]
            prompt["answers"].append(_answer(model, response, answer, words[answer.id]))
    chosen = final_model(models)
    return sorted(prompts.values(), key=lambda item: _weakness(item, chosen))


def _answer(
    model: JudgedModel,
    response: ScoredResponse,
    answer: CandidateRow,
    judgements: Sequence[JudgementRow],
) -> dict[str, Any]:
    scores = {
        judge: {metric.value: value for metric, value in values.items()}
        for judge, values in response.scores.items()
    }
    return {
        "model": model.key,
        "sample": response.sample,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "error": answer.error,
        "scores": scores,
        "judgements": [_words(row) for row in judgements],
    }


def _words(row: JudgementRow) -> dict[str, Any]:
    found: dict[str, Any] = {
        "judge": row.judge,
        "repeat": row.repeat,
        "precision": row.precision,
        "precision_reason": row.precision_reason,
        "similarity": row.similarity,
        "similarity_reason": row.similarity_reason,
    }
    if not row.is_scored:
        found |= {"unscored_reason": row.unscored_reason, "raw": row.raw}
    return found


def _weakness(prompt: Mapping[str, Any], model: JudgedModel | None) -> tuple[bool, float, str]:
    values = [
        value
        for answer in prompt["answers"]
        if model is not None and answer["model"] == model.key
        for value in answer["scores"].get(POOLED, {}).values()
        if value is not None
    ]
    mean = sum(values) / len(values) if values else 0.0
    return not values, mean, prompt["prompt_id"]
