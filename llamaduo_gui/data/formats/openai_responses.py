"""Logs of the responses API: `input` and `instructions` asked, `output` items answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamaduo_gui.data.formats.base import ColumnMap, Conversation, Row, ShapeInfo
from llamaduo_gui.data.formats.openai_logs import (
    as_object,
    category_of,
    check_ending,
    conversation,
    request_of,
    response_of,
    text_label,
    wrong,
)
from llamaduo_gui.data.rows import RowError

_UNREAD = ("reasoning", "item_reference")


def _claims(row: Row) -> bool:
    output = response_of(row).get("output")
    return isinstance(output, list) and any(
        isinstance(item, Mapping) and "type" in item for item in output
    )


def _convert(row: Row) -> Conversation:
    request, response = request_of(row), response_of(row)
    answer = _answer(response)
    turns = _turns(request.get("input"))
    instructions = request.get("instructions") or response.get("instructions")
    if isinstance(instructions, str) and instructions.strip():
        turns.insert(0, {"role": "system", "content": instructions})
    model = text_label(response, "model") or text_label(request, "model")
    return Conversation(conversation(turns, answer), category=category_of(row), generator=model)


def _turns(value: object) -> list[Any]:
    """The request's turns: one text, or items of which reasoning is left out."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise wrong(value, "`input`", "text or a list of items")
    return [item for item in value if not _is_unread(item)]


def _is_unread(item: object) -> bool:
    return isinstance(item, Mapping) and item.get("type") in _UNREAD


def _answer(response: Row) -> str:
    details = as_object(response.get("incomplete_details"))
    check_ending(details.get("reason") if details else None)
    parts: list[Any] = []
    for item in response["output"]:
        if not isinstance(item, Mapping) or _is_unread(item):
            continue
        if item.get("type") != "message":
            raise RowError(f"the reply has {repr(item.get('type'))[:40]}, which is not text")
        parts += item["content"] if isinstance(item.get("content"), list) else []
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "refusal":
            raise RowError("the model refused")
        if kind != "output_text" or not isinstance(part.get("text"), str):
            raise RowError(f"the reply holds {repr(kind)[:40]}, which is not text")
        texts.append(part["text"])
    if not texts:
        raise RowError("the response has no text")
    return "".join(texts)


def _columns(row: Row) -> ColumnMap:
    request = "request" if request_of(row) is not row else "input"
    response = "response" if response_of(row) is not row else "output"
    system = request if request == "request" else "instructions"
    return ColumnMap(request, response, system, "category" if "category" in row else None)


INFO = ShapeInfo(
    "openai_responses",
    "OpenAI responses log",
    11,
    "`input` and `output` items",
    _claims,
    _convert,
    _columns,
)
