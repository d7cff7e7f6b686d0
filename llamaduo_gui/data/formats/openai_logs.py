"""What request and response logs of OpenAI-style APIs have in common: bodies, parts, endings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamaduo_gui.core.types import Message
from llamaduo_gui.data.formats.base import Row
from llamaduo_gui.data.rows import RowError, check_order, check_turns, decode_json, kind_of

_REQUESTS = ("request", "request_body", "input_body", "kwargs")
_RESPONSES = ("response", "response_body", "completion", "output_body")
_ENDINGS = {
    "length": "the reply was cut off at its token limit",
    "max_output_tokens": "the reply was cut off at its token limit",
    "content_filter": "the reply was stopped by a content filter",
    "tool_calls": "the reply is a tool call, not text",
    "function_call": "the reply is a tool call, not text",
}


def request_of(row: Row) -> Row:
    """The request's body: in a column of its own, or the row itself."""
    return _body(row, _REQUESTS) or row


def response_of(row: Row) -> Row:
    """The response's body: in a column of its own, or the row itself."""
    return _body(row, _RESPONSES) or row


def _body(row: Row, names: tuple[str, ...]) -> Row | None:
    for name in names:
        value = as_object(row.get(name))
        if value is not None:
            # Batch files and HTTP logs keep it one level down, beside status and headers.
            return as_object(value.get("body")) or value
    return None


def as_object(value: object) -> Mapping[str, Any] | None:
    """An object, also where it is written as JSON text; None for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = decode_json(value, "")
        except RowError:
            return None
    return value if isinstance(value, Mapping) else None


def check_ending(reason: object) -> None:
    """Refuse a reply that is no whole answer.

    Raises:
        RowError: it was cut off, filtered, or is a tool call.
    """
    if isinstance(reason, str) and reason in _ENDINGS:
        raise RowError(_ENDINGS[reason])


def conversation(turns: list[Any], answer: str) -> tuple[Message, ...]:
    """The request's turns and the reply, checked.

    Raises:
        RowError: a turn is not fit for use, or there is no user turn.
    """
    messages = check_turns([*turns, {"role": "assistant", "content": answer}], "messages")
    check_order(messages)
    return messages


def text_label(row: Row, name: str) -> str | None:
    """A label that is text, or None."""
    value = row.get(name)
    return " ".join(value.split()) or None if isinstance(value, str) else None


def category_of(row: Row) -> str | None:
    """The category a row names, at its top or in its metadata."""
    found = text_label(row, "category")
    if found is not None:
        return found
    bodies = (row, request_of(row), response_of(row))
    notes = (as_object(body.get("metadata")) for body in bodies)
    return next((label for note in notes if note if (label := text_label(note, "category"))), None)


def wrong(value: object, name: str, wanted: str) -> RowError:
    """The error for a part that is something else."""
    return RowError(f"{name} is {kind_of(value)}, not {wanted}")
