"""Prepares series for charts without any drawing library: smoothing and thinning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_POINTS = 1000


@dataclass(frozen=True, slots=True)
class LossPoint:
    """A loss at a training step."""

    step: int
    value: float


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average; `weight` 0 (none) to below 1, without the pull towards zero.

    Dividing by 1 - weight^n corrects the start, as in Adam (Kingma and Ba 2015, section 3).
    """
    if not 0 <= weight < 1:
        raise ValueError(f"A smoothing weight lies in 0..1, not at {weight}.")
    out: list[float] = []
    average, decay = 0.0, 1.0
    for value in values:
        average = weight * average + (1 - weight) * value
        decay *= weight
        out.append(average / (1 - decay))
    return out


def thin(points: Sequence[LossPoint], limit: int = MAX_POINTS) -> list[LossPoint]:
    """At most `limit` points that keep every peak: lowest and highest of each stretch."""
    if len(points) <= limit:
        return list(points)
    stretches = max(1, limit // 2)
    out: list[LossPoint] = []
    for number in range(stretches):
        first = number * len(points) // stretches
        last = (number + 1) * len(points) // stretches
        stretch = points[first:last]
        low = min(stretch, key=lambda point: point.value)
        high = max(stretch, key=lambda point: point.value)
        out += [low] if low is high else sorted((low, high), key=lambda point: point.step)
    return out
