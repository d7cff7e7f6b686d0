"""Tests of normalisation, tokens, hashes and similarity measures."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from rouge_score.rouge_scorer import RougeScorer

from llamaduo_gui.data.similarity import jaccard, lcs_length, rouge_l
from llamaduo_gui.data.text import hash_ngrams, hash_tokens, normalise, text_key, tokenise

words = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta"]), max_size=30)


def test_case_spacing_and_compatibility_forms_do_not_make_another_text() -> None:
    assert text_key(" Hello\n\tWORLD ") == text_key("hello world")
    assert text_key("\uff28\uff25llo") == text_key("hello")
    assert text_key("hello world") != text_key("hello worlds")


@given(st.text(st.characters(codec="latin-1")))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert text_key(text) == text_key(f"  {text}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Top-up, please!", ["top", "up", "please"]),
        ("2 + 3 = 5", ["2", "+", "3", "=", "5"]),
        ("2*3", ["2", "*", "3"]),
        ("minus -5 degrees", ["minus", "-", "5", "degrees"]),
        ("10-15 items", ["10", "15", "items"]),
        ("\u6771\u4eac is big", ["\u6771", "\u4eac", "is", "big"]),
        ("?!", ["?!"]),
        ("  ", []),
    ],
)
def test_tokens_are_words_numbers_signs_and_single_cjk_characters(
    text: str, expected: list[str]
) -> None:
    assert tokenise(text) == expected


@given(st.text())
def test_a_text_that_is_not_blank_has_a_token(text: str) -> None:
    assert bool(tokenise(text)) == bool(normalise(text))


def test_token_hashes_are_the_same_in_every_process() -> None:
    assert hash_tokens(["alpha"]).tolist() == [7548820497737477787]


def test_equal_runs_have_equal_hashes_and_order_counts() -> None:
    one = hash_ngrams(hash_tokens(["a", "b", "c", "d", "a", "b", "c"]), 3)
    assert one.shape == (5,)
    assert one[0] == one[4]
    assert len(np.unique(one)) == 4
    assert hash_ngrams(hash_tokens(["c", "b", "a"]), 3)[0] != one[0]
    assert hash_ngrams(hash_tokens(["a"]), 3).shape == (0,)


@given(words, words)
def test_lcs_equals_the_textbook_algorithm(left: list[str], right: list[str]) -> None:
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
            )
    assert lcs_length(left, right) == table[-1][-1]


@given(words, words)
def test_rouge_l_equals_the_reference_package(left: list[str], right: list[str]) -> None:
    scorer = RougeScorer(["rougeL"])
    expected = scorer.score(" ".join(left), " ".join(right))["rougeL"].fmeasure
    assert rouge_l(left, right) == pytest.approx(expected)


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_jaccard_is_the_share_of_the_union(left: set[int], right: set[int]) -> None:
    union = left | right
    expected = len(left & right) / len(union) if union else 1.0
    found = jaccard(np.array(sorted(left), np.uint32), np.array(sorted(right), np.uint32))
    assert found == pytest.approx(expected)
