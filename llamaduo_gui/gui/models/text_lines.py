"""Texts as one line of a table: without the wording that all of them begin with."""

from __future__ import annotations

from collections.abc import Sequence

MAX_LINE = 300
_LEAST_SHARED = 20
_MANY_TEXTS = 3


def shared_beginning(texts: Sequence[str]) -> str:
    """What all the texts begin with, such as a task's instruction; empty if that is short.

    It ends where a line, else a word, ends, so that no word is split.
    """
    distinct = list(dict.fromkeys(texts))
    if len(distinct) < _MANY_TEXTS:
        return ""
    first, last = min(distinct), max(distinct)
    pairs = zip(first, last, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))
    common = first[:same]
    end = max(common.rfind("\n"), common.rfind(" ")) + 1
    line_end = common.rfind("\n") + 1
    if line_end >= _LEAST_SHARED:
        end = line_end
    return common[:end] if end >= _LEAST_SHARED else ""


def one_line(text: str, beginning: str = "") -> str:
    """The text on one line, at most `MAX_LINE` letters, without the `beginning` all share."""
    is_cut = bool(beginning) and text.startswith(beginning) and len(text) > len(beginning)
    rest = text[len(beginning) :] if is_cut else text
    line = " ".join(rest[: 2 * MAX_LINE].split())
    if len(line) > MAX_LINE:
        line = f"{line[:MAX_LINE]}\u2026"
    return line


def short_id(identifier: str) -> str:
    """A long identifier, such as a hash, by its first six letters."""
    return identifier if len(identifier) <= 8 else identifier[:6]


def is_code(text: str) -> bool:
    """Whether a text reads better in a monospace face, unwrapped: it has indented lines."""
    return "\n    " in text or "\n\t" in text or "\n  " in text
