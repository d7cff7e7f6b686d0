"""Reads pairs out of a teacher's reply: whatever the reply is, every piece is a pair or a reject.

JSON is looked for anywhere in the reply (bare, in a fenced block, between sentences), as it is and
then with json-repair. A list with some unusable entries keeps the usable ones.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from llamaduo_gui.core.loose_json import repair_json
from llamaduo_gui.core.types import RejectReason
from llamaduo_gui.providers.base import FinishReason

_DECODER = json.JSONDecoder()
_BRACKET = re.compile(r"[{\[]")
# Brackets of the prose before the JSON to try; code in a broken reply may have thousands.
_MAX_STARTS = 50
_LIST_HEAD = re.compile(r"""\[\s*+(?:\{\s*+"pairs"\s*+:\s*+\[)?|\{\s*+"pairs"\s*+:\s*+\[""")
_NEXT_OBJECT = re.compile(r"[\s,]*+\{")
_LIKELY_START = re.compile(r"[{\[][\s{\[]{0,20}[\"']?(?:pairs|instruction)\b")
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)?\s+(?:sorry|unable|not able)|i\s+(?:can(?:no|')t|cannot|won't|will not)|"
    r"as an ai\b)",
    re.IGNORECASE,
)
# Refusals say so at once; further on, such words are part of somebody's text.
_REFUSAL_WITHIN = 200
_PLACEHOLDERS = ("...", "\u2026")
_SHOWN = 200
# json-repair walks the text character by character; no useful reply is longer.
_MAX_REPAIRED = 400_000


@dataclass(frozen=True, slots=True)
class ParsedPair:
    """A pair of the form that was asked for."""

    instruction: str
    response: str


@dataclass(frozen=True, slots=True)
class ParseReject:
    """A piece of a reply that is no pair, with what there was of it."""

    reason: RejectReason
    detail: str
    instruction: str = ""
    response: str = ""


def _usable_text(value: str) -> str:
    text = value.strip()
    if not text:
        raise ValueError("is empty")
    if text in _PLACEHOLDERS:
        raise ValueError("is the placeholder of the example")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("has half of a surrogate pair") from error
    return text


_Text = Annotated[str, AfterValidator(_usable_text)]


class _Pair(BaseModel):
    # A number as the whole response is a likely answer to "how many", not a broken pair.
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    instruction: _Text
    response: _Text


def parse_reply(text: str, finish_reason: FinishReason = "stop") -> list[ParsedPair | ParseReject]:
    """Pairs and rejects of one reply, in its order; never empty and never raises.

    Args:
        text: the reply.
        finish_reason: why the service stopped. Of a list that was cut off ("length", or an end in
            the middle of things) the complete entries are read, and what follows them is one
            truncated pair.
    """
    found = _find_list(text)
    if found is None:
        return [_no_pairs(text, finish_reason)]
    entries, is_cut = found.entries, finish_reason == "length" or _looks_cut(text)
    if found.is_closed or not is_cut:
        return [_check(entry) for entry in entries] or [_empty_list()]
    # Behind the complete entries a forgiving parser may have made one of the rest.
    whole = min(found.complete, len(entries)) if found.complete else max(0, len(entries) - 1)
    rest = entries[whole] if whole < len(entries) else None
    return [*(_check(entry) for entry in entries[:whole]), _truncated(rest)]


class _FoundList(NamedTuple):
    """The entries of a reply.

    Attributes:
        is_closed: the list was there in full, without guessing.
        complete: how many entries at its beginning were.
    """

    entries: list[Any]
    is_closed: bool
    complete: int


def _find_list(text: str) -> _FoundList | None:
    starts = [match.start() for match in itertools.islice(_BRACKET.finditer(text), _MAX_STARTS)]
    for start in starts:
        try:
            value, _ = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        entries = _entries_of(value)
        # Behind the first bracket, a lone pair may be one of a list whose beginning is broken.
        if entries is not None and (start == starts[0] or entries != [value]):
            return _FoundList(entries, is_closed=True, complete=len(entries))
    if not starts:
        return None
    likely = _LIKELY_START.search(text)
    start = likely.start() if likely else starts[0]
    entries = _entries_of(repair_json(text[start : start + _MAX_REPAIRED], is_broken=True))
    if entries is None:
        return None
    return _FoundList(entries, is_closed=False, complete=_count_complete(text, start))


def _count_complete(text: str, start: int) -> int:
    """How many objects, one after the other, stand in full in the list that begins at `start`.

    Only well-formed JSON is counted: 0 where the list itself had to be guessed.
    """
    head, count = _LIST_HEAD.match(text, start), 0
    if head is None:
        return 0
    position = head.end()
    while match := _NEXT_OBJECT.match(text, position):
        try:
            _, position = _DECODER.raw_decode(text, match.end() - 1)
        except (ValueError, RecursionError):
            break
        count += 1
    return count


def _entries_of(value: object) -> list[Any] | None:
    """The entries of a decoded reply, or None if it has none of the known forms."""
    if isinstance(value, dict):
        if isinstance(value.get("pairs"), list):
            return list(value["pairs"])
        return [value] if "instruction" in value else None
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], dict) and "pairs" in value[0]:
            return _entries_of(value[0])
        is_known = any(isinstance(entry, dict) and "instruction" in entry for entry in value)
        return list(value) if is_known else None
    return None


def _check(entry: object) -> ParsedPair | ParseReject:
    try:
        pair = _Pair.model_validate(entry)
    except ValidationError as error:
        return _reject(RejectReason.SCHEMA, _describe(error), entry)
    return ParsedPair(pair.instruction, pair.response)


def _empty_list() -> ParseReject:
    return ParseReject(RejectReason.SCHEMA, "The list of pairs is empty.")


def _truncated(entry: object) -> ParseReject:
    return _reject(RejectReason.TRUNCATED, "The reply was cut off within this pair.", entry)


def _reject(reason: RejectReason, detail: str, entry: object) -> ParseReject:
    values = entry if isinstance(entry, dict) else {"response": entry}
    instruction, response = (_shown(values.get(name)) for name in ("instruction", "response"))
    return ParseReject(reason, detail, instruction, response)


def _shown(value: object) -> str:
    text = "" if value is None else str(value)
    return text.encode("utf-8", "replace").decode()


def _describe(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "entry"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {message[:1].lower()}{message[1:]}."


def _no_pairs(text: str, finish_reason: FinishReason) -> ParseReject:
    start = _shown(text.strip()[:_SHOWN])
    if finish_reason in ("refusal", "content_filter"):
        return ParseReject(
            RejectReason.REFUSED, "The service refused.", response=_shown(text) or finish_reason
        )
    if finish_reason == "length":
        detail = "The reply was cut off before its first pair; raise the teacher's max_tokens."
        return ParseReject(RejectReason.TRUNCATED, detail, response=_shown(text))
    if _REFUSAL.search(text[:_REFUSAL_WITHIN]):
        return ParseReject(RejectReason.REFUSED, f"The teacher refused: {start}", "", _shown(text))
    detail = "The reply is empty." if not start else f"The reply has no JSON pairs: {start}"
    return ParseReject(RejectReason.SCHEMA, detail, response=_shown(text))


def _looks_cut(text: str) -> bool:
    return not text.rstrip().removesuffix("```").rstrip().endswith(("}", "]"))
