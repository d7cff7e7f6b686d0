"""Tests of which training record each synthesis request is made from."""

from __future__ import annotations

from collections import Counter

import pytest

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Message, Record
from llamaduo_gui.synthesis.seeds import SeedOrder


def make_record(number: int, category: str = "a") -> Record:
    turns = (Message("user", f"prompt {number}"), Message("assistant", "answer"))
    return Record(turns, category, f"id-{number:03}")


RECORDS = [make_record(number, "ab"[number % 2]) for number in range(20)]


def ids(order: SeedOrder, count: int) -> list[str]:
    return [order.record(index).prompt_id for index in range(count)]


def test_every_record_is_used_once_before_any_is_used_again() -> None:
    order = SeedOrder(RECORDS, 42, 1)
    chosen = ids(order, 60)
    for start in (0, 20, 40):
        assert len(set(chosen[start : start + 20])) == 20
    assert chosen[:20] != chosen[20:40]


def test_the_order_depends_on_seed_and_round_but_not_on_the_order_of_the_records() -> None:
    first = ids(SeedOrder(RECORDS, 42, 1), 20)
    assert ids(SeedOrder(RECORDS[::-1], 42, 1), 20) == first
    assert ids(SeedOrder(RECORDS, 42, 2), 20) != first
    assert ids(SeedOrder(RECORDS, 43, 1), 20) != first


def test_a_record_can_be_asked_for_out_of_order() -> None:
    order = SeedOrder(RECORDS, 42, 1)
    last = order.record(57).prompt_id
    assert ids(order, 60)[57] == last


def test_weak_categories_are_drawn_more_often() -> None:
    order = SeedOrder(RECORDS, 42, 1, {"a": 10.0, "b": 90.0})
    counts = Counter(order.record(index).category for index in range(2000))
    assert 0.86 < counts["b"] / 2000 < 0.94
    assert ids(order, 50) == ids(SeedOrder(RECORDS[::-1], 42, 1, {"b": 90.0, "a": 10.0}), 50)


def test_a_category_without_a_weight_gets_the_mean() -> None:
    records = [make_record(n, "abc"[n % 3]) for n in range(30)]
    order = SeedOrder(records, 42, 1, {"a": 10.0, "b": 90.0, "unknown": 50.0})
    counts = Counter(order.record(index).category for index in range(3000))
    assert 0.29 < counts["c"] / 3000 < 0.38


@pytest.mark.parametrize("weights", [{}, {"a": 0.0, "b": 0.0}])
def test_weights_that_say_nothing_are_no_weights(weights: dict[str, float]) -> None:
    assert ids(SeedOrder(RECORDS, 42, 1, weights), 20) == ids(SeedOrder(RECORDS, 42, 1), 20)


def test_no_records_are_refused() -> None:
    with pytest.raises(DataError, match="no training records"):
        SeedOrder([], 42, 1)
