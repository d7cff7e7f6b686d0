"""Anthropic's Messages API on the wire: what a request becomes, and what a message says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest, FinishReason, Reply, ReplySchema
from llamaduo_gui.providers.endpoint import well_formed

# The API takes 0..1. Its version 2026-10-21, which the SDK asks for by itself, takes none at all
# (platform.claude.com/docs/en/api/migration-2026-10-21), so the one before is asked for then.
HIGHEST_TEMPERATURE = 1.0
SAMPLING_VERSION = "2023-06-01"

# More tokens than any context has: a count beyond it is a fault of the server's.
MOST_TOKENS = 10**9

SchemaMode = Literal["json_schema", "tool", "plain"]

# Claude 4.7 and later sample as they will and refuse the parameter in every version of the API.
_NO_TEMPERATURE = re.compile(r"claude-(fable|mythos|[a-z]+-(4-[7-9]|[5-9]|\d\d))(\b|-)")
# Structured output came with 4.5 (and 4.1 Opus); these had tools only.
_NO_STRUCTURED_OUTPUT = re.compile(
    r"claude-(instant|1|2|3)\b|claude-(opus|sonnet)-4(-0)?(-20\d{6})?$"
)

_ABOUT_SCHEMA = re.compile(
    r"output[_ ](config|format)|structured output|json_schema|grammar|\bschema\b"
)
_ABOUT_TOOLS = re.compile(r"tool_choice|\btools?\b|input_schema")
_ABOUT_TEMPERATURE = re.compile(r"temperature|anthropic-version")

_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    # The forced tool is only the form of the answer.
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


@dataclass(slots=True)
class Style:
    """How one model wants to be asked; what it turns down is remembered.

    Structured output is asked for as `output_config`, else as the arguments of a tool the model
    has to call (all Claude 3 and 4 models), else in words alone: models newer than 5 refuse to be
    forced to a tool, older ones have no `output_config`.
    """

    mode: SchemaMode
    sends_temperature: bool

    @classmethod
    def of_model(cls, model: str) -> Style:
        """What is known of a model by its name."""
        mode: SchemaMode = "tool" if _NO_STRUCTURED_OUTPUT.search(model) else "json_schema"
        return cls(mode, _NO_TEMPERATURE.search(model) is None)

    def parameters(self, request: ChatRequest) -> dict[str, Any]:
        """The request as the JSON object of `POST /v1/messages`."""
        system = [turn.content for turn in request.messages if turn.role == "system"]
        system = [well_formed(content) for content in system]
        parameters: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_tokens,
            "messages": alternating(request.messages),
        }
        if system:
            parameters["system"] = "\n\n".join(system)
        if request.temperature is not None and self.sends_temperature:
            parameters["temperature"] = request.temperature
        if request.reply_schema is not None:
            parameters.update(self._form(request.reply_schema))
        return parameters

    def _form(self, schema: ReplySchema) -> dict[str, Any]:
        if self.mode == "json_schema":
            form = {"type": "json_schema", "schema": dict(schema.schema)}
            return {"output_config": {"format": form}}
        if self.mode == "tool":
            tool = {
                "name": schema.name,
                "description": "Gives the answer in the form that was asked for.",
                "input_schema": dict(schema.schema),
            }
            return {"tools": [tool], "tool_choice": {"type": "tool", "name": schema.name}}
        return {}

    def adapt(self, problem: str, sent: Mapping[str, Any] | None) -> bool:
        """Remember what the model does not take; True if the request is worth putting again.

        Requests under way together complain together: each step down is taken once.

        Args:
            problem: the refusal's text in lower case.
            sent: what was sent, None where that is not known any more (results of a batch).
        """
        if _ABOUT_TEMPERATURE.search(problem) and (sent is None or "temperature" in sent):
            self.sends_temperature = False
            return True
        if _ABOUT_TOOLS.search(problem) and (sent is None or "tools" in sent):
            self.mode = "plain"
            return True
        if _ABOUT_SCHEMA.search(problem) and (sent is None or "output_config" in sent):
            self.mode = "tool" if self.mode == "json_schema" else self.mode
            return True
        return False


def version_headers(*parameters: Mapping[str, Any]) -> dict[str, str]:
    """Headers that ask for the last version of the API with a temperature, where one is sent."""
    has_temperature = any("temperature" in entry for entry in parameters)
    return {"anthropic-version": SAMPLING_VERSION} if has_temperature else {}


def alternating(messages: Sequence[Message]) -> list[dict[str, str]]:
    """User and assistant turns by turns; neighbours of one role become one."""
    turns: list[dict[str, str]] = []
    for message in messages:
        if message.role == "system":
            continue
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += f"\n\n{well_formed(message.content)}"
        else:
            turns.append({"role": message.role, "content": well_formed(message.content)})
    return turns


def read_message(body: Mapping[str, Any], latency_s: float = 0.0) -> Reply | None:
    """The reply in a message, None if it is not one.

    The arguments of a forced tool are its text; thinking is left out. `input_tokens` on the wire
    are those beside the cache: all tokens read are the sum of the three counts.
    """
    content = body.get("content")
    if not isinstance(content, list):
        return None
    blocks = [block for block in content if isinstance(block, dict)]
    text = _text_of(blocks)
    reason = _FINISH_REASONS.get(str(body.get("stop_reason") or "end_turn"), "other")
    details = body.get("stop_details")
    if reason == "refusal" and not text and isinstance(details, dict):
        text = str(details.get("explanation") or "")
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    written = usage.get("output_tokens_details")
    cached = _count(usage.get("cache_read_input_tokens"))
    cache_write = _count(usage.get("cache_creation_input_tokens"))
    return Reply(
        text=well_formed(text),
        finish_reason=reason,
        prompt_tokens=_count(usage.get("input_tokens")) + cached + cache_write,
        completion_tokens=_count(usage.get("output_tokens")),
        latency_s=latency_s,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        reasoning_tokens=_count(
            written.get("thinking_tokens") if isinstance(written, dict) else None
        ),
    )


def _text_of(blocks: Sequence[Mapping[str, Any]]) -> str:
    for block in blocks:
        if block.get("type") == "tool_use" and isinstance(block.get("input"), dict):
            return json.dumps(block["input"], ensure_ascii=False)
    parts = [block.get("text") for block in blocks if block.get("type") == "text"]
    return "".join(part for part in parts if isinstance(part, str))


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < MOST_TOKENS else 0


def read_object(text: str, *needed: str) -> dict[str, Any]:
    """The JSON object in a text.

    Raises:
        ValueError: it is none, or has not all of `needed`; the text is a clause for the user.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not valid JSON") from None
    if isinstance(body, dict):
        missing = [name for name in needed if body.get(name) is None]
        if not missing:
            return body
        raise ValueError(f"it has no {missing[0]}")
    raise ValueError("it is not a JSON object")
