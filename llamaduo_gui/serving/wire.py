"""OpenAI's chat completions on the wire: reads requests, writes answers, chunks and errors."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llamaduo_gui.core.errors import (
    FatalProviderError,
    LlamaDuoError,
    RequestRejectedError,
    TransientProviderError,
    UserError,
)
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import RateLimitedError
from llamaduo_gui.serving.answerers import Answer, Ending, Question

# Leaving these out would change what a client gets without its knowing.
_NOT_SERVED = ("tools", "functions", "logprobs", "stop", "logit_bias", "audio")
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: the question, and the form the answer is to have."""

    question: Question
    is_streamed: bool
    wants_usage: bool


def read_request(body: object) -> Asked:
    """A chat completion request.

    Raises:
        UserError: it is none, or asks for what is not served here.
    """
    if not isinstance(body, dict):
        raise UserError("The request is not a JSON object.")
    asked_for = [name for name in _NOT_SERVED if body.get(name)]
    kind = body.get("response_format")
    if isinstance(kind, Mapping) and kind.get("type") not in (None, "text"):
        asked_for.append("response_format")
    if body.get("n") not in (None, 1):
        asked_for.append("n")
    if asked_for:
        raise UserError(f"{', '.join(asked_for)} cannot be asked for here; leave it out.")
    temperature = _number(body, "temperature", 0, 2)
    top_p = _number(body, "top_p", 0, 1)
    options = body.get("stream_options")
    limit = _whole(body, "max_completion_tokens") or _whole(body, "max_tokens")
    return Asked(
        Question(
            _read_messages(body.get("messages")),
            temperature=temperature,
            top_p=top_p or None,
            max_tokens=limit,
            seed=_whole(body, "seed", least=0),
        ),
        is_streamed=bool(body.get("stream")),
        wants_usage=isinstance(options, Mapping) and bool(options.get("include_usage")),
    )


def answer_document(answer: Answer, model: str) -> dict[str, Any]:
    """The body of an answer in one piece."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": answer.ending.finish_reason,
        "logprobs": None,
    }
    return {
        **_head("chat.completion", model, new_id()),
        "choices": [choice],
        "usage": usage_document(answer.ending),
    }


def usage_document(ending: Ending) -> dict[str, int]:
    """Token counts, 0 where they are not known."""
    return {
        "prompt_tokens": ending.prompt_tokens,
        "completion_tokens": ending.completion_tokens,
        "total_tokens": ending.prompt_tokens + ending.completion_tokens,
    }


class ChunkWriter:
    """Writes the events of one streamed answer."""

    def __init__(self, model: str) -> None:
        self._head = _head("chat.completion.chunk", model, new_id())

    def text(self, text: str, *, is_first: bool) -> bytes:
        """A piece of the answer."""
        delta = {"role": "assistant", "content": text} if is_first else {"content": text}
        return self._event(delta, None)

    def end(self, ending: Ending, *, wants_usage: bool) -> bytes:
        """The end of the answer, with its token counts where asked for and known."""
        event = self._event({}, ending.finish_reason)
        if wants_usage:
            document = {**self._head, "choices": [], "usage": usage_document(ending)}
            event += encode_event(document)
        return event + b"data: [DONE]\n\n"

    def _event(self, delta: Mapping[str, str], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return encode_event({**self._head, "choices": [choice]})


def encode_event(document: Mapping[str, Any]) -> bytes:
    """One server-sent event; half a surrogate pair, which UTF-8 cannot hold, is replaced."""
    text = json.dumps(document, ensure_ascii=False)
    return f"data: {text}\n\n".encode(errors="replace")


def error_document(text: str, code: str) -> dict[str, Any]:
    """The body of an error as the SDKs read it."""
    kind = "invalid_request_error" if code.startswith("invalid") else "server_error"
    return {"error": {"message": text, "type": kind, "code": code, "param": None}}


def error_status(error: LlamaDuoError) -> tuple[int, str]:
    """HTTP status and code of an error."""
    if isinstance(error, RateLimitedError):
        return 429, "rate_limit_exceeded"
    if isinstance(error, TransientProviderError):
        return 503, "service_unavailable"
    if isinstance(error, FatalProviderError):
        return 502, "service_unusable"
    if isinstance(error, RequestRejectedError | UserError):
        return 400, "invalid_request"
    return 500, "internal_error"


def new_id() -> str:
    """Id of an answer."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def _head(kind: str, model: str, identity: str) -> dict[str, Any]:
    return {"id": identity, "object": kind, "created": int(time.time()), "model": model}


def _read_messages(data: object) -> tuple[Message, ...]:
    turns = data if isinstance(data, list) else []
    if not turns:
        raise UserError("The request has no messages.")
    return tuple(_read_message(turn) for turn in turns)


def _read_message(turn: object) -> Message:
    values = turn if isinstance(turn, dict) else {}
    role = _ROLES.get(str(values.get("role")))
    content = values.get("content")
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {} for part in content]
        if any(not isinstance(part.get("text"), str) for part in parts):
            raise UserError("Only text can be sent here; leave images, sounds and files out.")
        content = "".join(part["text"] for part in parts)
    if role is None or not isinstance(content, str):
        raise UserError("Each message has a role (system, user or assistant) and a text content.")
    return Message(role, content)  # type: ignore[arg-type]


def _number(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UserError(f"{name} must be a number from {low} to {high}.")
    return float(value)


def _whole(body: Mapping[str, Any], name: str, *, least: int = 1) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} must be a whole number of {least} or more.")
    return value
