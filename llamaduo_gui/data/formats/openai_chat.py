"""Logs of the chat completions API: request and response, apart or in one object."""

from __future__ import annotations

from collections.abc import Mapping

from llamaduo_gui.data.formats.base import ColumnMap, Conversation, Row, ShapeInfo
from llamaduo_gui.data.formats.openai_logs import (
    category_of,
    check_ending,
    conversation,
    request_of,
    response_of,
    text_label,
    wrong,
)
from llamaduo_gui.data.rows import RowError, as_list, join_parts

_LISTS = ("messages", "input", "input_messages")


def _claims(row: Row) -> bool:
    return isinstance(response_of(row).get("choices"), list) or _is_stored(row)


def _is_stored(row: Row) -> bool:
    """Whether this is a stored completion as evaluations export it: `input` and `output` lists."""
    parts = (row.get("input"), row.get("output"))
    return all(
        isinstance(part, list) and part and isinstance(part[0], Mapping) and "role" in part[0]
        for part in parts
    ) and not any("type" in item for item in row["output"] if isinstance(item, Mapping))


def _convert(row: Row) -> Conversation:
    request, response = request_of(row), response_of(row)
    turns = next((request[name] for name in _LISTS if request.get(name) is not None), None)
    if turns is None:
        raise RowError("has a reply but no `messages` of a request")
    model = text_label(response, "model") or text_label(request, "model")
    messages = conversation(as_list(turns, "messages"), _answer(row, response))
    return Conversation(messages, category=category_of(row), generator=model)


def _answer(row: Row, response: Row) -> str:
    choices = response.get("choices")
    if not isinstance(choices, list):
        choices = [{"message": row["output"][-1]}]
    if not choices:
        raise RowError("the response has no choice")
    choice = choices[0]
    if not isinstance(choice, Mapping) or not isinstance(choice.get("message"), Mapping):
        raise wrong(choice, "the first choice", "an object with a message")
    check_ending(choice.get("finish_reason"))
    message = choice["message"]
    if message.get("refusal"):
        raise RowError("the model refused")
    if message.get("tool_calls"):
        check_ending("tool_calls")
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        content = join_parts(content, "the reply")
    if not isinstance(content, str):
        raise wrong(content, "the reply", "text")
    return content


def _columns(row: Row) -> ColumnMap:
    request = "request" if request_of(row) is not row else "messages"
    response = "response" if response_of(row) is not row else "choices"
    return ColumnMap(request, response, request, "category" if "category" in row else None)


INFO = ShapeInfo(
    "openai_chat",
    "OpenAI chat completions log",
    10,
    "`messages` and `choices`, or `request` and `response`",
    _claims,
    _convert,
    _columns,
)
