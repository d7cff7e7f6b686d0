"""Tests of the frozen, stratified splits."""

from __future__ import annotations

import random
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamaduo_gui.core.config import SplitConfig
from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Message, Record, Split
from llamaduo_gui.data.splits import MIN_PROMPTS, assign_splits


def make_record(number: int, category: str = "a", prompt: str | None = None) -> Record:
    text = prompt if prompt is not None else f"prompt number {number}"
    turns = (Message("user", text), Message("assistant", f"answer {number}"))
    return Record(turns, category, f"id-{number}")


def make_dataset(sizes: list[int]) -> list[Record]:
    names = [f"category {number}" for number, size in enumerate(sizes) for _ in range(size)]
    return [make_record(number, name) for number, name in enumerate(names)]


datasets = st.lists(st.integers(1, 60), min_size=1, max_size=12).filter(
    lambda sizes: sum(sizes) >= MIN_PROMPTS
)
configs = st.builds(
    SplitConfig,
    validation=st.floats(0.02, 0.4),
    test=st.floats(0.02, 0.4),
    seed=st.integers(0, 2**31),
)


@settings(max_examples=200)
@given(datasets, configs)
def test_every_record_gets_a_split_and_the_shares_hold(
    sizes: list[int], config: SplitConfig
) -> None:
    records = make_dataset(sizes)
    splits = assign_splits(records, config)
    assert len(splits) == len(records)
    counts = Counter(splits)
    assert counts[Split.VALIDATION] == max(1, round(config.validation * len(records)))
    assert counts[Split.TEST] == max(1, round(config.test * len(records)))
    assert counts[Split.TRAIN] >= 1


@settings(max_examples=200)
@given(datasets, configs, st.integers())
def test_the_order_of_the_file_does_not_matter(
    sizes: list[int], config: SplitConfig, shuffle: int
) -> None:
    records = make_dataset(sizes)
    shuffled = random.Random(shuffle).sample(records, len(records))
    first = {r.prompt_id: s for r, s in zip(records, assign_splits(records, config), strict=True)}
    again = {r.prompt_id: s for r, s in zip(shuffled, assign_splits(shuffled, config), strict=True)}
    assert first == again


@settings(max_examples=100)
@given(datasets, configs)
def test_each_category_gets_its_share_within_one_where_it_can(
    sizes: list[int], config: SplitConfig
) -> None:
    records = make_dataset([size + 20 for size in sizes])
    splits = assign_splits(records, config)
    per_category = Counter((r.category, s) for r, s in zip(records, splits, strict=True))
    totals = Counter(r.category for r in records)
    test_size = max(1, round(config.test * len(records)))
    for name, total in totals.items():
        exact = test_size * total / len(records)
        assert abs(per_category[name, Split.TEST] - exact) < 1 + 1e-9


@settings(max_examples=100)
@given(st.lists(st.integers(0, 25), min_size=60, max_size=120), configs)
def test_equal_prompts_never_straddle_splits(numbers: list[int], config: SplitConfig) -> None:
    if len(set(numbers)) < MIN_PROMPTS:
        numbers = numbers + list(range(MIN_PROMPTS))
    records = [
        make_record(
            place, f"c{place % 3}", f"Prompt  {number}" if place % 2 else f"prompt {number}"
        )
        for place, number in enumerate(numbers)
    ]
    found: dict[int, set[Split]] = {}
    for number, split in zip(numbers, assign_splits(records, config), strict=True):
        found.setdefault(number, set()).add(split)
    assert all(len(splits) == 1 for splits in found.values())


def test_another_seed_draws_other_records() -> None:
    records = make_dataset([100])
    assert assign_splits(records, SplitConfig(seed=1)) != assign_splits(
        records, SplitConfig(seed=2)
    )


def test_the_draw_of_a_seed_is_frozen() -> None:
    splits = assign_splits(make_dataset([20]), SplitConfig(seed=42))
    drawn = [number for number, split in enumerate(splits) if split is Split.TEST]
    assert drawn == [11, 19]


def test_a_rare_category_keeps_a_training_record() -> None:
    records = make_dataset([96, 2, 1, 1])
    splits = assign_splits(records, SplitConfig(validation=0.3, test=0.3))
    trained = {r.category for r, s in zip(records, splits, strict=True) if s is Split.TRAIN}
    assert trained == {record.category for record in records}


def test_categories_of_one_record_each_are_still_split() -> None:
    counts = Counter(assign_splits(make_dataset([1] * 50), SplitConfig()))
    assert counts == {Split.TRAIN: 40, Split.VALIDATION: 5, Split.TEST: 5}


@pytest.mark.parametrize("count", [0, 1, MIN_PROMPTS - 1])
def test_too_few_prompts_are_refused_with_the_minimum(count: int) -> None:
    records = make_dataset([count]) * 3
    with pytest.raises(DataError, match=f"^{count} different prompts .* at least {MIN_PROMPTS} "):
        assign_splits(records, SplitConfig())


def test_the_minimum_is_enough() -> None:
    counts = Counter(assign_splits(make_dataset([MIN_PROMPTS]), SplitConfig()))
    assert counts == {Split.TRAIN: 8, Split.VALIDATION: 1, Split.TEST: 1}
