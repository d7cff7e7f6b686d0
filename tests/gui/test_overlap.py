"""The words that two texts share, found and marked."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QWidget

from llamaduo_gui.gui.models.overlap import shared_spans
from llamaduo_gui.gui.widgets.marked_text import MarkedText


def shared(text: str, *others: str) -> list[str]:
    return [text[start:end] for start, end in shared_spans(text, others)]


def test_runs_of_three_words_are_shared_whatever_their_case_and_punctuation() -> None:
    assert shared("Tell me, please: how far is it?", "please how FAR away is it") == [
        "please: how far"
    ]


def test_neighbouring_runs_make_one_place_and_single_words_none() -> None:
    assert shared("a b c d x e f g", "a b c d y e f g") == ["a b c d", "e f g"]
    assert shared("the cat sat down", "the dog stood up") == []


def test_texts_of_one_or_two_words_are_compared_as_a_whole() -> None:
    assert shared("Yes", "yes!") == ["Yes"]
    assert shared("top up", "Top up") == ["top up"]
    assert shared("yes", "yes, of course") == shared("yes, of course", "yes") == []


def test_several_other_texts_count_together() -> None:
    assert shared("one two three four five six", "one two three", "four five six") == [
        "one two three four five six"
    ]
    assert shared("", "one") == shared("one", "") == []


def test_marks_stand_where_the_words_are_beyond_the_basic_plane_too(
    shown: Callable[..., QWidget],
) -> None:
    text = "\U0001f600 smile for the camera \U0001f600 now"
    view = MarkedText("Prompt")
    view.set_marked(text, shared_spans(text, ["smile for the birds", "camera \U0001f600 now"]))
    shown(view)
    assert view.marked_texts() == ["smile for the"]
