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


HISTORY = (
    Message("system", "Be brief and kind, and never guess what a customer wants from us."),
    Message("user", "My parcel with the blue lamp has not come yet, what shall I do about it?"),
    Message("assistant", "I am sorry to hear it. Please give me the number of your order first."),
)


def make_talk(prompt: str, prompt_id: str, history: tuple[Message, ...] = HISTORY) -> Record:
    turns = (*history, Message("user", prompt), Message("assistant", "answer"))
    return Record(turns, "general", prompt_id)


def talk_filter() -> tuple[PairFilter, SeedPair]:
    seed = make_talk("It is 48213, and I ordered it on the first of May.", "talk")
    test = make_talk("Sorry, I have lost the number, can you find it by my name?", "test-talk")
    return PairFilter([seed], [test], SynthesisConfig()), SeedPair.of(seed)


def test_other_endings_of_one_conversation_are_no_duplicates() -> None:
    pair_filter, seed = talk_filter()
    for number, prompt in enumerate(("I do not have it with me.", "Where do I find that number?")):
        record = make_talk(prompt, f"new-{number}")
        assert pair_filter.check(record, seed) is None
        pair_filter.keep(record)


def test_the_same_ending_twice_is_a_duplicate_and_in_another_conversation_it_is_not() -> None:
    pair_filter, seed = talk_filter()
    prompt = "Where on the letter do I find the number that you need from me?"
    pair_filter.keep(make_talk(prompt, "kept"))
    same = pair_filter.check(make_talk(prompt.upper(), "new"), seed)
    near = pair_filter.check(make_talk(prompt.replace("me?", "us?"), "new"), seed)
    assert same is not None
    assert near is not None
    assert (same.reason, same.against) == (RejectReason.EXACT_DUPLICATE, "kept")
    assert (near.reason, near.against) == (RejectReason.NEAR_DUPLICATE, "kept")
    other = (Message("user", "Hello!"), Message("assistant", "Hello, how can I help you?"))
    assert pair_filter.check(make_talk(prompt, "new", other), seed) is None


def test_an_ending_too_close_to_the_seeds_or_an_evaluation_ending_is_rejected() -> None:
    pair_filter, seed = talk_filter()
    close = make_talk("It is 50977, and I ordered it on the first of May.", "new")
    found = pair_filter.check(close, seed)
    assert found is not None
    assert (found.reason, found.against) == (RejectReason.TOO_CLOSE_TO_SEED, "talk")
    copied = make_talk("Sorry, I have lost the number, can you find it by my name?", "new")
    found = pair_filter.check(copied, seed)
    assert found is not None
    assert (found.reason, found.against) == (RejectReason.CONTAMINATED, "test-talk")


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
