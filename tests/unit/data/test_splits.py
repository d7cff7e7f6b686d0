"""Tests of the frozen, stratified splits."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamaduo_gui.core.config import SplitConfig
from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Message, Record, Split
from llamaduo_gui.data import passages
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.data.splits import (
    MIN_PROMPTS,
    SplitPlan,
    SplitPlanner,
    assign_splits,
    describe_notes,
)
from llamaduo_gui.data.text import hash_ngrams, hash_tokens, tokenise


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


WORDS = ("river", "stone", "lamp", "cloud", "metal", "paper", "glass", "wheel", "tower", "garden")


def make_passage(seed: int, length: int = 60) -> str:
    draw = random.Random(seed)
    return " ".join(f"{draw.choice(WORDS)}{draw.randrange(1000)}" for _ in range(length))


def make_questions(
    passages: int, questions: int, *, template: str = "", singles: int = 0
) -> list[Record]:
    """Questions about passages, named by their passage in the `generator`, and single prompts."""
    found = []
    for passage in range(passages):
        for question in range(questions):
            number = passage * questions + question
            text = f"{template}Question {number * 7919}?\n\n{make_passage(passage)}"
            record = make_record(number, prompt=text)
            found.append(Record(record.messages, "qa", f"id-{number}", generator=str(passage)))
    for number in range(singles):
        text = f"{template}{make_passage(10_000 + number, 20)}"
        record = make_record(number, prompt=text)
        found.append(Record(record.messages, "qa", f"single-{number}", generator=f"s{number}"))
    return found


def splits_by_passage(records: list[Record], plan: SplitPlan) -> dict[str, set[Split]]:
    found: dict[str, set[Split]] = {}
    for record, split in zip(records, plan.splits, strict=True):
        found.setdefault(str(record.generator), set()).add(split)
    return found


def make_plan(records: list[Record], config: SplitConfig | None = None) -> SplitPlan:
    planner = SplitPlanner(config or SplitConfig())
    for record in records:
        planner.add(record)
    return planner.plan()


@pytest.mark.parametrize("template", ["", " ".join(["Answer from the text only, please."] * 8)])
def test_questions_about_one_passage_stay_in_one_split(template: str) -> None:
    records = make_questions(12, 5, template=template, singles=40)
    plan = make_plan(records)
    assert all(len(splits) == 1 for splits in splits_by_passage(records, plan).values())
    assert (plan.notes.groups, plan.notes.grouped, plan.notes.too_large) == (12, 60, 0)
    counts = Counter(plan.splits)
    assert counts == {Split.TRAIN: 80, Split.VALIDATION: 10, Split.TEST: 10}


def test_passages_that_leave_no_room_make_a_split_smaller_or_larger_but_never_leak() -> None:
    records = make_questions(4, 6)
    plan = make_plan(records)
    assert all(len(splits) == 1 for splits in splits_by_passage(records, plan).values())
    assert set(Counter(plan.splits).values()) == {6, 12}


def test_near_duplicates_stay_in_one_split() -> None:
    text = "where is my parcel from the shop in the old town that I ordered on monday morning"
    records = make_dataset([40])
    for number in range(100, 120):
        base = f"{make_passage(number, 12)} {text}"
        for end in ("", " now"):
            record = make_record(number, prompt=base + end)
            records.append(Record(record.messages, "a", f"{number}{end}", generator=str(number)))
    plan = make_plan(records)
    named = [(r, s) for r, s in zip(records, plan.splits, strict=True) if r.generator]
    found: dict[str, set[Split]] = {}
    for record, split in named:
        found.setdefault(str(record.generator), set()).add(split)
    assert all(len(splits) == 1 for splits in found.values())
    assert plan.notes.near_duplicates == 40


def test_a_passage_of_more_than_a_third_of_all_prompts_is_split_and_said() -> None:
    records = [
        make_record(number, prompt=f"{make_passage(number)} {make_passage(number + 1)}")
        for number in range(1, 31)
    ]
    plan = make_plan(records)
    assert plan.notes.too_large == 30
    assert "split all the same" in " ".join(describe_notes(plan.notes))
    assert Counter(plan.splits)[Split.TEST] == 3


def test_repeated_prompts_are_counted_and_said() -> None:
    records = [*make_dataset([20]), make_record(99, prompt="Prompt  number 3")]
    plan = make_plan(records)
    assert plan.notes.repeats == 1
    assert plan.splits[3] == plan.splits[-1]
    assert describe_notes(plan.notes)[0].startswith("1 record has a prompt")


def test_more_text_than_can_be_compared_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passages, "_MAX_TOKENS", 500)
    plan = make_plan(make_questions(12, 5))
    assert not plan.notes.is_complete
    assert plan.notes.groups == 0
    assert "not looked for" in describe_notes(plan.notes)[0]


def test_the_splits_of_the_demo_are_as_they_always_were(repository: Path) -> None:
    records = read_records(repository / "resources" / "demo" / "coverage.jsonl").records
    config = SplitConfig(validation=0.2, test=0.2, seed=42)
    drawn = "".join(split.value for split in assign_splits(records, config))
    assert hashlib.sha256(drawn.encode()).hexdigest()[:12] == "700bfe09a4ef"


@pytest.mark.shared_data
def test_no_passage_of_the_shared_closed_questions_is_in_two_splits(shared_data: Path) -> None:
    """Drawn prompt by prompt, 39 of the 40 evaluation prompts had a passage seen in training."""
    records = read_records(shared_data / "coverage" / "closed_qa.jsonl").records
    plan = make_plan(records)
    runs: dict[int, set[Split]] = {}
    for record, split in zip(records, plan.splits, strict=True):
        for run in hash_ngrams(hash_tokens(tokenise(record.instruction)), 30).tolist():
            runs.setdefault(run, set()).add(split)
    assert all(len(splits) == 1 for splits in runs.values())
    assert plan.notes.grouped == 193
    assert Counter(plan.splits) == {Split.TRAIN: 160, Split.VALIDATION: 20, Split.TEST: 20}
