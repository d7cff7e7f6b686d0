"""Finds what the assistant says in a rendered conversation, whatever the chat template."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from llamaduo_gui.core.conversation import Turn

_MAX_LEAD = 4


class Span(NamedTuple):
    """Characters `start` up to but not including `end`."""

    start: int
    end: int


class Render(Protocol):
    """Renders turns with a chat template."""

    def __call__(self, turns: list[Turn], *, is_prompt: bool) -> str:
        """The text; `is_prompt` adds what comes before an answer that is to be generated."""


def find_answers(
    render: Render, turns: list[Turn], stop_texts: Sequence[str]
) -> tuple[str, list[Span]]:
    """The rendered conversation and where the assistant's answers are in it.

    The last answer follows the very prompt that generation has. Earlier answers are looked for in
    that prompt; each begins where the prompt of its own turn ends. Templates that render a turn
    otherwise once another follows (Qwen3 drops thoughts, Mistral moves the system turn) do not
    contain that prompt: there the answer is found by rendering the conversation with a marker in
    its place. An answer ends with its stop token. Blanks between the two belong to it: they have
    to be generated too.

    Args:
        render: of the chat template.
        turns: ending with the assistant.
        stop_texts: texts of the tokens that end an answer.

    Returns:
        The text, and a span for each assistant turn the template shows, in order.
    """
    history = turns[:-1]
    whole = render(turns, is_prompt=False)
    if turns[-1]["role"] != "assistant":
        return whole, []
    prompt = render(history, is_prompt=True)
    last = _find(partial(render, is_prompt=False), turns, len(history), whole, prompt)
    if last is None:
        return whole, []
    spans: list[Span] = []
    for index, turn in enumerate(history):
        if turn["role"] != "assistant":
            continue
        own_prompt = render(turns[:index], is_prompt=True)
        span = _find(partial(render, is_prompt=True), history, index, prompt, own_prompt)
        if span is not None and (not spans or span.start >= spans[-1].end):
            spans.append(Span(span.start, _through_stop(prompt, span.end, stop_texts)))
    text = prompt + whole[last.start :]
    end = len(prompt) + last.end - last.start
    return text, [*spans, Span(len(prompt), _through_stop(text, end, stop_texts))]


def _find(
    render: Callable[[list[Turn]], str], turns: list[Turn], index: int, text: str, prompt: str
) -> Span | None:
    """Where an answer is in `text`, without what ends it.

    Args:
        render: how `text` was rendered.
        turns: of `text`.
        index: of the answer.
        text: the rendered turns.
        prompt: what generation has before this answer.
    """
    marker = _unused_text(turns)
    marked = [*turns[:index], {**turns[index], "content": marker}, *turns[index + 1 :]]
    before, found, after = render(marked).partition(marker)
    is_same = text.startswith(before) and text.endswith(after)
    if not found or not is_same or len(before) + len(after) > len(text):
        return None
    end = len(text) - len(after)
    if text.startswith(prompt) and len(prompt) <= end:
        return Span(len(prompt), end)
    question = turns[index - 1]["content"] if index else ""
    return Span(len(before) - _lead(before, prompt, question), end)


def _lead(before: str, prompt: str, question: str) -> int:
    """Characters right before an answer that the prompt does not give, such as Mistral's blank.

    The prompt's header, what follows the question in it, tells where the prompt would end.
    """
    header = prompt.rpartition(question.strip())[2]
    leads = (size for size in range(_MAX_LEAD) if before[: len(before) - size].endswith(header))
    return next(leads, 0) if header else 0


def _through_stop(text: str, end: int, stop_texts: Sequence[str]) -> int:
    """The end of the stop token that follows, else of blanks that end the text, else `end`."""
    longest_first = sorted(stop_texts, key=len, reverse=True)
    stop = "|".join([*map(re.escape, longest_first), "$"])
    found = re.compile(rf"\s*(?:{stop})").match(text, end)
    return found.end() if found else end


def _unused_text(turns: Sequence[Turn]) -> str:
    marker = "answermarker"
    while any(marker in turn["content"] for turn in turns):
        marker += "x"
    return marker


def tokenize_spans(
    tokenize: Callable[[str], list[int]], text: str, spans: Sequence[Span]
) -> tuple[list[int], list[bool]]:
    """Token ids of a text cut at the spans' edges, and which tokens lie in a span.

    A prompt is tokenised as it will be in generation: on its own, not together with its answer.
    SentencePiece puts a blank in front of a text that stands alone, so what follows is tokenised
    behind what comes before it, as long as that keeps its tokens.
    """
    ids: list[int] = []
    is_inside: list[bool] = []
    edges = [edge for span in spans for edge in span] + [len(text)]
    start = 0
    for number, end in enumerate(edges):
        piece = text[start:end]
        if not piece:
            continue
        longer = tokenize(text[:end])
        added = longer[len(ids) :] if longer[: len(ids)] == ids else _apart(tokenize, piece)
        ids += added
        is_inside += [number % 2 == 1] * len(added)
        start = end
    return ids, is_inside


def _apart(tokenize: Callable[[str], list[int]], piece: str) -> list[int]:
    """Tokens of a piece on its own, without the blank SentencePiece puts before a whole text."""
    anchor = tokenize("\n")
    behind = tokenize("\n" + piece)
    return behind[len(anchor) :] if behind[: len(anchor)] == anchor else tokenize(piece)
