"""A forecast of one step in a line of words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llamaduo_gui.gui.widgets.wording import EN_DASH, format_count, format_duration, format_money

if TYPE_CHECKING:
    from llamaduo_gui.pipeline.estimate import StepForecast
    from llamaduo_gui.pipeline.forecast import Range


def describe_step(step: StepForecast) -> str:
    """Requests, money and time of a step, each with its range, and what that is judged by."""
    parts = [f"about {_counts(step.calls)} requests"]
    cost = step.cost_usd
    if cost is None:
        parts.append("price not known")
    elif cost.high == 0:
        parts.append("no cost")
    else:
        parts.append(f"about {format_money(cost.expected)}{_between(cost)}")
    if step.seconds is not None and step.seconds.expected >= 1:
        parts.append(f"about {format_duration(step.seconds.expected)}")
    basis = " and ".join(dict.fromkeys(part.basis_text for part in step.parts))
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}, judged by {basis}."


def _counts(value: Range) -> str:
    expected = format_count(round(value.expected))
    if round(value.low) == round(value.high):
        return expected
    low, high = format_count(round(value.low)), format_count(round(value.high))
    return f"{expected} ({low}{EN_DASH}{high})"


def _between(value: Range) -> str:
    if format_money(value.low) == format_money(value.high):
        return ""
    return f" ({format_money(value.low)}{EN_DASH}{format_money(value.high)})"
