"""The numbers of every table and verdict: means, coverages, ratios, P-Match and their intervals.

Definitions: DESIGN section 3. Scores come as a mapping from prompt to the array of its K response
scores, NaN where a response is unscored. Every interval is the 2.5th to 97.5th percentile of a
seeded bootstrap that draws whole prompts, because the responses to one prompt resemble each other;
prompts about one passage (`GroupedPrompt`) are drawn together for the same reason. Comparisons
draw the same prompts for every model in them (paired). A prompt without any score leaves a model's
statistics; it stays in the counts. Nothing here returns NaN or infinity: what cannot be told is
None, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike

from llamaduo_gui.evaluation.bootstrap import FloatArray, resampled_totals


class GroupedPrompt(str):
    """A prompt's id, for a prompt that shares its passage with the others of a group."""

    __slots__ = ("group",)
    group: str

    def __new__(cls, prompt_id: str, group: str) -> Self:  # noqa: D102
        made = super().__new__(cls, prompt_id)
        made.group = group
        return made


PromptScores = Mapping[str, ArrayLike]
Statistic = Literal["mean", "coverage_50", "coverage_70"]

STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
COVERAGE_THRESHOLDS = (50.0, 70.0)
CONFIDENCE = 0.95
DEFAULT_RESAMPLES = 2000
DEFAULT_SEED = 42

