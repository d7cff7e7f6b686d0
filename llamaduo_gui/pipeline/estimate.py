"""Forecasts what the stages to come will take: calls, tokens, dollars and time, as ranges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.types import ModelKind, Split, Stage
from llamaduo_gui.core.wire import load_prompt
from llamaduo_gui.pipeline.call_forecast import PartForecast, by_calls, by_lengths
from llamaduo_gui.pipeline.forecast import FEWEST_CALLS, Range, share_interval
from llamaduo_gui.pipeline.plan import Step
from llamaduo_gui.pipeline.upcoming import open_steps
from llamaduo_gui.providers.pricing import describe_price
from llamaduo_gui.store.costs import CallRow, CostRow
from llamaduo_gui.store.project import Project

# A service answers from half as long to twice as long as the targets.
_ANSWER_LENGTHS = Range(0.5, 1.0, 2.0)
# Requests a round takes, as multiples of what it would take if every pair were kept.
_REQUESTS_FACTOR = Range(1.0, 1.3, 3.0)
_ANSWERED = (ModelKind.SERVICE, ModelKind.CEILING)
_PAID = {Stage.SYNTHESIZE: "synthesize", Stage.INFER: "answer", Stage.JUDGE: "judge"}


@dataclass(frozen=True, slots=True)
class StepForecast:
    """One step to come.

    Attributes:
        key, stage, round, label, split: as of its run.
        is_certain: False for what happens only if a round does not match.
        parts: the services it asks; empty for work on this computer, whose time and memory
            `local_estimate` forecasts.
    """

    key: str
    stage: Stage
    round: int | None
    label: str
    split: Split | None
    is_certain: bool
    parts: tuple[PartForecast, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether it asks no service."""
        return not self.parts

    @property
    def cost_usd(self) -> Range | None:
        """Dollars of all parts; None if one has no price."""
        return _sum_costs(self.parts)

    @property
    def calls(self) -> Range:
        """Requests of all parts."""
        return sum((part.calls for part in self.parts), Range())

    @property
    def seconds(self) -> Range | None:
        """Time on the services, which are asked at the same time; None for local work."""
        if self.is_local:
            return None
        times = [part.seconds for part in self.parts]
        return Range(
            max(item.low for item in times),
            max(item.expected for item in times),
            max(item.high for item in times),
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """All steps to come, and what is known of the money.

    Attributes:
        prices: a sentence on each service's price.
        spent_usd, budget_usd: what is spent so far, and the limit or None.
    """

    steps: tuple[StepForecast, ...] = ()
    prices: tuple[str, ...] = ()
    spent_usd: float = 0.0
    budget_usd: float | None = None

    @property
    def total_usd(self) -> Range | None:
        """From the end after the present round to all rounds that may come; None if unpriced."""
        certain = _sum_costs(part for step in self.steps if step.is_certain for part in step.parts)
        everything = _sum_costs(part for step in self.steps for part in step.parts)
        if certain is None or everything is None:
            return None
        return Range(certain.low, certain.expected, everything.high)

    @property
    def is_over_budget(self) -> bool:
        """Whether the budget may be reached before the end."""
        total = self.total_usd
        if self.budget_usd is None or total is None:
            return False
        return self.spent_usd + total.high > self.budget_usd

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        total = self.total_usd
        return {
            "steps": [_step_dict(step) for step in self.steps],
            "total_usd": total.to_dict() if total else None,
            "spent_usd": self.spent_usd,
            "budget_usd": self.budget_usd,
            "is_over_budget": self.is_over_budget,
            "prices": list(self.prices),
        }


def make_forecast(project: Project, config: PipelineConfig | None = None) -> Forecast:
    """Forecast every step to come from what is stored; asks no service.

    Per call, tokens and dollars are those of the calls made for the same purpose (a pilot's
    included), else judged by text lengths; the number of calls is what the settings imply less
    what is answered.

    Args:
        project: an open project.
        config: settings to forecast; None for those of `pipeline.yaml`.

    Raises:
        ConfigError: the settings or the user's prices are not valid.
    """
    settings = project.config if config is None else config
    services = [*([settings.teacher] if settings.teacher else []), *settings.judges]
    forecaster = _Forecaster(project, settings)
    return Forecast(
        steps=tuple(
            forecaster.step(step, is_certain) for step, is_certain in open_steps(project, settings)
        ),
        prices=tuple(dict.fromkeys(describe_price(service) for service in services)),
        spent_usd=project.costs.spent_usd(),
        budget_usd=settings.budget.usd,
    )


@dataclass(slots=True)
class _Forecaster:
    """What the forecasts of all steps share, read from the project once."""

    project: Project
    config: PipelineConfig
    _answered: Mapping[tuple[str, str], int] = field(init=False)
    _sizes: dict[Split, tuple[int, float, float]] = field(init=False)
    _costs: Sequence[CostRow] = field(init=False)
    _calls: dict[tuple[str, str], Sequence[CallRow]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._costs = self.project.costs.rows()
        self._answered = self.project.costs.answered()
        self._sizes = {split: self._measure(split) for split in Split}

    def _measure(self, split: Split) -> tuple[int, float, float]:
        """Coverage records of a split, mean bytes of their prompts and of their targets."""
        records = [row.record for row in self.project.records.by_split(split)]
        if not records:
            return 0, 0.0, 0.0
        return (
            len(records),
            fmean(_size(record.instruction) for record in records),
            fmean(_size(record.target) for record in records),
        )

    def step(self, step: Step, is_certain: bool) -> StepForecast:
        """The forecast of one step."""
        parts: list[PartForecast] = []
        teacher = self.config.teacher
        if step.stage is Stage.SYNTHESIZE and teacher is not None:
            parts = [self._synthesis(step, teacher)]
        elif step.stage is Stage.INFER and step.kind in _ANSWERED and teacher is not None:
            parts = [self._answers(step, teacher)]
        elif step.stage is Stage.JUDGE:
            parts = [self._judging(step, judge, judge.repeats) for judge in self.config.judges]
        return StepForecast(
            step.key, step.stage, step.round, step.label, step.split, is_certain, tuple(parts)
        )

    def _synthesis(self, step: Step, teacher: ServiceConfig) -> PartForecast:
        settings = self.config.synthesis
        _, asked, answered = self._sizes[Split.TRAIN]
        least = math.ceil(settings.pairs_per_round / settings.pairs_per_request)
        wanted = _requests_by_yield(self.project, settings.pairs_per_round) or (
            Range.exactly(least) * _REQUESTS_FACTOR
        )
        reply = settings.pairs_per_request * (asked + answered)
        return self._part(step, teacher, wanted, asked + answered, Range.exactly(reply))

    def _answers(self, step: Step, teacher: ServiceConfig) -> PartForecast:
        count, asked, answered = self._sizes[step.split or Split.VALIDATION]
        wanted = Range.exactly(count * self.config.inference.samples)
        return self._part(step, teacher, wanted, asked, Range.exactly(answered) * _ANSWER_LENGTHS)

    def _judging(self, step: Step, judge: ServiceConfig, repeats: int) -> PartForecast:
        count, asked, answered = self._sizes[step.split or Split.VALIDATION]
        wanted = Range.exactly(count * self.config.inference.samples * repeats)
        # The candidate is about as long as the target.
        return self._part(step, judge, wanted, asked + 2 * answered, None)

    def _part(
        self,
        step: Step,
        service: ServiceConfig,
        wanted: Range,
        prompt_bytes: float,
        reply_bytes: Range | None,
    ) -> PartForecast:
        """One service in one step; `reply_bytes` is None for judgements."""
        purpose = _PAID[step.stage]
        answered = self._answered.get((step.key, service.name), 0)
        left = wanted.less(answered)
        calls = self._calls_of(service, purpose)
        if len(calls) >= FEWEST_CALLS:
            again = self._asked_again(service, purpose)
            return by_calls(service, left * again, calls)
        prompt_bytes += _template_bytes(purpose)
        return by_lengths(service, left, prompt_bytes, reply_bytes)

    def _calls_of(self, service: ServiceConfig, purpose: str) -> Sequence[CallRow]:
        key = (service.name, purpose)
        if key not in self._calls:
            self._calls[key] = self.project.costs.calls(service.provider, service.model, purpose)
        return self._calls[key]

    def _asked_again(self, service: ServiceConfig, purpose: str) -> Range:
        """Calls that one wanted reply takes, by how many replies were unusable so far."""
        if purpose != "judge":
            return Range.exactly(1.0)
        rows = [
            row for row in self._costs if row.service == service.name and row.purpose == purpose
        ]
        share = share_interval(sum(row.asked_again for row in rows), sum(row.done for row in rows))
        return Range(1 + share.low, 1 + share.expected, 1 + share.high)


def _requests_by_yield(project: Project, pairs: int) -> Range | None:
    """Requests for so many kept pairs at the yield of earlier rounds; None without any."""
    rounds = [run.summary for run in project.runs.all(Stage.SYNTHESIZE) if run.summary]
    kept = sum(summary.get("kept", 0) for summary in rounds)
    received = sum(summary.get("requests", 0) for summary in rounds)
    if not kept or not received:
        return None
    each = kept / received
    # Later rounds meet more duplicates: the yield may fall by half, and is unlikely to rise much.
    return Range(pairs / (1.2 * each), pairs / each, 2 * pairs / each)


def _template_bytes(purpose: str) -> int:
    if purpose == "answer":
        return 0
    prompt = load_prompt(purpose)
    return _size(prompt.system) + _size(prompt.user) + _size(str(prompt.schema))


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _sum_costs(parts: Iterable[PartForecast]) -> Range | None:
    total = Range()
    for part in parts:
        if part.cost_usd is None:
            return None
        total += part.cost_usd
    return total


def _step_dict(step: StepForecast) -> dict[str, Any]:
    cost, seconds = step.cost_usd, step.seconds
    return {
        "key": step.key,
        "stage": step.stage.value,
        "round": step.round,
        "label": step.label,
        "split": step.split.value if step.split else None,
        "is_certain": step.is_certain,
        "is_local": step.is_local,
        "calls": step.calls.to_dict(),
        "cost_usd": cost.to_dict() if cost else None,
        "seconds": seconds.to_dict() if seconds else None,
        "memory_bytes": None,
        "parts": [{**asdict(part), "basis_text": part.basis_text} for part in step.parts],
    }
