"""Alpaca rows: `instruction`, `input` (or `context`) and `output`, with or without a history."""

from __future__ import annotations

from llamaduo_gui.core.types import Message
from llamaduo_gui.data.formats.base import (
    ColumnMap,
    Conversation,
    Row,
    ShapeInfo,
    first_column,
    plain_labels,
    system_text,
)
from llamaduo_gui.data.rows import RowError, as_list, text_of

_INPUTS = ("input", "context")
_OUTPUTS = ("output", "response")
_SYSTEMS = ("system", "system_prompt")


def _claims(row: Row) -> bool:
    has_output = any(name in row for name in _OUTPUTS)
    return row.get("instruction") is not None and any(i in row for i in _INPUTS) and has_output


def _convert(row: Row) -> Conversation:
    columns = _columns(row)
    prompt = text_of(row["instruction"], "`instruction`")
    name = first_column(row, _INPUTS)
    if name and (not isinstance(row[name], str) or row[name].strip()):
        prompt = f"{prompt}\n\n{text_of(row[name], f'`{name}`')}"
    response = text_of(row[str(columns.response)], f"`{columns.response}`")
    system = system_text(row, columns.system)
    turns = (
        *((Message("system", system),) if system else ()),
        *_history(row),
        Message("user", prompt),
        Message("assistant", response),
    )
    return Conversation(turns, **plain_labels(row))


def _history(row: Row) -> tuple[Message, ...]:
    """Earlier exchanges: a list of [question, answer] lists."""
    if not row.get("history"):
        return ()
    turns: list[Message] = []
    for number, item in enumerate(as_list(row["history"], "history"), start=1):
        if not isinstance(item, list) or len(item) != 2:
            raise RowError(f"exchange {number} of `history` is not a question and an answer")
        turns.append(Message("user", text_of(item[0], f"question {number} of `history`")))
        turns.append(Message("assistant", text_of(item[1], f"answer {number} of `history`")))
    return tuple(turns)


def _columns(row: Row) -> ColumnMap:
    output = first_column(row, _OUTPUTS) or next(name for name in _OUTPUTS if name in row)
    category = "category" if "category" in row else None
    return ColumnMap("instruction", output, first_column(row, _SYSTEMS), category)


INFO = ShapeInfo(
    "alpaca", "Alpaca", 50, "`instruction`, `input` and `output`", _claims, _convert, _columns
)
