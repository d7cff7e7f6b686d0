"""ShareGPT rows: `conversations`, a list of turns with `from` and `value`."""

from __future__ import annotations

from collections.abc import Mapping

from llamaduo_gui.core.types import Message, Role
from llamaduo_gui.data.formats.base import (
    ColumnMap,
    Conversation,
    Row,
    ShapeInfo,
    first_column,
    plain_labels,
    system_text,
)
from llamaduo_gui.data.rows import RowError, as_list, check_order, check_turns, kind_of, text_of

_COLUMNS = ("conversations", "conversation")
_SYSTEMS = ("system", "system_prompt")
_SPEAKERS: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
}


def _claims(row: Row) -> bool:
    return first_column(row, _COLUMNS) is not None


def _convert(row: Row) -> Conversation:
    column = first_column(row, _COLUMNS) or _COLUMNS[0]
    items = as_list(row[column], column)
    if items and isinstance(items[0], Mapping) and "role" in items[0]:
        turns = check_turns(items, column)
    else:
        turns = _turns(items)
    system = system_text(row, first_column(row, _SYSTEMS))
    if system and turns[0].role != "system":
        turns = (Message("system", system), *turns)
    return Conversation(turns, **plain_labels(row))


def _turns(items: list[object]) -> tuple[Message, ...]:
    found = []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, Mapping):
            raise RowError(f"message {number} is {kind_of(item)}, not an object")
        speaker = item.get("from")
        role = _SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
        if role is None:
            raise RowError(f"message {number} is from {repr(speaker)[:40]}; wanted human or gpt")
        found.append(Message(role, text_of(item.get("value"), f"message {number}")))
    check_order(found)
    return tuple(found)


def _columns(row: Row) -> ColumnMap:
    column = first_column(row, _COLUMNS)
    system = first_column(row, _SYSTEMS) or column
    return ColumnMap(column, column, system, "category" if "category" in row else None)


INFO = ShapeInfo("sharegpt", "ShareGPT", 40, "`conversations`", _claims, _convert, _columns)
