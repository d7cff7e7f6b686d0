"""Tests of the gate that keeps evaluation prompts out of the training data."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from llamaduo_gui.core.config import SplitConfig
from llamaduo_gui.core.types import Message, Record, Split
from llamaduo_gui.data.boilerplate import Boilerplate, learn_boilerplate
from llamaduo_gui.data.decontaminate import ContaminationGate
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.data.splits import assign_splits

LONG = (
    "The lighthouse keeper rowed to the mainland every Friday to fetch oil, bread, letters and "
    "whatever gossip the harbour had to offer that week, rain or shine."
)


def make_record(prompt: str, target: str = "ok", prompt_id: str = "eval") -> Record:
    return Record((Message("user", prompt), Message("assistant", target)), "general", prompt_id)


def finding(gate: ContaminationGate, instruction: str, response: str = "fine") -> str | None:
    found = gate.check(instruction, response)
    return found.test if found else None


def test_the_same_prompt_is_contaminated() -> None:
    gate = ContaminationGate([make_record("Where is my card?")])
    assert finding(gate, "where is  MY card?") == "exact"
    found = gate.check("where is my card?", "x")
    assert found is not None
    assert found.prompt_id == "eval"


def test_a_reworded_long_prompt_is_a_near_duplicate() -> None:
    gate = ContaminationGate([make_record(LONG)])
    assert finding(gate, LONG.replace("or shine", "or snow")) == "near_duplicate"


def test_thirteen_words_in_a_row_contaminate_and_twelve_do_not() -> None:
    gate = ContaminationGate([make_record(LONG)])
    words = LONG.split()
    story = "Tell me another tale in which {} and then something else entirely happens to him."
    assert finding(gate, story.format(" ".join(words[3:16]))) == "ngram"
    assert finding(gate, story.format(" ".join(words[3:15]))) is None


def test_the_length_of_the_run_is_configurable() -> None:
    gate = ContaminationGate([make_record(LONG)], ngram=6)
    assert finding(gate, "He " + " ".join(LONG.split()[2:8]) + " at noon, alone.") == "ngram"


def test_a_target_response_is_not_to_be_found_in_a_pair() -> None:
    gate = ContaminationGate([make_record("Write a story.", LONG)])
    assert finding(gate, f"Shorten this: {LONG}") == "ngram"
    assert finding(gate, "Tell me a tale.", f"Once more: {LONG}") == "ngram"


def test_labels_are_shared_on_purpose() -> None:
    gate = ContaminationGate([make_record("Where is my card?", "card_arrival")])
    assert finding(gate, "My card has not come", "card_arrival") is None


@pytest.mark.parametrize(
    ("evaluation", "instruction", "expected"),
    [
        ("where is my new card", "hello, where is my new card? i need it", "contained"),
        ("hello, where is my new card please", "where is my new card", "contained"),
        ("where is my card", "hello, where is my card? i need it", None),
        ("where is my new card", "where is my old card", None),
        (LONG, "every Friday to fetch oil", None),
    ],
)
def test_short_prompts_contaminate_when_one_contains_the_other(
    evaluation: str, instruction: str, expected: str | None
) -> None:
    assert finding(ContaminationGate([make_record(evaluation)]), instruction) == expected


def test_a_header_of_the_task_does_not_flag_every_pair() -> None:
    header = (
        "Read the message of a customer below and choose exactly one of the intents of our bank; "
        "answer with nothing but the label of the intent. Message:"
    )
    rng = random.Random(0)
    letters = "abcdefghijklmnop"
    train = [f"{header} {' '.join(rng.choices(letters, k=8))}" for _ in range(40)]
    evaluation = [make_record(f"{header} where is my new card")]
    plain = ContaminationGate(evaluation)
    gate = ContaminationGate(evaluation, prompt_boilerplate=learn_boilerplate(train))
    assert finding(plain, f"{header} i lost my old phone") is not None
    assert finding(gate, f"{header} i lost my old phone") is None
    assert finding(gate, f"{header} hi there, where is my new card?") == "contained"
    assert finding(gate, f"{header} Where is my NEW card") == "exact"


def test_wording_that_only_evaluation_prompts_share_still_counts() -> None:
    evaluation = [make_record(f"{LONG} Question {n}: what {n}?", prompt_id=str(n)) for n in "abcd"]
    gate = ContaminationGate(evaluation, prompt_boilerplate=Boilerplate.none())
    assert finding(gate, f"Continue this story for me. {LONG}") is not None


def test_an_empty_gate_lets_everything_through() -> None:
    gate = ContaminationGate([])
    assert finding(gate, LONG, LONG) is None
    assert finding(gate, "where is my card now", "") is None
    assert len(gate) == 0


@pytest.mark.shared_data
def test_few_pool_pairs_of_a_templated_task_are_flagged_and_no_planted_one_is_missed(
    shared_data: Path,
) -> None:
    records = read_records(shared_data / "coverage" / "classification.jsonl").records
    splits = assign_splits(records, SplitConfig())
    train = [r for r, split in zip(records, splits, strict=True) if split is Split.TRAIN]
    evaluation = [r for r, split in zip(records, splits, strict=True) if split is not Split.TRAIN]
    gate = ContaminationGate(
        evaluation,
        prompt_boilerplate=learn_boilerplate([record.instruction for record in train]),
        response_boilerplate=learn_boilerplate([record.target for record in train]),
    )
    with (shared_data / "teacher_pool" / "classification.jsonl").open(encoding="utf-8") as lines:
        pool = [json.loads(line) for line in lines]
    found = Counter(finding(gate, row["instruction"], row["response"]) for row in pool)
    assert found[None] >= 0.99 * len(pool)
    for record in evaluation:
        assert finding(gate, record.instruction.upper(), "x") is not None
        assert finding(gate, f"{record.instruction} Thanks", "x") is not None or (
            len(record.instruction.split("Message:")[1].split()) < 5
        )
