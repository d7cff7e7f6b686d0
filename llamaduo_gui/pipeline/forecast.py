"""Ranges for what is to come: the total of many calls from the few that were made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

CONFIDENCE = 0.95
# With fewer calls their spread says next to nothing.
FEWEST_CALLS = 5


@dataclass(frozen=True, slots=True)
class Range:
    """An amount that is not known yet: from `low` to `high`, most likely near `expected`."""

    low: float = 0.0
    expected: float = 0.0
    high: float = 0.0

    @classmethod
    def exactly(cls, value: float) -> Range:
        """An amount that is known."""
        return cls(value, value, value)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, other: Range) -> Range:
        """The product of two amounts, neither below 0."""
        return Range(self.low * other.low, self.expected * other.expected, self.high * other.high)

    def less(self, amount: float) -> Range:
        """What is left after `amount` of it, never below 0."""
        return Range(
            max(0.0, self.low - amount),
            max(0.0, self.expected - amount),
            max(0.0, self.high - amount),
        )

    def to_dict(self) -> dict[str, float]:
        """As JSON values."""
        return {"low": self.low, "expected": self.expected, "high": self.high}


def total_of_calls(amounts: Sequence[float], calls: Range, most: float = math.inf) -> Range:
    """The sum over `calls` further calls, judged by the amounts of earlier ones.

    The range is the wider of two 95 % prediction intervals: Student's t for the mean, and Cox's
    for a log-normal mean (Zhou and Gao 1997, Stat Med 16:783), since reply lengths are skewed
    and t alone misses high totals (85 % instead of 95 for log-normal amounts with sigma 1 and 20
    calls; the wider of both 94 to 99 %, simulated).

    Args:
        amounts: dollars or tokens of each earlier call, at least two.
        calls: how many are to come.
        most: the most that one call can take.
    """
    low, high = _mean_interval(amounts, max(1.0, calls.expected))
    mean = fmean(amounts)
    high = max(mean, min(high, most))
    return Range(calls.low * low, calls.expected * mean, calls.high * high)


def share_interval(count: int, total: int) -> Range:
    """A share from a sample with Wilson's 95 % interval."""
    if total == 0:
        return Range(0.0, 0.0, 1.0)
    z = _normal_quantile()
    share = count / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return Range(max(0.0, (centre - half) / scale), share, min(1.0, (centre + half) / scale))


def student_quantile(degrees: int) -> float:
    """The upper end of Student's t at 95 %, from the normal one (Abramowitz, Stegun 26.7.5)."""
    z, n = _normal_quantile(), float(degrees)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def _mean_interval(amounts: Sequence[float], calls: float) -> tuple[float, float]:
    """Where the mean of `calls` further amounts lies."""
    n, mean, spread = len(amounts), fmean(amounts), variance(amounts)
    t = student_quantile(n - 1)
    half = t * math.sqrt(spread * (1 / n + 1 / calls))
    low, high = max(0.0, mean - half), mean + half
    if min(amounts) <= 0 or spread == 0:
        return low, high
    logs = [math.log(amount) for amount in amounts]
    own = variance(logs)
    centre = fmean(logs) + own / 2
    error = math.sqrt(own / n + own**2 / (2 * (n - 1)) + math.expm1(min(own, 50.0)) / calls)
    # Beyond e^50 the cap of the caller decides.
    top = math.exp(min(50.0, centre + t * error))
    return min(low, math.exp(centre - t * error)), max(high, top)


def _normal_quantile() -> float:
    return NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
