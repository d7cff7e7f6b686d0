"""Compares a candidate response with its target: a summary, lines, and the words that differ."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

Sign = Literal[" ", "-", "+"]
_WORD = re.compile(r"\s+|\w+|[^\w\s]")
# difflib grows with the square of its input; longer texts are compared by whole lines only.
MAX_WORDS = 600
MAX_LINES = 4000


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of the comparison; `marks` are the (start, end) spans of words that differ.

    "-" is in the target but not in the candidate, "+" the other way round.
    """

    sign: Sign
    text: str
    marks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Diff:
    """All lines, and one sentence that sums them up.

    Where the texts are too long to compare, the lines are the candidate's.
    """

    summary: str
    lines: tuple[DiffLine, ...]
    is_compared: bool = True

    @property
    def is_equal(self) -> bool:
        """Whether target and candidate are the same text."""
        return self.is_compared and all(line.sign == " " for line in self.lines)


def compare(target: str, candidate: str) -> Diff:
    """What the candidate lacks of the target ("-") and has beside it ("+").

    Line ends and trailing blanks do not count.
    """
    old, new = _lines(target), _lines(candidate)
    if max(len(old), len(new)) > MAX_LINES:
        shown = tuple(DiffLine(" ", text) for text in new)
        return Diff(f"more than {MAX_LINES:,} lines, too long to compare", shown, is_compared=False)
    lines: list[DiffLine] = []
    missing = added = changed = 0
    matcher = difflib.SequenceMatcher(a=old, b=new, autojunk=False)
    for tag, a1, a2, b1, b2 in matcher.get_opcodes():
        if tag == "equal":
            lines += [DiffLine(" ", text) for text in old[a1:a2]]
            continue
        pairs = min(a2 - a1, b2 - b1)
        for a, b in zip(old[a1 : a1 + pairs], new[b1 : b1 + pairs], strict=True):
            lines += _changed_pair(a, b)
        lines += [DiffLine("-", text) for text in old[a1 + pairs : a2]]
        lines += [DiffLine("+", text) for text in new[b1 + pairs : b2]]
        changed += pairs
        missing += a2 - a1 - pairs
        added += b2 - b1 - pairs
    return Diff(_summary(missing, added, changed, bool(new)), tuple(lines))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def _summary(missing: int, added: int, changed: int, has_candidate: bool) -> str:
    if not has_candidate:
        return "the response is empty"
    parts = [
        f"{count} {'line' if count == 1 else 'lines'} {what}"
        for count, what in ((changed, "changed"), (missing, "missing"), (added, "added"))
        if count
    ]
    return ", ".join(parts) or "same as the target"


def _changed_pair(old: str, new: str) -> list[DiffLine]:
    a, b = _WORD.findall(old), _WORD.findall(new)
    if max(len(a), len(b)) > MAX_WORDS:
        return [DiffLine("-", old), DiffLine("+", new)]
    removed: list[tuple[int, int]] = []
    inserted: list[tuple[int, int]] = []
    for tag, a1, a2, b1, b2 in difflib.SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes():
        if tag != "equal":
            removed.append(_span(a, a1, a2))
            inserted.append(_span(b, b1, b2))
    return [
        DiffLine("-", old, tuple(span for span in removed if span[0] < span[1])),
        DiffLine("+", new, tuple(span for span in inserted if span[0] < span[1])),
    ]


def _span(words: list[str], first: int, last: int) -> tuple[int, int]:
    start = sum(len(word) for word in words[:first])
    return start, start + sum(len(word) for word in words[first:last])
