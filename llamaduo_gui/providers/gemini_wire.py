"""Gemini's wire format: a request as the API's JSON, and the reply in an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest, FinishReason, Reply
from llamaduo_gui.providers.endpoint import well_formed

SchemaMode = Literal["json_schema", "json_object", "plain"]

# Source: the Gemini API reference, "FinishReason".
_FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
    "MAX_TOKENS": "length",
    # Cut at the most one request may write; the rest would be another request.
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Form:
    """How a request is put: the most that the model is known to take.

    Attributes:
        mode: how a reply schema is asked for; `plain` leaves it to the prompt.
        has_system: whether system turns go in their own field; else before the first user turn.
    """

    mode: SchemaMode = "json_schema"
    has_system: bool = True


def request_body(request: ChatRequest, form: Form) -> dict[str, Any]:
    """A `GenerateContentRequest` as JSON values, without the model."""
    system = [turn.content for turn in request.messages if turn.role == "system"]
    turns = [turn for turn in request.messages if turn.role != "system"]
    if system and (not form.has_system or not turns):
        turns = _with_preamble(system, turns)
        system = []
    settings: dict[str, Any] = {"maxOutputTokens": request.max_tokens}
    if request.temperature is not None:
        settings["temperature"] = request.temperature
    if request.reply_schema is not None and form.mode != "plain":
        settings["responseMimeType"] = "application/json"
        if form.mode == "json_schema":
            settings["responseJsonSchema"] = dict(request.reply_schema.schema)
    body: dict[str, Any] = {"contents": [_content(turn) for turn in turns]}
    if system:
        body["systemInstruction"] = {"parts": [{"text": well_formed(text)} for text in system]}
    body["generationConfig"] = settings
    return body


def _with_preamble(system: Iterable[str], turns: list[Message]) -> list[Message]:
    """The turns with the system text in the first user turn."""
    text = "\n\n".join(system)
    if turns and turns[0].role == "user":
        return [Message("user", f"{text}\n\n{turns[0].content}"), *turns[1:]]
    return [Message("user", text), *turns]


def _content(turn: Message) -> dict[str, Any]:
    role = "model" if turn.role == "assistant" else "user"
    return {"role": role, "parts": [{"text": well_formed(turn.content)}]}


def read_reply(body: Mapping[str, Any], latency_s: float) -> Reply | None:
    """The reply in a `GenerateContentResponse`, None if there is neither candidate nor block.

    A blocked prompt is an empty reply that the content filter ended: it was read and may be
    paid for. Where thinking used up `maxOutputTokens`, the text is empty and the finish reason
    `length`. Thoughts are billed like text and are no part of it.
    """
    candidates = body.get("candidates")
    candidate = candidates[0] if isinstance(candidates, list) and candidates else None
    reason: FinishReason
    if isinstance(candidate, dict):
        text = text_of(candidate)
        reason = _FINISH_REASONS.get(str(candidate.get("finishReason") or "STOP"), "other")
    elif block_reason(body):
        text, reason = "", "content_filter"
    else:
        return None
    usage = _mapping(body.get("usageMetadata"))
    thoughts = _count(usage.get("thoughtsTokenCount"))
    return Reply(
        text=text,
        finish_reason=reason,
        prompt_tokens=_count(usage.get("promptTokenCount")),
        completion_tokens=_count(usage.get("candidatesTokenCount")) + thoughts,
        latency_s=latency_s,
        cached_tokens=_count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )


def block_reason(body: Mapping[str, Any]) -> str:
    """Why the prompt was blocked, empty if it was not."""
    return str(_mapping(body.get("promptFeedback")).get("blockReason") or "")


def text_of(candidate: Mapping[str, Any]) -> str:
    """The text of a candidate without its thoughts."""
    parts = _mapping(candidate.get("content")).get("parts")
    kept = parts if isinstance(parts, list) else []
    texts = [
        part.get("text") for part in kept if isinstance(part, dict) and not part.get("thought")
    ]
    return well_formed("".join(text for text in texts if isinstance(text, str)))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
