"""The report's click-through: prompt, target, every answer, and each judgement with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from llamaduo_gui.core.types import POOLED, Metric
from llamaduo_gui.evaluation.report_charts import legend_mark

_LOW_SCORE = 50
_LONGEST_LINE = 110
_LONGEST_RAW = 4000

Answer = Mapping[str, Any]


def responses_section(report: Mapping[str, Any]) -> str:
    """Prompts of the shown split, weakest first, each unfolding to its answers."""
    prompts = report["responses"]
    if not prompts:
        return ""
    split = report["shown_split"]
    models = {model["key"]: model for model in report["splits"][split]["models"]}
    final = report["verdict"]["model"]
    items = "".join(_prompt(prompt, models, final) for prompt in prompts)
    order = f", weakest of {escape(models[final]['title'])} first" if final in models else ""
    return f'<p class="small">{len(prompts):,} {split} prompts{order}.</p>{items}'


def _prompt(
    prompt: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], final: str | None
) -> str:
    own = [answer for answer in prompt["answers"] if answer["model"] == final]
    first_line = " ".join(prompt["prompt"].split())
    if len(first_line) > _LONGEST_LINE:
        first_line = f"{first_line[: _LONGEST_LINE - 1]}\u2026"
    groups = []
    for key, model in sorted(models.items(), key=lambda item: item[0] != final):
        answers = [answer for answer in prompt["answers"] if answer["model"] == key]
        if answers:
            groups.append(_answers(model, answers, is_open=key == final))
    return (
        f'<details><summary><span class="id">{escape(prompt["prompt_id"])}</span> '
        f"{escape(first_line)} {_means(own)}</summary>"
        f'<h3>Prompt <span class="unit">{escape(prompt["category"])}</span></h3>'
        f"{_text(prompt['prompt'])}<h3>Target</h3>{_text(prompt['target'])}"
        f"{''.join(groups)}</details>"
    )


def _answers(model: Mapping[str, Any], answers: Sequence[Answer], *, is_open: bool) -> str:
    body = "".join(_answer(answer) for answer in answers)
    opened = " open" if is_open else ""
    name = f"{legend_mark(model['kind'])}{escape(model['title'])}"
    return f"<details{opened}><summary>{name} {_means(answers)}</summary>{body}</details>"


def _answer(answer: Answer) -> str:
    pooled = answer["scores"].get(POOLED, {})
    scores = ", ".join(f"{name} {_score(pooled.get(name))}" for name in (m.value for m in Metric))
    if answer["error"]:
        text = f'<p class="low">No answer: {escape(answer["error"])}</p>'
    elif not answer["text"].strip():
        text = '<p class="low">The answer is empty.</p>'
    else:
        text = _text(answer["text"])
    if answer["finish_reason"] == "length":
        text += '<p class="small">Cut off at the longest length allowed.</p>'
    words = "".join(_judgement(item) for item in answer["judgements"])
    return (
        f"<h3>Response {answer['sample'] + 1} "
        f'<span class="unit">{scores}</span></h3>{text}<ul class="words">{words}</ul>'
    )


def _judgement(item: Mapping[str, Any]) -> str:
    who = f"{escape(item['judge'])}, repeat {item['repeat'] + 1}"
    parts = [
        f"<b>{metric.value} {item[metric.value]:g}</b> {escape(item[f'{metric.value}_reason'])}"
        for metric in Metric
        if item[metric.value] is not None
    ]
    if "unscored_reason" in item:
        parts.append(f'<span class="low">unscored:</span> {escape(item["unscored_reason"])}')
        raw = item["raw"]
        if raw:
            cut = raw if len(raw) <= _LONGEST_RAW else f"{raw[:_LONGEST_RAW]}\u2026"
            parts.append(f"<details><summary>The judge's reply</summary>{_text(cut)}</details>")
    return f'<li><span class="unit">{who}</span><br>{"<br>".join(parts)}</li>'


def _means(answers: Sequence[Answer]) -> str:
    """Mean pooled scores of some answers, as they stand in a summary line."""
    found = []
    for metric in Metric:
        values = [answer["scores"].get(POOLED, {}).get(metric.value) for answer in answers]
        known = [value for value in values if value is not None]
        if answers:
            mean = sum(known) / len(known) if known else None
            found.append(f"{metric.value} {_score(mean)}")
    return f'<span class="unit">{", ".join(found)}</span>' if found else ""


def _score(value: float | None) -> str:
    if value is None:
        return "unscored"
    text = f"{round(value, 1):g}"
    return f'<span class="low">{text}</span>' if value < _LOW_SCORE else text


def _text(text: str) -> str:
    return f'<div class="text">{escape(text)}</div>'
