"""Tests of which synthetic pairs are kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from llamaduo_gui.core.config import SplitConfig, SynthesisConfig
from llamaduo_gui.core.types import Message, Record, RejectReason, Split
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.data.splits import assign_splits
from llamaduo_gui.synthesis.filtering import PairFilter
from llamaduo_gui.synthesis.prompts import SeedPair

SEED_TEXT = "How many apples are left in the basket when four of the nine apples are eaten?"
TRAIN_TEXT = "Name the three longest rivers of South America, from the longest to the shortest."
TEST_TEXT = "Which planet of the solar system has the shortest day, and how long does it last?"


def make_record(prompt: str, prompt_id: str, response: str = "answer") -> Record:
    return Record((Message("user", prompt), Message("assistant", response)), "general", prompt_id)


SEED = SeedPair.of(make_record(SEED_TEXT, "seed"))


def make_filter() -> PairFilter:
    train = [make_record(SEED_TEXT, "seed"), make_record(TRAIN_TEXT, "train")]
    return PairFilter(train, [make_record(TEST_TEXT, "test")], SynthesisConfig())


def reason(pair_filter: PairFilter, prompt: str) -> RejectReason | None:
    found = pair_filter.check(make_record(prompt, "new"), SEED)
    return found.reason if found else None


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("What is the capital of Peru?", None),
        (TRAIN_TEXT.upper(), RejectReason.EXACT_DUPLICATE),
        (TRAIN_TEXT.replace("shortest.", "smallest!"), RejectReason.NEAR_DUPLICATE),
        (
            SEED_TEXT.replace("apples", "plums").replace("four", "two").replace("nine", "six"),
            RejectReason.TOO_CLOSE_TO_SEED,
        ),
        (TEST_TEXT, RejectReason.CONTAMINATED),
        (f"Tell me, please: {TEST_TEXT} And why?", RejectReason.CONTAMINATED),
    ],
)
def test_each_test_rejects_with_its_own_reason(prompt: str, expected: RejectReason | None) -> None:
    assert reason(make_filter(), prompt) is expected


def test_details_name_the_other_record() -> None:
    pair_filter = make_filter()
    for prompt, name in [(TRAIN_TEXT, "train"), (TEST_TEXT, "test")]:
        found = pair_filter.check(make_record(prompt, "new"), SEED)
        assert found is not None
        assert name in found.detail


def test_a_kept_pair_is_compared_with_from_then_on() -> None:
    pair_filter = make_filter()
    prompt = "What is the capital of Peru, and how many people live there today?"
    assert reason(pair_filter, prompt) is None
    assert reason(pair_filter, prompt) is None
    pair_filter.keep(make_record(prompt, "kept"))
    assert reason(pair_filter, prompt) is RejectReason.EXACT_DUPLICATE
    assert reason(pair_filter, prompt.replace("today", "now")) is RejectReason.NEAR_DUPLICATE


def test_pairs_of_earlier_rounds_count() -> None:
    pair_filter = make_filter()
    pair_filter.remember([make_record("What is the capital of Peru?", "r1-x")])
    assert reason(pair_filter, "what is the capital of peru?") is RejectReason.EXACT_DUPLICATE


@pytest.mark.shared_data
@pytest.mark.parametrize(("task", "least"), [("classification", 0.95), ("coding", 0.93)])
def test_real_pairs_of_a_templated_task_are_mostly_kept(
    shared_data: Path, task: str, least: float
) -> None:
    records = read_records(shared_data / "coverage" / f"{task}.jsonl").records
    splits = assign_splits(records, SplitConfig())
    train = [r for r, split in zip(records, splits, strict=True) if split is Split.TRAIN]
    held_out = [r for r, split in zip(records, splits, strict=True) if split is not Split.TRAIN]
    pair_filter = PairFilter(train, held_out, SynthesisConfig())
    with (shared_data / "teacher_pool" / f"{task}.jsonl").open(encoding="utf-8") as lines:
        pool = [json.loads(line) for line in lines][:1000]
    found: Counter[RejectReason | None] = Counter()
    for number, row in enumerate(pool):
        record = make_record(row["instruction"], str(number), row["response"])
        rejection = pair_filter.check(record, SeedPair.of(train[number % len(train)]))
        found[rejection.reason if rejection else None] += 1
        if rejection is None:
            pair_filter.keep(record)
    assert found[None] >= least * len(pool), found
