"""Tests of reading pairs out of whatever a teacher replies."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamaduo_gui.core.types import RejectReason
from llamaduo_gui.providers.base import FinishReason
from llamaduo_gui.synthesis.parse import ParsedPair, ParseReject, parse_reply
from tests.reply_heaps import reply_heaps

ONE = {"instruction": "What is 2 + 2?", "response": "4"}
TWO = {"instruction": "What is 3 + 3?", "response": "6"}
PAIRS = [ParsedPair("What is 2 + 2?", "4"), ParsedPair("What is 3 + 3?", "6")]
WHOLE = json.dumps({"pairs": [ONE, TWO]})


def reasons(text: str, finish_reason: FinishReason = "stop") -> list[RejectReason | None]:
    found = parse_reply(text, finish_reason)
    return [item.reason if isinstance(item, ParseReject) else None for item in found]


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        f"\n {WHOLE}\n",
        json.dumps([ONE, TWO]),
        json.dumps([{"pairs": [ONE, TWO]}]),
        f"Here you are:\n```json\n{WHOLE}\n```\nAnything else?",
        f"```\n{WHOLE}\n```",
        f"Sure! {WHOLE} Hope [that] helps {{so}}.",
        f"As [asked] {{here}}: {WHOLE}",
        f"As [asked]: {WHOLE.removesuffix('}')}",
        WHOLE.replace("}]", "},]"),
        WHOLE.replace('"pairs"', "pairs"),
        WHOLE.replace('"', "'"),
        WHOLE.removesuffix("}"),
    ],
)
def test_pairs_are_read_from_json_fences_prose_and_slightly_broken_json(text: str) -> None:
    assert parse_reply(text) == PAIRS


def test_a_single_pair_without_a_list_is_read() -> None:
    assert parse_reply(json.dumps(ONE)) == PAIRS[:1]


def test_code_in_a_response_survives() -> None:
    code = "```python\ndef f(x):\n    return {'a': [x]}\n```"
    text = json.dumps({"pairs": [{"instruction": "Write f.", "response": code}]})
    assert parse_reply(text) == [ParsedPair("Write f.", code)]
    assert parse_reply(f"```json\n{text}\n```") == [ParsedPair("Write f.", code)]


def test_a_number_is_taken_as_a_response() -> None:
    assert parse_reply('{"pairs": [{"instruction": "2 + 2?", "response": 4}]}') == [
        ParsedPair("2 + 2?", "4")
    ]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"instruction": "a"}, "response: field required"),
        ({"instruction": " ", "response": "b"}, "instruction: is empty"),
        ({"instruction": "...", "response": "..."}, "placeholder"),
        ({"instruction": "a", "response": ["b"]}, "response: input should be a valid string"),
        ({"instruction": "a", "response": "\ud800"}, "surrogate"),
        ("just text", "entry: input should be"),
        (None, "entry: input should be"),
    ],
)
def test_unusable_entries_are_rejected_and_the_others_kept(entry: Any, words: str) -> None:
    found = parse_reply(json.dumps({"pairs": [ONE, entry, TWO]}))
    assert [found[0], found[2]] == PAIRS
    reject = found[1]
    assert isinstance(reject, ParseReject)
    assert reject.reason is RejectReason.SCHEMA
    assert words in reject.detail


def test_a_rejected_entry_keeps_what_it_had() -> None:
    (reject,) = parse_reply('{"pairs": [{"instruction": "a", "response": {"b": 1}}]}')
    assert isinstance(reject, ParseReject)
    assert (reject.instruction, reject.response) == ("a", "{'b': 1}")


@pytest.mark.parametrize("finish_reason", ["length", "stop"])
def test_a_reply_cut_off_within_a_pair_keeps_the_pairs_before_it(
    finish_reason: FinishReason,
) -> None:
    cut = WHOLE[: WHOLE.index("3 + 3") + 3]
    found = parse_reply(cut, finish_reason)
    assert found[:-1] == PAIRS[:1]
    assert reasons(cut, finish_reason) == [None, RejectReason.TRUNCATED]


def test_a_reply_that_ends_exactly_at_the_limit_is_whole() -> None:
    assert parse_reply(WHOLE, "length") == PAIRS


@pytest.mark.parametrize(
    "rest", ["", ",", ", ", ",\n  {", ', {"instruction"', ', {"instruction": "']
)
def test_a_pair_that_is_complete_is_kept_wherever_the_reply_ends_after_it(rest: str) -> None:
    cut = WHOLE[: WHOLE.index("}") + 1] + rest
    assert parse_reply(cut, "length")[:-1] == PAIRS[:1]
    assert reasons(cut, "length") == [None, RejectReason.TRUNCATED]


def test_brackets_inside_a_lone_cut_pair_make_it_no_list() -> None:
    cut = '{"instruction": "Write a list.", "response": "[{} and then'
    assert reasons(cut, "length") == [RejectReason.TRUNCATED]


def test_a_cut_reply_that_is_not_quite_json_gives_its_last_pair_up() -> None:
    cut = WHOLE.replace('"', "'")[: WHOLE.index("3 + 3") + 3]
    assert parse_reply(cut, "length")[:-1] == PAIRS[:1]
    assert reasons(cut, "length") == [None, RejectReason.TRUNCATED]


def test_a_reply_cut_off_before_its_first_pair_is_truncated() -> None:
    assert reasons("Let me think about", "length") == [RejectReason.TRUNCATED]
    assert reasons("", "length") == [RejectReason.TRUNCATED]


@pytest.mark.parametrize(
    ("text", "finish_reason"),
    [
        ("", "refusal"),
        ("No.", "content_filter"),
        ("I'm sorry, but I can't help with that.", "stop"),
        ("I cannot create such examples.", "stop"),
        ("As an AI language model, I must decline.", "stop"),
    ],
)
def test_refusals_are_told_from_broken_replies(text: str, finish_reason: FinishReason) -> None:
    assert reasons(text, finish_reason) == [RejectReason.REFUSED]


def test_a_pair_about_a_refusal_is_a_pair() -> None:
    text = '{"pairs": [{"instruction": "I cannot log in", "response": "I\'m sorry to hear it."}]}'
    assert reasons(text) == [None]


@pytest.mark.parametrize(
    "text",
    ["", "   ", "hello", "42", "null", "{}", "[]", "[1, 2]", '{"pairs": []}', '{"pairs": "no"}'],
)
def test_a_reply_without_pairs_is_one_schema_reject(text: str) -> None:
    assert reasons(text) == [RejectReason.SCHEMA]


def test_a_fence_in_the_place_of_a_key_is_read_without_a_traceback() -> None:
    broken = '{"pairs": [{"instruction": "a", "```json\n{"pairs": [```json\nresponse": "4"}]}'
    assert RejectReason.SCHEMA in reasons(broken)


def test_deep_nesting_and_long_replies_end_quickly() -> None:
    assert reasons("[" * 200_000) == [RejectReason.SCHEMA]
    assert reasons('{"pairs": ' * 50_000)
    assert reasons("{" + "x" * 300_000)


FINISHES = st.sampled_from(["stop", "length", "refusal", "content_filter", "other"])
FRAGMENTS = (
    *('{"pairs": [', '{"instruction": "', '"response": ', '"}', "]", "}", "```json\n", "```"),
    *("\\u00", "\\", "'", "[", "{", ":", ",", "null", "1e999", "\n", "Sure: ", "...", "// a"),
)


def check_is_total(text: str, finish_reason: FinishReason) -> None:
    found = parse_reply(text, finish_reason)
    assert found
    for item in found:
        for value in (item.instruction, item.response):
            value.encode("utf-8")
        if isinstance(item, ParsedPair):
            assert item.instruction.strip()
            assert item.response.strip()
        else:
            assert item.detail.encode("utf-8")


@settings(max_examples=10_000)
@given(reply_heaps(FRAGMENTS, WHOLE), FINISHES)
def test_whatever_a_teacher_replies_is_read_without_a_traceback(
    text: str, finish_reason: FinishReason
) -> None:
    check_is_total(text, finish_reason)


@settings(max_examples=300)
@given(st.data(), FINISHES)
def test_a_reply_cut_anywhere_never_yields_a_shortened_pair(
    data: st.DataObject, finish_reason: FinishReason
) -> None:
    text = WHOLE[: data.draw(st.integers(0, len(WHOLE)))]
    for item in parse_reply(text, finish_reason):
        assert isinstance(item, ParseReject) or item in PAIRS