_TAILS = (100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2)
# A mean over repeats or judges that should be 70 can come out as 69.99999999999999.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; None where it cannot be told, and `reason` says why.

    A zero-width interval (every prompt says the same) is kept and has a reason too.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form; every number is finite or None."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Summary:
    """What one judge (or the pool) says about one model on one metric, 1..100 and per cent.

    `n_prompts` and `n_responses` count everything that was judged; `n_unscored` of the responses
    have no score and are in no statistic.
    """

    mean: Estimate
    coverage_50: Estimate
    coverage_70: Estimate
    n_prompts: int
    n_responses: int
    n_unscored: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A ratio, difference or P-Match of each statistic; `n_prompts` were drawn from."""

    mean: Estimate
    coverage_50: Estimate
    coverage_70: Estimate
    n_prompts: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CoverageCurve:
    """Share of responses scoring at least each threshold, in per cent, with its band.

    Without a scored response the three lists are empty; with a single scored prompt `low` and
    `high` are empty. `reason` says so.
    """

    thresholds: tuple[float, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_responses: int
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def summarize(
    scores: PromptScores, *, resamples: int = DEFAULT_RESAMPLES, seed: int = DEFAULT_SEED
) -> Summary:
    """Mean and coverage@50/70 of one model with intervals clustered by prompt.

    Args:
        scores: response scores of each prompt, NaN for unscored; any number per prompt.
        resamples: bootstrap draws.
        seed: of the draws.
    """
    arrays = [np.asarray(values, dtype=np.float64).ravel() for values in scores.values()]
    n_responses = sum(len(values) for values in arrays)
    n_unscored = int(sum(np.isnan(values).sum() for values in arrays))
    clusters = _clusters(scores, _scored_prompts([scores]), COVERAGE_THRESHOLDS)
    mean, half, most = _single(clusters, n_responses, resamples, seed)
    return Summary(mean, half, most, len(arrays), n_responses, n_unscored)


def ratio(
    student: PromptScores,
    teacher: PromptScores,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
) -> Comparison:
    """Student over teacher, 1.0 when equal; P-Match of the two models divided by 100."""
    return _compare([student], [teacher], _quotient(1.0), resamples, seed)


def p_match(
    local: Sequence[PromptScores],
    service: Sequence[PromptScores],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
) -> Comparison:
    """100 * best local / best service, each best taken per statistic (arXiv 2408.13467, Table 1).

    Each resample takes its own bests, so the interval includes the uncertainty of the choice.
    The values divided are the ones `summarize` gives, over each model's own scored responses.
    """
    return _compare(local, service, _quotient(100.0), resamples, seed)


def difference(
    student: PromptScores,
    teacher: PromptScores,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
) -> Comparison:
    """Student minus teacher, in points of the score and in percentage points of the coverages."""
    return _compare([student], [teacher], np.subtract, resamples, seed)


def p_match_of_values(local: Iterable[float], service: Iterable[float]) -> float | None:
    """P-Match of published values: 100 * best local / best service.

    Returns:
        None if a side is empty or the best service value is 0.
    """
    best_local = max(local, default=None)
    best_service = max(service, default=None)
    if best_local is None or not best_service:
        return None
    return 100 * best_local / best_service


def coverage_curve(
    scores: PromptScores,
    thresholds: Sequence[float],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
) -> CoverageCurve:
    """Coverage at each of `thresholds` with pointwise 95 % bands clustered by prompt."""
    points = tuple(float(threshold) for threshold in thresholds)
    clusters = _clusters(scores, _scored_prompts([scores]), points)
    n_scored = int(clusters[:, 0].sum())
    if n_scored == 0:
        return CoverageCurve(points, (), (), (), 0, "no scored response")
    values = _rounded(100 * clusters[:, 2:].sum(axis=0) / n_scored)
    if len(clusters) < 2:
        return CoverageCurve(points, values, (), (), n_scored, _ONE_PROMPT)
    totals = resampled_totals(clusters, resamples=resamples, seed=seed)
    low, high = np.percentile(100 * totals[:, 2:] / totals[:, :1], _TAILS, axis=0)
    return CoverageCurve(points, values, _rounded(low), _rounded(high), n_scored)


_ONE_PROMPT = "one scored prompt, or group of prompts: an interval needs two or more"
_Triple = tuple[Estimate, Estimate, Estimate]
_Combine = Callable[[FloatArray, FloatArray], FloatArray]


def _scored_prompts(models: Sequence[PromptScores]) -> list[str]:
    """Prompts any of the models has a score for, in an order that does not depend on the input."""
    found = {
        prompt
        for scores in models
        for prompt, values in scores.items()
        if not np.isnan(np.asarray(values, dtype=np.float64)).all()
    }
    return sorted(found)


def _clusters(
    scores: PromptScores, prompts: Sequence[str], thresholds: Sequence[float]
) -> FloatArray:
    """Per prompt or group: scored responses, their sum, and how many reach each threshold."""
    rows = np.zeros((len(prompts), 2 + len(thresholds)))
    limits = np.asarray(thresholds) - _TOLERANCE
    for row, prompt in zip(rows, prompts, strict=True):
        values = np.asarray(scores.get(prompt, ()), dtype=np.float64).ravel()
        values = values[~np.isnan(values)]
        row[0], row[1] = len(values), values.sum()
        row[2:] = (values[:, None] >= limits).sum(axis=0)
    return _joined(rows, prompts)


def _joined(rows: FloatArray, prompts: Sequence[str]) -> FloatArray:
    """Add up the rows of the prompts of one group, in the place of the first of them."""
    places: dict[tuple[str, bool], int] = {}
    owners = []
    for prompt in prompts:
        key = (prompt.group, True) if isinstance(prompt, GroupedPrompt) else (prompt, False)
        owners.append(places.setdefault(key, len(places)))
    if len(places) == len(prompts):
        return rows
    joined = np.zeros((len(places), rows.shape[1]))
    np.add.at(joined, owners, rows)
    return joined


def _values(totals: FloatArray) -> FloatArray:
    """Mean and coverages from totals of `_clusters` columns; NaN where nothing was drawn."""
    with np.errstate(invalid="ignore"):
        shares: FloatArray = totals[..., 1:] / totals[..., :1]
    shares[..., 1:] *= 100
    return shares


def _single(clusters: FloatArray, n_responses: int, resamples: int, seed: int) -> _Triple:
    if len(clusters) == 0:
        missing = (
            f"none of the {n_responses} responses was scored" if n_responses else "no responses"
        )
        nothing = Estimate(None, reason=missing)
        return nothing, nothing, nothing
    values = _values(clusters.sum(axis=0))
    if len(clusters) < 2:
        return _intervals(values, None, "")
    drawn = _values(resampled_totals(clusters, resamples=resamples, seed=seed))
    return _intervals(values, drawn, "")


def _quotient(scale: float) -> _Combine:
    def divide(student: FloatArray, teacher: FloatArray) -> FloatArray:
        undefined = np.full_like(student, np.nan)
        return scale * np.divide(student, teacher, out=undefined, where=teacher > 0)

    return divide


def _compare(
    local: Sequence[PromptScores],
    service: Sequence[PromptScores],
    combine: _Combine,
    resamples: int,
    seed: int,
) -> Comparison:
    """Combine the best local with the best service value of each statistic, draw by draw."""
    prompts = _scored_prompts([*local, *service])
    sides = [
        [_clusters(scores, prompts, COVERAGE_THRESHOLDS) for scores in models]
        for models in (local, service)
    ]
    for name, side in zip(("student", "teacher"), sides, strict=True):
        if not any(clusters[:, 0].any() for clusters in side):
            nothing = Estimate(None, reason=f"the {name} has no scored response")
            return Comparison(nothing, nothing, nothing, len(prompts))
    best = [_best([_values(clusters.sum(axis=0)) for clusters in side]) for side in sides]
    values = combine(*best)
    if len(sides[0][0]) < 2:
        drawn = None
    else:
        totals = resampled_totals(np.hstack([*sides[0], *sides[1]]), resamples=resamples, seed=seed)
        parts = np.split(totals, len(local) + len(service), axis=1)
        models = [_values(part) for part in parts]
        drawn = combine(_best(models[: len(local)]), _best(models[len(local) :]))
    mean, half, most = _intervals(values, drawn, "the teacher's value is 0")
    return Comparison(mean, half, most, len(prompts))


def _best(models: Sequence[FloatArray]) -> FloatArray:
    """Element-wise best of several models; a model without a score in a draw is passed over."""
    best: FloatArray = np.fmax.reduce(np.stack(models))
    return best


def _intervals(values: FloatArray, drawn: FloatArray | None, undefined: str) -> _Triple:
    mean, half, most = (
        _interval(float(value), None if drawn is None else drawn[:, i], undefined)
        for i, value in enumerate(values)
    )
    return mean, half, most


def _interval(value: float, drawn: FloatArray | None, undefined: str) -> Estimate:
    """Point and percentile interval; draws without a value may be at most one tail's share."""
    if not math.isfinite(value):
        return Estimate(None, reason=undefined)
    if drawn is None:
        return Estimate(_round(value), reason=_ONE_PROMPT)
    usable = drawn[np.isfinite(drawn)]
    missing = 1 - len(usable) / len(drawn)
    if missing > (1 - CONFIDENCE) / 2:
        why = f"no value in {100 * missing:.0f} % of the resamples: too few scores or zeros"
        return Estimate(_round(value), reason=why)
    low, high = (_round(float(bound)) for bound in np.percentile(usable, _TAILS))
    reason = "every resample gives the same value" if low == high else ""
    return Estimate(_round(value), low, high, reason)


def _round(value: float) -> float:
    """Drop the noise of summation order, far below any figure that is shown."""
    return round(float(value), 9)


def _rounded(values: FloatArray) -> tuple[float, ...]:
    return tuple(_round(value) for value in values)
