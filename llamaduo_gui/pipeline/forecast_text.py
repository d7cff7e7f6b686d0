"""A forecast in words, for the terminal and the window."""

from __future__ import annotations

from collections.abc import Sequence

from llamaduo_gui.core.budget import format_usd
from llamaduo_gui.core.types import ModelKind, Stage
from llamaduo_gui.pipeline.estimate import Forecast, StepForecast
from llamaduo_gui.pipeline.forecast import Range

_DASH = "\u2013"
_OWNERS = {
    ModelKind.SERVICE.value: "the teacher",
    ModelKind.CEILING.value: "the teacher again (noise ceiling)",
    ModelKind.BASE.value: "the untuned base",
    ModelKind.TUNED.value: "the student",
    ModelKind.GGUF.value: "the GGUF",
}
LOCAL_NOTE = (
    "Fine-tuning, the student's own answers and the export run on this computer and cost nothing."
)


def step_title(step: StepForecast) -> str:
    """What a step does, such as `Judging the student, round 1, validation`."""
    place = f", round {step.round}" if step.round is not None else ""
    split = f", {step.split.value}" if step.split else ""
    owner = _OWNERS.get(step.label, step.label)
    if step.stage is Stage.SYNTHESIZE:
        return f"New pairs{place}"
    if step.stage is Stage.INFER:
        return f"Answers of {owner}{place}{split}"
    return f"Judging {owner}{place}{split}"


def usd_range(amount: Range | None) -> str:
    """`$1.20\u20132.40`, `$0.00` where it is free, or that no price is known."""
    if amount is None:
        return "no price known"
    if format_usd(amount.low) == format_usd(amount.high):
        return format_usd(amount.high)
    return f"{format_usd(amount.low)}{_DASH}{format_usd(amount.high).removeprefix('$')}"


def count_range(amount: Range) -> str:
    """`1,200\u20131,300`, whole numbers."""
    low, high = f"{amount.low:,.0f}", f"{amount.high:,.0f}"
    return low if low == high else f"{low}{_DASH}{high}"


def time_range(amount: Range | None) -> str:
    """`3\u20135 min`, `40 s\u20133 min`; a dash where nothing is known of the speed."""
    if amount is None:
        return _DASH
    if amount.high < 1:
        return "under 1 s"
    (low, low_unit), (high, unit) = _in_units(amount.low), _in_units(amount.high)
    if (low, low_unit) == (high, unit):
        return f"{high} {unit}"
    return f"{low}{'' if low_unit == unit else f' {low_unit}'}{_DASH}{high} {unit}"


def _in_units(seconds: float) -> tuple[str, str]:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.95 * size:
            return f"{seconds / size:.0f}", unit
    return f"{seconds:.0f}", "s"


def basis_text(step: StepForecast) -> str:
    """What the forecast of a step rests on; the weakest of its services' bases."""
    for basis in ("lengths", "pilot", "calls"):
        for part in step.parts:
            if part.basis == basis:
                return part.basis_text
    return ""


def total_sentences(forecast: Forecast) -> list[str]:
    """The sum, and what the budget says to it."""
    total = forecast.total_usd
    if total is None:
        return ["The sum is not known, because a price is missing."]
    ends = "the low end if the loop ends after this round, the high end if all rounds come"
    found = [f"Together {usd_range(total)}: {ends}." if total.high else "Nothing has to be paid."]
    budget = forecast.budget_usd
    if budget is None:
        found.append(f"{format_usd(forecast.spent_usd)} is spent; no budget is set.")
    else:
        found.append(f"{format_usd(forecast.spent_usd)} of {format_usd(budget)} is spent.")
    if forecast.is_over_budget:
        found.append("The budget may be reached: the loop then stops, and resumes when raised.")
    return found


def forecast_lines(forecast: Forecast) -> list[str]:
    """A table of the steps that ask a service, then the sum and the prices."""
    paid = [step for step in forecast.steps if not step.is_local]
    if not paid:
        return ["No service is asked in what is left of the loop."]
    rows = [("Step", "Calls", "Cost", "Time", "Judged by")]
    rows += [
        (
            step_title(step) + ("" if step.is_certain else " (if not matched)"),
            count_range(step.calls),
            usd_range(step.cost_usd),
            time_range(step.seconds),
            basis_text(step),
        )
        for step in paid
    ]
    lines = _table(rows)
    lines += ["", *total_sentences(forecast), LOCAL_NOTE, *forecast.prices]
    return lines


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
