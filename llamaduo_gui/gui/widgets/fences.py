"""Splits a model's answer into prose and fenced code, also while it is still being written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_FENCE = re.compile(r"^ {0,3}(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[^\s`]*)[^`]*$")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an answer; `language` is what the fence names, and only for code."""

    kind: Literal["prose", "code"]
    text: str
    language: str = ""


def split_fences(text: str) -> list[Segment]:
    """The prose and code of `text` in order; an unclosed fence reaches to the end.

    Blank lines round a segment are dropped, and prose without words is left out.
    """
    segments: list[Segment] = []
    lines: list[str] = []
    mark, language = "", ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if not mark and found:
            _close_prose(segments, lines)
            mark, language, lines = found["mark"], found["language"], []
        elif mark and found and not found["language"] and found["mark"].startswith(mark):
            segments.append(Segment("code", "\n".join(lines), language))
            mark, lines = "", []
        else:
            lines.append(line)
    if mark:
        segments.append(Segment("code", "\n".join(lines), language))
    else:
        _close_prose(segments, lines)
    return segments


def _close_prose(segments: list[Segment], lines: list[str]) -> None:
    prose = "\n".join(lines).strip("\n")
    if prose.strip():
        segments.append(Segment("prose", prose))
