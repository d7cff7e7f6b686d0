"""Tokens of many texts at once are those of each text by itself."""

from __future__ import annotations

import itertools
import string

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamaduo_gui.data import token_batches
from llamaduo_gui.data.text import hash_tokens, tokenise
from llamaduo_gui.data.token_batches import cut_batches, tokenise_batch


def one_by_one(texts: list[str]) -> list[list[int]]:
    return [hash_tokens(tokenise(text)).tolist() for text in texts]


def at_once(texts: list[str]) -> list[list[int]]:
    batch = tokenise_batch(texts)
    bounds = batch.offsets.tolist()
    return [batch.hashes[start:end].tolist() for start, end in itertools.pairwise(bounds)]


@settings(max_examples=500)
@given(
    st.lists(st.text(string.printable + "\x00\x1c\x1f\x7f\u00e9\u4e00", max_size=40), min_size=1)
)
def test_tokens_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    assert at_once(texts) == one_by_one(texts)


@pytest.mark.parametrize(
    "text",
    [
        "-5",
        "3-5",
        "a -5",
        ")-5",
        "(-5)",
        "- 5",
        "--5",
        "x--5",
        "-",
        "5-",
        "top-up",
        "2+3*4",
        "_a_",
        "!",
    ],
)
def test_a_minus_is_a_token_only_as_a_sign(text: str) -> None:
    assert at_once([text, "-1 after", text]) == one_by_one([text, "-1 after", text])


def test_a_text_longer_than_a_batch_is_cut_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(token_batches, "BATCH_CHARACTERS", 64)
    texts = ["word " * 100, "a", "b c", "d " * 40]
    batches = list(cut_batches(texts))
    assert [len(batch) for batch in batches] == [1, 3]
    assert [found for batch in batches for found in at_once(batch)] == one_by_one(texts)
