"""Tests of decoding JSON piece by piece: where the pieces end makes no difference."""

from __future__ import annotations

import io
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamaduo_gui.data.json_stream import JsonBreakError, iterate_rows

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


class Trickle(io.StringIO):
    """Gives a few characters at a time, however many are asked for."""

    step = 1

    def read(self, size: int | None = -1, /) -> str:
        return super().read(min(size or 0, self.step))


def trickle(text: str, step: int) -> Trickle:
    found = Trickle(text)
    found.step = step
    return found


@settings(max_examples=300)
@given(st.lists(values, max_size=5), st.integers(1, 9), st.sampled_from([None, 0, 2]))
def test_an_array_is_read_whole_whatever_the_pieces(
    rows: list[Any], step: int, indent: int | None
) -> None:
    text = json.dumps(rows, indent=indent)
    assert list(iterate_rows(trickle(text, step))) == rows
    nested = json.dumps({"version": 12, "rows": rows, "last": [1.5]}, indent=indent)
    assert list(iterate_rows(trickle(nested, step))) == rows


@pytest.mark.parametrize("text", ["12 345", "[12, 345]", "12\n345\n", '{"data": [12, 345]}'])
def test_numbers_are_not_cut_where_a_piece_ends(text: str) -> None:
    for step in range(1, 8):
        assert list(iterate_rows(trickle(text, step))) == [12, 345]


@settings(max_examples=300)
@given(st.lists(values, min_size=1, max_size=4), st.integers(1, 9), st.data())
def test_a_document_that_ends_early_gives_its_first_rows_and_then_breaks(
    rows: list[Any], step: int, data: st.DataObject
) -> None:
    text = json.dumps(rows)
    cut = data.draw(st.integers(1, len(text) - 1))
    found: list[Any] = []
    reader = iterate_rows(trickle(text[:cut], step))
    with pytest.raises(JsonBreakError):
        found.extend(iter(lambda: next(reader), object()))
    # A number may end early and still be one.
    assert found[:-1] == rows[: max(0, len(found) - 1)]
