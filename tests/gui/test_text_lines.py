"""Texts as one line of a table: what all begin with goes, what tells them apart stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llamaduo_gui.gui.models.text_lines import (
    MAX_LINE,
    is_code,
    one_line,
    shared_beginning,
    short_id,
)

TASK = "Classify the message into exactly one intent.\n\n"


def test_a_shared_first_line_is_found_and_ends_with_its_line() -> None:
    texts = [f"{TASK}Message: {word}" for word in ("How long?", "How much?", "Help me")]
    assert shared_beginning(texts) == TASK


def test_a_shared_start_within_one_line_ends_with_a_word() -> None:
    texts = [f"Write a Python function that {what}" for what in ("sorts", "sums", "splits")]
    assert shared_beginning(texts) == "Write a Python function that "


def test_short_or_rare_beginnings_are_left_alone() -> None:
    assert shared_beginning(["Sort a list", "Sort a tuple", "Sort a set"]) == ""
    assert shared_beginning([f"{TASK}one", f"{TASK}two"]) == ""
    assert shared_beginning([]) == ""


@given(st.lists(st.text(alphabet="ab \n", max_size=60), max_size=8))
def test_whatever_is_cut_was_the_start_of_every_text(texts: list[str]) -> None:
    beginning = shared_beginning([TASK + text for text in texts])
    assert all((TASK + text).startswith(beginning) for text in texts)


@given(st.text(max_size=2000))
def test_a_line_has_no_breaks_and_an_end(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert len(line) <= MAX_LINE + 1


def test_a_text_that_is_nothing_but_the_beginning_is_kept() -> None:
    assert one_line(TASK, TASK) == TASK.strip()
    assert one_line(f"{TASK}How long?", TASK) == "How long?"


def test_hashes_are_shortened_and_names_are_not() -> None:
    assert short_id("ebd80d0d19a1666fd41dd9a151342ebe") == "ebd80d"
    assert short_id("t-031") == "t-031"


def test_indented_lines_are_code() -> None:
    assert is_code("def f():\n    return 1")
    assert not is_code("One line.\nAnother line.")
