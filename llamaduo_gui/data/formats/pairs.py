"""Rows with a prompt column and a response column, under the names people give them."""

from __future__ import annotations

from llamaduo_gui.data.formats.base import (
    ColumnMap,
    Conversation,
    Row,
    ShapeInfo,
    first_column,
    pair,
    plain_labels,
    system_text,
)
from llamaduo_gui.data.rows import text_of

PROMPTS = ("prompt", "instruction", "question", "query", "input", "user", "human", "request")
RESPONSES = ("response", "completion", "answer", "output", "target", "assistant", "reply")
SYSTEMS = ("system", "system_prompt")


def _claims(row: Row) -> bool:
    # A response that is null is this shape too, and said to be null.
    has_response = any(name in row for name in RESPONSES)
    return has_response and first_column(row, PROMPTS) is not None


def _convert(row: Row) -> Conversation:
    columns = _columns(row)
    prompt = text_of(row[str(columns.prompt)], f"`{columns.prompt}`")
    response = text_of(row[str(columns.response)], f"`{columns.response}`")
    turns = pair(prompt, response, system_text(row, columns.system))
    return Conversation(turns, **plain_labels(row))


def _columns(row: Row) -> ColumnMap:
    response = first_column(row, RESPONSES) or next(name for name in RESPONSES if name in row)
    return ColumnMap(
        first_column(row, PROMPTS),
        response,
        first_column(row, SYSTEMS),
        "category" if "category" in row else None,
    )


INFO = ShapeInfo(
    "pairs",
    "prompt and response columns",
    60,
    "`prompt` (or `instruction`, `question`...) and `response` (or `completion`, `answer`...)",
    _claims,
    _convert,
    _columns,
)
