"""Which words two texts have in common, as places to mark when they stand side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence

Span = tuple[int, int]

_WORD = re.compile(r"\w+")
# Runs of three words are what near-duplicates are found by; one shared word says nothing.
_RUN = 3


def shared_spans(text: str, others: Sequence[str]) -> tuple[Span, ...]:
    """Places of `text`, (start, end) in characters, whose words stand in another text as well.

    A word counts as part of a run of three that any of the others has; texts of one or two words
    count as a whole. Neighbouring words make one place.
    """
    words = [(match.start(), match.end()) for match in _WORD.finditer(text)]
    own = [text[start:end].casefold() for start, end in words]
    is_shared = [False] * len(own)
    for other in others:
        theirs = [match.group().casefold() for match in _WORD.finditer(other)]
        size = min(_RUN, max(len(own), len(theirs)))
        if not size:
            continue
        runs = set(_runs(theirs, size))
        for place, run in enumerate(_runs(own, size)):
            if run in runs:
                is_shared[place : place + size] = [True] * size
    return _join(words, is_shared)


def _runs(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[offset:] for offset in range(size)), strict=False))


def _join(words: Sequence[Span], is_shared: Sequence[bool]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for place, (start, end) in enumerate(words):
        if not is_shared[place]:
            continue
        if spans and place and is_shared[place - 1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return tuple(spans)
