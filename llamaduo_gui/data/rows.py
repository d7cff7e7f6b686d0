"""Checks on one row of a dataset: turns, texts and labels are fit for use or refused with a reason.

A reason is a phrase that follows the row's number: "line 7: the content of `prompt` is empty".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from llamaduo_gui.core.types import Message, Role

UNCATEGORISED = "uncategorised"
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
# Newer chat APIs call the system turn so.
_SYNONYMS: dict[str, Role] = {"developer": "system"}
_SHOWN_NAMES = 8
# Bytes that are no valid text are kept as these characters until their row is reached.
_ESCAPED_BYTES = range(0xDC80, 0xDD00)


class RowError(ValueError):
    """A row cannot be used; the text is a phrase that says why."""


def check_turns(value: object, column: str) -> tuple[Message, ...]:
    """A list of turns, each with `role` and `content`, ending with the target response.

    Args:
        value: a decoded list, or its JSON text (CSV files have no lists).
        column: name of the column, for the reason.

    Raises:
        RowError: a turn is not fit for use.
    """
    turns = as_list(value, column)
    found: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping):
            raise RowError(f"message {number} is {kind_of(turn)}, not an object")
        role = turn.get("role")
        if not isinstance(role, str) or _SYNONYMS.get(role, role) not in ROLES:
            raise RowError(
                f"message {number} has the role {repr(role)[:40]}; wanted {', '.join(ROLES)}"
            )
        found.append(Message(_role(role), _NOT_READ))
    check_order(found)
    return tuple(
        Message(message.role, turn_text(turn, number, len(turns)))
        for number, (message, turn) in enumerate(zip(found, turns, strict=True), start=1)
    )


_NOT_READ = ""


def _role(name: str) -> Role:
    return next(role for role in ROLES if role == _SYNONYMS.get(name, name))


def turn_text(turn: Mapping[str, Any], number: int, total: int) -> str:
    """The text of one turn; a list of text parts, as chat APIs write it, is joined."""
    name = "the target (last message)" if number == total else f"message {number}"
    content = turn.get("content")
    if content is None and (turn.get("tool_calls") or turn.get("function_call")):
        raise RowError(f"{name} is a tool call, not text")
    if isinstance(content, list) and content and all(isinstance(p, Mapping) for p in content):
        content = join_parts(content, name)
    return text_of(content, name)


def join_parts(parts: Sequence[Mapping[str, Any]], name: str) -> str:
    """The text of content parts such as `{"type": "text", "text": ...}`.

    Raises:
        RowError: one of them is an image, a file, a refusal or the like.
    """
    texts = []
    for part in parts:
        text = part.get("text")
        if not isinstance(text, str):
            raise RowError(f"{name} holds {repr(part.get('type'))[:40]}, which is not text")
        texts.append(text)
    return "\n".join(texts)


def check_order(messages: Sequence[Message]) -> None:
    """At most one system turn, at the start; a user turn; the assistant's at the end.

    Raises:
        RowError: it is otherwise.
    """
    for number, message in enumerate(messages, start=1):
        if message.role == "system" and number > 1:
            raise RowError(f"message {number} is a system turn; only the first may be one")
    if not any(message.role == "user" for message in messages):
        raise RowError("has no user message")
    if messages[-1].role != "assistant":
        last = messages[-1].role
        raise RowError(f"ends with a {last} message; the last must be the assistant's")


def check_characters(messages: Sequence[Message]) -> None:
    """Every text can be written as UTF-8.

    Raises:
        RowError: one holds bytes that were no text, or half of a surrogate pair.
    """
    for message in messages:
        try:
            message.content.encode("utf-8")
        except UnicodeEncodeError as error:
            code = ord(message.content[error.start])
            if code in _ESCAPED_BYTES:
                raise RowError(f"has a byte (0x{code - 0xDC00:02X}) that is no text") from error
            raise RowError("has half of a surrogate pair, which is no character") from error


def text_of(value: object, name: str) -> str:
    """A text that is not blank; `name` is what holds it.

    Raises:
        RowError: it is something else, or blank.
    """
    if value is None:
        raise RowError(f"the content of {name} is missing")
    if not isinstance(value, str):
        raise RowError(f"the content of {name} is {kind_of(value)}, not text")
    if not value.strip():
        raise RowError(f"the content of {name} is empty")
    return value


def as_list(value: object, column: str) -> list[Any]:
    """A list, also where it is written as JSON text.

    Raises:
        RowError: it is neither.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = decode_json(value, f"`{column}`")
    if not isinstance(value, list):
        raise RowError(f"`{column}` is {kind_of(value)}, not a list of turns")
    return value


def decode_json(text: str, name: str) -> object:
    """Decode one JSON value; `name` begins the reason, empty for the row itself.

    Raises:
        RowError: it is not JSON, or not usable.
    """
    start = f"{name} " if name else ""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{error.msg} at column {error.colno}"
        raise RowError(f"{start}is not valid JSON ({where})") from error
    except (ValueError, RecursionError) as error:
        raise RowError(
            f"{start}is not usable JSON (nested too deeply, or a number too long)"
        ) from error


def parse_label(row: Mapping[str, Any], name: str) -> str | None:
    """A short optional column as text, or None where it is missing, null or blank.

    Raises:
        RowError: it is neither text nor a number.
    """
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowError(f"`{name}` is {kind_of(value)}, not text")
    return " ".join(str(value).encode("utf-8", "replace").decode().split()) or None


def describe_columns(row: Mapping[str, Any]) -> str:
    """The first column names of a row, quoted, for a reason."""
    names = [str(name) for name in row]
    found = ", ".join(f"`{name[:40]}`" for name in names[:_SHOWN_NAMES]) or "no columns"
    return f"{found} and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else found


def make_prompt_id(messages: tuple[Message, ...]) -> str:
    """A stable identifier of the prompt turns, 32 hexadecimal digits; the target plays no part."""
    return digest(messages[:-1])


def make_variant_id(prompt_id: str, messages: tuple[Message, ...]) -> str:
    """An identifier for another conversation that claims a `prompt_id` in use."""
    return f"{prompt_id}-{digest(messages)[:8]}"


def digest(messages: tuple[Message, ...]) -> str:
    """Identity of a conversation, 32 hexadecimal digits."""
    text = "\x1e".join(f"{message.role}\x1f{message.content}" for message in messages)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def kind_of(value: object) -> str:
    """What a decoded value is, for people."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text"}
    names |= {list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
