"""Tests of which training record each synthesis request is made from."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from llamaduo_gui.core.config import SynthesisConfig
from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Message, Record
from llamaduo_gui.synthesis.seeds import SeedOrder, SeedPool, all_strategies

SUBJECTS = ("apples and pears in the orchard", "trains and timetables at the station")


def make_record(number: int, category: str = "a", prompt: str = "") -> Record:
    asked = prompt or f"prompt {number}"
    return Record(
        (Message("user", asked), Message("assistant", "answer")), category, f"{number:03}"
    )


RECORDS = [make_record(number, "ab"[number % 2]) for number in range(20)]


def make_order(
    strategy: str, records: list[Record] = RECORDS, round_number: int = 1, **pool: object
) -> SeedOrder:
    seed = pool.pop("seed", 42)
    return all_strategies()[strategy].make(
        SeedPool.of(records, seed, round_number, **pool)  # type: ignore[arg-type]
    )


def ids(order: SeedOrder, count: int) -> list[str]:
    return [order.record(index).prompt_id for index in range(count)]


def weigh(**by_category: float) -> dict[str, float]:
    return {
        record.prompt_id: by_category[record.category]
        for record in RECORDS
        if record.category in by_category
    }


def test_the_settings_know_every_strategy_and_no_other() -> None:
    names = get_args(SynthesisConfig.model_fields["strategy"].annotation)
    assert set(names) == set(all_strategies())
    assert all(item.name == name for name, item in all_strategies().items())
    assert next(iter(all_strategies())) == "uniform"


@pytest.mark.parametrize("strategy", ["uniform", "breadth"])
def test_every_record_is_used_once_before_any_is_used_again(strategy: str) -> None:
    chosen = ids(make_order(strategy), 60)
    for start in (0, 20, 40):
        assert len(set(chosen[start : start + 20])) == 20


@pytest.mark.parametrize("strategy", sorted(all_strategies()))
def test_the_order_depends_on_seed_and_round_but_not_on_the_order_of_the_records(
    strategy: str,
) -> None:
    weights = weigh(a=10.0, b=90.0)
    first = ids(make_order(strategy, weights=weights), 20)
    assert ids(make_order(strategy, RECORDS[::-1], weights=weights), 20) == first
    assert ids(make_order(strategy, round_number=2, weights=weights), 20) != first
    assert ids(make_order(strategy, seed=43, weights=weights), 20) != first


@pytest.mark.parametrize("strategy", sorted(all_strategies()))
def test_a_record_can_be_asked_for_out_of_order(strategy: str) -> None:
    weights = weigh(a=10.0, b=90.0)
    order = make_order(strategy, weights=weights)
    last = order.record(57).prompt_id
    assert ids(order, 60)[57] == last == ids(make_order(strategy, weights=weights), 60)[57]


def test_uniform_passes_differ_from_one_another() -> None:
    chosen = ids(make_order("uniform"), 40)
    assert chosen[:20] != chosen[20:]


def test_records_that_need_more_are_drawn_more_often() -> None:
    order = make_order("failure_driven", weights=weigh(a=10.0, b=90.0))
    counts = Counter(order.record(index).category for index in range(2000))
    assert 0.86 < counts["b"] / 2000 < 0.94


def test_a_record_without_a_weight_gets_the_mean() -> None:
    records = [make_record(number, "abc"[number % 3]) for number in range(30)]
    weights = {
        record.prompt_id: {"a": 10.0, "b": 90.0}[record.category]
        for record in records
        if record.category != "c"
    }
    order = make_order("failure_driven", records, weights=weights)
    counts = Counter(order.record(index).category for index in range(3000))
    assert 0.29 < counts["c"] / 3000 < 0.38


@pytest.mark.parametrize("weights", [{}, {"000": 0.0, "001": 0.0}])
def test_weights_that_say_nothing_are_no_weights(weights: dict[str, float]) -> None:
    assert ids(make_order("failure_driven", weights=weights), 20) == ids(make_order("uniform"), 20)


def test_the_uniform_strategy_ignores_weights() -> None:
    assert ids(make_order("uniform", weights=weigh(a=99.0, b=1.0)), 40) == ids(
        make_order("uniform"), 40
    )


def make_subjects() -> list[Record]:
    """Nine records about the orchard and one about the station."""
    prompts = [f"{SUBJECTS[0]} number {number}" for number in range(9)] + [SUBJECTS[1]]
    return [make_record(number, prompt=prompt) for number, prompt in enumerate(prompts)]


def test_breadth_takes_first_what_is_least_like_the_earlier_pairs() -> None:
    records = make_subjects()
    much = [f"{SUBJECTS[0]} again {number}" for number in range(30)]
    for seed in range(5):
        order = make_order("breadth", records, seed=seed, earlier=much)
        assert order.record(0).prompt_id == "009"
    other = [f"{SUBJECTS[1]} again {number}" for number in range(30)]
    last = [make_order("breadth", records, seed=s, earlier=other).record(9) for s in range(5)]
    assert {record.prompt_id for record in last} == {"009"}


def test_breadth_spreads_from_seed_to_seed() -> None:
    prompts = [f"pears {number} apples" for number in range(9)] + ["trains"]
    records = [make_record(number, prompt=prompt) for number, prompt in enumerate(prompts)]
    first = [ids(make_order("breadth", records, seed=seed), 2) for seed in range(5)]
    assert all("009" in pair for pair in first)


def test_no_records_are_refused() -> None:
    with pytest.raises(DataError, match="no training records"):
        SeedPool.of([], 42, 1)
