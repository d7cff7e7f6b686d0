"""What the forecast card shows: a few lines for all steps to come, and the money; no widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.types import Stage

if TYPE_CHECKING:
    from llamaduo_gui.pipeline.estimate import StepForecast
    from llamaduo_gui.store.project import Project

LINES = ("What", "Calls", "Cost", "Time", "Judged by")


@dataclass(frozen=True, slots=True)
class ForecastLine:
    """One line of the table; `details` names the steps it sums."""

    title: str
    calls: str
    cost: str
    time: str
    basis: str
    details: str = ""


@dataclass(frozen=True, slots=True)
class ForecastView:
    """The forecast as text.

    Attributes:
        total: the sum in a sentence; `spent` what is spent so far, in another.
        basis: what the ranges are worth.
        notes: a sentence on each service's price, and what is not in the forecast.
        warning: that the budget may not do, or why there is no forecast.
        can_pilot: whether real calls would make the ranges narrower.
    """

    lines: tuple[ForecastLine, ...] = ()
    basis: str = ""
    total: str = ""
    spent: str = ""
    notes: tuple[str, ...] = ()
    warning: str = ""
    budget_usd: float | None = None
    can_pilot: bool = False


def read_forecast(project: Project) -> ForecastView:
    """Forecast what is left of the loop; takes a moment, so never on the GUI thread."""
    from llamaduo_gui.pipeline.estimate import make_forecast
    from llamaduo_gui.pipeline.forecast_text import LOCAL_NOTE, total_sentences

    try:
        config = project.config
        config.require_services()
        forecast = make_forecast(project, config)
    except ConfigError as error:
        return ForecastView(warning=str(error))
    paid = [step for step in forecast.steps if not step.is_local]
    total, spent, *warnings = [*total_sentences(forecast), ""]
    costs = [part.cost_usd for step in paid for part in step.parts]
    is_free = all(cost is not None and cost.high == 0 for cost in costs)
    rough = [step for step in paid if _basis(step) == "lengths"]
    can_try = any(step.is_certain for step in rough)
    return ForecastView(
        lines=tuple(_lines(paid)),
        basis="no cost" if is_free else _basis_words(rough, can_try=can_try),
        total=total,
        spent=spent,
        notes=(*forecast.prices, LOCAL_NOTE),
        warning=" ".join(filter(None, warnings)),
        budget_usd=config.budget.usd,
        can_pilot=can_try and not is_free,
    )


def read_pilot(project: Project) -> tuple[int, str]:
    """How many calls a pilot would make now, and what it may cost in a sentence."""
    from llamaduo_gui.pipeline.pilot import describe_pilot, plan_pilot

    parts = plan_pilot(project, project.config)
    return sum(part.count for part in parts), describe_pilot(parts)


def _lines(steps: Sequence[StepForecast]) -> list[ForecastLine]:
    """Certain steps by what is done in them, then what happens only if a round does not match."""
    certain = [step for step in steps if step.is_certain]
    later = [step for step in steps if not step.is_certain]
    groups = [
        ("The teacher's answers", [step for step in certain if step.stage is Stage.INFER]),
        ("New pairs", [step for step in certain if step.stage is Stage.SYNTHESIZE]),
        ("Judging", [step for step in certain if step.stage is Stage.JUDGE]),
        (_later_title(later), later),
    ]
    return [_line(title, own) for title, own in groups if own]


def _later_title(steps: Sequence[StepForecast]) -> str:
    numbers = sorted({step.round for step in steps if step.round is not None})
    if not numbers:
        return "Further rounds"
    first, last = numbers[0], numbers[-1]
    name = f"Round {first}" if first == last else f"Rounds {first}\u2013{last}"
    return f"{name}, if not matched"


def _line(title: str, steps: Sequence[StepForecast]) -> ForecastLine:
    from llamaduo_gui.pipeline.forecast import Range
    from llamaduo_gui.pipeline.forecast_text import (
        basis_text,
        count_range,
        step_title,
        time_range,
        usd_range,
    )

    costs = [step.cost_usd for step in steps]
    known = [cost for cost in costs if cost is not None]
    times = [step.seconds for step in steps if step.seconds is not None]
    weakest = next(
        (step for basis in ("lengths", "pilot") for step in steps if _basis(step) == basis),
        steps[0],
    )
    return ForecastLine(
        title=title,
        calls=count_range(sum((step.calls for step in steps), Range())),
        cost=usd_range(sum(known, Range()) if len(known) == len(costs) else None),
        time=time_range(sum(times, Range()) if len(times) == len(steps) else None),
        basis=basis_text(weakest),
        details="; ".join(f"{step_title(step)}: {usd_range(step.cost_usd)}" for step in steps),
    )


def _basis_words(rough: Sequence[StepForecast], *, can_try: bool) -> str:
    if can_try:
        return "rough, until real calls are made"
    return "95 % ranges where calls were made" if rough else "95 % ranges"


def _basis(step: StepForecast) -> str:
    """The weakest basis of a step's parts."""
    found = {part.basis for part in step.parts}
    return next((basis for basis in ("lengths", "pilot", "calls") if basis in found), "")
