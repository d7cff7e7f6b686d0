"""One row of a dataset, as its file gives it, made into a conversation or refused with a reason."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from llamaduo_gui.core.types import Message, messages_from_dicts

UNCATEGORISED = "uncategorised"
PROMPT_COLUMNS = ("prompt", "instruction")
RESPONSE_COLUMN = "response"
WANTED_COLUMNS = "`messages`, or `prompt` (or `instruction`) and `response`"
_ROLES = ("system", "user", "assistant")
_SHOWN_NAMES = 8


class RowError(ValueError):
    """A row cannot be used; the text is a phrase that says why."""


def parse_messages(row: object) -> tuple[Message, ...]:
    """The conversation of one row, ending with the target response.

    Args:
        row: a decoded JSON value. Columns other than the wanted ones are ignored; where there
            are both, `messages` wins.

    Raises:
        RowError: the row is not an object, lacks the columns, or a turn is not fit for use.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"is {_kind(row)}, not an object with {WANTED_COLUMNS}")
    if row.get("messages") is not None:
        messages = _checked_turns(row["messages"])
    else:
        messages = _prompt_and_response(row)
    for message in messages:
        try:
            message.content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RowError("has half of a surrogate pair, which is no character") from error
    return messages


def parse_label(row: Mapping[str, Any], name: str) -> str | None:
    """A short optional column as text, or None where it is missing, null or blank.

    Raises:
        RowError: it is neither text nor a number.
    """
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowError(f"`{name}` is {_kind(value)}, not text")
    return " ".join(str(value).encode("utf-8", "replace").decode().split()) or None


def make_prompt_id(messages: tuple[Message, ...]) -> str:
    """A stable identifier of the prompt turns, 32 hexadecimal digits; the target plays no part."""
    return _digest(messages[:-1])


def make_variant_id(prompt_id: str, messages: tuple[Message, ...]) -> str:
    """An identifier for another conversation that claims a `prompt_id` in use."""
    return f"{prompt_id}-{_digest(messages)[:8]}"


def _digest(messages: tuple[Message, ...]) -> str:
    text = "\x1e".join(f"{message.role}\x1f{message.content}" for message in messages)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _prompt_and_response(row: Mapping[str, Any]) -> tuple[Message, ...]:
    prompt_column = next((name for name in PROMPT_COLUMNS if row.get(name) is not None), None)
    if prompt_column is None or RESPONSE_COLUMN not in row:
        names = [str(name) for name in row]
        found = ", ".join(f"`{name[:40]}`" for name in names[:_SHOWN_NAMES]) or "no columns"
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        raise RowError(f"has {found}{more}; wanted {WANTED_COLUMNS}")
    prompt = _text(row[prompt_column], f"`{prompt_column}`")
    response = _text(row[RESPONSE_COLUMN], f"`{RESPONSE_COLUMN}`")
    return (Message("user", prompt), Message("assistant", response))


def _checked_turns(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise RowError(f"`messages` is {_kind(value)}, not a list of turns")
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, Mapping):
            raise RowError(f"message {number} is {_kind(turn)}, not an object")
        if turn.get("role") not in _ROLES:
            shown = repr(turn.get("role"))[:40]
            raise RowError(f"message {number} has the role {shown}; wanted {', '.join(_ROLES)}")
        if turn["role"] == "system" and number > 1:
            raise RowError(f"message {number} is a system turn; only the first may be one")
    if not any(turn["role"] == "user" for turn in value):
        raise RowError("has no user message")
    if value[-1]["role"] != "assistant":
        raise RowError(f"ends with a {value[-1]['role']} message; the last must be the assistant's")
    for number, turn in enumerate(value, start=1):
        name = "the target (last message)" if number == len(value) else f"message {number}"
        _text(turn.get("content"), name)
    return messages_from_dicts(value)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"the content of {name} is {_kind(value)}, not text")
    if not value.strip():
        raise RowError(f"the content of {name} is empty")
    return value


def _kind(value: object) -> str:
    """What a JSON value is, for people."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text"}
    names |= {list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
