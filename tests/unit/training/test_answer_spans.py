"""Answers are found in whatever a chat template makes of a conversation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llamaduo_gui.core.conversation import Turn
from llamaduo_gui.training.answer_spans import Span, find_answers, tokenize_spans

STOPS = ("</s>",)


def turns(*contents: str) -> list[Turn]:
    """A system turn, then user and assistant by turns."""
    roles = ["system", *["user", "assistant"] * len(contents)]
    return [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]


def moving(items: list[Turn], *, is_prompt: bool) -> str:
    """Mistral's way: the system turn is in the last user turn, answers begin with a blank."""
    last = max(i for i, item in enumerate(items) if item["role"] == "user")
    text = ""
    for index, item in enumerate(items):
        if item["role"] == "user":
            system = items[0]["content"] + "\n\n" if index == last else ""
            text += f"[INST] {system}{item['content']}[/INST]"
        elif item["role"] == "assistant":
            text += f" {item['content']}</s>"
    return text


def forgetting(items: list[Turn], *, is_prompt: bool) -> str:
    """Qwen3's way: only the prompt has a thought, and it is gone from what follows."""
    text = "".join(f"<{item['role']}>\n{item['content'].strip()} </s>\n" for item in items)
    return text + ("<assistant>\n<think>\n\n</think>\n\n" if is_prompt else "")


def closing(items: list[Turn], *, is_prompt: bool) -> str:
    """Phi-3's way: a finished conversation ends with one more token."""
    text = "".join(f"<{item['role']}>{item['content']}</s>" for item in items)
    return text + ("<assistant>" if is_prompt else "<end>")


def plain(items: list[Turn], *, is_prompt: bool) -> str:
    """No end of turn at all."""
    text = "".join(f"{item['role']}: {item['content']} " for item in items)
    return text + ("assistant: " if is_prompt else "")


@pytest.mark.parametrize(
    ("render", "expected"),
    [
        (moving, [" One.</s>", " One.</s>", " Three.</s>"]),
        (forgetting, ["One. </s>", "One. </s>", "Three. </s>"]),
        (closing, ["One.</s>", "One.</s>", "Three.</s>"]),
        (plain, ["One.", "One.", "Three. "]),
    ],
)
def test_every_answer_is_found_with_its_blanks_and_its_end(
    render: Callable[..., str], expected: list[str]
) -> None:
    conversation = turns("Be brief.", "One?", "One.", "One.", "One.", "Three?", "Three.")
    text, spans = find_answers(render, conversation, STOPS)
    assert [text[span.start : span.end] for span in spans] == expected
    # The last one follows what generation is asked with, character for character.
    assert text[: spans[-1].start] == render(conversation[:-1], is_prompt=True)


def test_a_turn_the_template_does_not_show_has_no_answer() -> None:
    def showing_the_last(items: list[Turn], *, is_prompt: bool) -> str:
        last = max(i for i, item in enumerate(items) if item["role"] == "user")
        return closing(items[last:], is_prompt=is_prompt)

    conversation = turns("", "One?", "One.", "Two?", "Two.")
    text, spans = find_answers(showing_the_last, conversation, STOPS)
    assert [text[span.start : span.end] for span in spans] == ["Two.</s>"]
    assert find_answers(closing, conversation[:-1], STOPS)[1] == []


def test_a_prompt_keeps_its_tokens_and_what_follows_is_tokenised_behind_it() -> None:
    def pieces(text: str) -> list[int]:
        """SentencePiece's blank before a text, and one merge: `:a` is a token of its own."""
        joined = (" " + text).replace(":a", "\x01")
        return [ord(character) for character in joined]

    ids, is_inside = tokenize_spans(pieces, "q>xyz", [Span(2, 5)])
    assert "".join(map(chr, ids)) == " q>xyz"
    assert is_inside == [False] * 3 + [True] * 3
    # Together they would merge: the prompt has to stay as it is.
    ids, is_inside = tokenize_spans(pieces, "q:ab", [Span(2, 4)])
    assert "".join(map(chr, ids)) == " q:ab"
    assert is_inside == [False] * 3 + [True] * 2
