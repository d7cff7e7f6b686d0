"""Forecast ranges: they hold what comes in 95 of 100 cases, for skewed amounts as well."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from llamaduo_gui.pipeline.forecast import (
    Range,
    share_interval,
    student_quantile,
    total_of_calls,
)

SEEDS = 400


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.lognormvariate(0, 0.5),
        lambda rng: rng.lognormvariate(0, 1.0),
        lambda rng: rng.expovariate(1),
        lambda rng: rng.uniform(0.2, 1),
        lambda rng: abs(rng.gauss(10, 1)),
    ],
    ids=["log-normal", "very skewed", "exponential", "uniform", "normal"],
)
@pytest.mark.parametrize("calls", [40, 800])
def test_the_range_holds_the_total_in_nine_of_ten_cases(
    draw: Callable[[random.Random], float], calls: int
) -> None:
    hits = 0
    for seed in range(SEEDS):
        rng = random.Random(seed)
        found = total_of_calls([draw(rng) for _ in range(20)], Range.exactly(calls))
        hits += found.low <= sum(draw(rng) for _ in range(calls)) <= found.high
    assert hits / SEEDS >= 0.92


def test_alike_calls_give_a_narrow_range_and_one_call_caps_it() -> None:
    alike = total_of_calls([2.0, 2.1, 1.9, 2.0, 2.0], Range.exactly(100))
    assert alike.expected == pytest.approx(200)
    assert 190 < alike.low < alike.expected < alike.high < 215
    wild = total_of_calls([0.01, 5.0, 0.02, 0.01, 0.03], Range.exactly(100), most=6.0)
    assert wild.high == 600
    assert total_of_calls([0.0, 0.0], Range.exactly(9)) == Range()


def test_an_unknown_number_of_calls_widens_the_range() -> None:
    found = total_of_calls([1.0] * 10, Range(10, 15, 30))
    assert (found.low, found.expected, found.high) == (10, 15, 30)


def test_a_share_has_wilsons_interval() -> None:
    found = share_interval(2, 20)
    assert (round(found.low, 3), found.expected, round(found.high, 3)) == (0.028, 0.1, 0.301)
    assert share_interval(0, 0) == Range(0, 0, 1)
    assert share_interval(0, 20).low == pytest.approx(0)


@pytest.mark.parametrize(("degrees", "value"), [(4, 2.776), (9, 2.262), (19, 2.093), (200, 1.972)])
def test_the_quantiles_are_those_of_the_tables(degrees: int, value: float) -> None:
    assert student_quantile(degrees) == pytest.approx(value, abs=0.01)


def test_ranges_add_and_multiply_end_by_end() -> None:
    assert Range(1, 2, 3) + Range(10, 20, 30) == Range(11, 22, 33)
    assert Range(1, 2, 3) * Range(10, 20, 30) == Range(10, 40, 90)
    assert Range(1, 2, 3).to_dict() == {"low": 1, "expected": 2, "high": 3}
