"""Tests of the computed measures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaduo_gui.providers.reference_metrics import (
    as_score,
    missing_and_extra,
    rouge_l,
    token_f1,
    tokens,
)


@pytest.mark.parametrize(
    ("target", "candidate", "f1", "rouge"),
    [
        ("the cat sat", "the cat sat", 1.0, 1.0),
        ("The cat sat!", "the CAT sat", 1.0, 1.0),
        ("a b", "b a", 1.0, 0.5),
        ("a b c d", "a b", 2 / 3, 2 / 3),
        ("a a b", "a b b", 2 / 3, 2 / 3),
        ("a", "b", 0.0, 0.0),
        ("a", "", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("?", "?", 1.0, 1.0),
        ("?", "!", 0.0, 0.0),
    ],
)
def test_known_values(target: str, candidate: str, f1: float, rouge: float) -> None:
    assert token_f1(target, candidate) == pytest.approx(f1)
    assert rouge_l(target, candidate) == pytest.approx(rouge)


@given(st.text(), st.text())
def test_both_measures_are_symmetric_and_rouge_never_exceeds_f1(one: str, two: str) -> None:
    assert 0 <= rouge_l(one, two) <= token_f1(one, two) + 1e-9 <= 1 + 2e-9
    assert token_f1(one, two) == pytest.approx(token_f1(two, one))
    assert rouge_l(one, two) == pytest.approx(rouge_l(two, one))


@given(st.text())
def test_a_text_agrees_with_itself(text: str) -> None:
    assert rouge_l(text, text) == token_f1(text, text) == 1
    assert missing_and_extra(text, text) == ([], [])


def test_missing_and_extra_count_each_word() -> None:
    assert missing_and_extra("refund order now", "refund refund now") == (["order"], ["refund"])


def test_tokens_are_those_of_the_rouge_package() -> None:
    assert tokens("Don't: 3.5 €") == ["don", "t", "3", "5"]


@pytest.mark.parametrize(("value", "score"), [(0, 1), (0.004, 1), (0.666, 67), (1, 100)])
def test_scores_are_whole_numbers_from_1_to_100(value: float, score: int) -> None:
    assert as_score(value) == score
