"""What Anthropic's Messages API turns down, for the fake server: the checks and their texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

Structured = Literal["json_schema", "tool", "plain"]

NEWEST_VERSION = "2026-10-21"
SAMPLING_VERSION = "2023-06-01"
VERSIONS = ("2023-01-01", SAMPLING_VERSION, NEWEST_VERSION)
SAMPLING = {"temperature", "top_p", "top_k"}
FIELDS = {
    "model",
    "max_tokens",
    "messages",
    "system",
    "stream",
    "stop_sequences",
    "metadata",
    "output_config",
    "service_tier",
    "thinking",
    "tool_choice",
    "tools",
    "cache_control",
}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# The keywords the grammar of structured output knows; bounds and lengths are not among them.
KEYWORDS = {
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "description",
    "title",
    "format",
    "$defs",
    "$ref",
}


def problem_of(
    body: Mapping[str, Any], version: str, structured: Structured, *, refuses_temperature: bool
) -> str | None:
    """What is wrong with the body of a message, None if nothing is."""
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            return f"{name}: Field required"
    allowed = FIELDS if version == NEWEST_VERSION else FIELDS | SAMPLING
    for name in body:
        if name not in allowed:
            return f"{name}: Extra inputs are not permitted"
    if not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    return (
        _problem_of_temperature(body, refuses_temperature)
        or _problem_of_turns(body)
        or _problem_of_form(body, structured)
    )


def _problem_of_temperature(body: Mapping[str, Any], refuses: bool) -> str | None:
    if "temperature" not in body:
        return None
    if refuses:
        return "`temperature` is deprecated for this model."
    value = body["temperature"]
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        return "temperature: range: 0..1"
    return None


def _problem_of_turns(body: Mapping[str, Any]) -> str | None:
    turns = body["messages"]
    if not isinstance(turns, list) or not turns:
        return "messages: at least one message is required"
    if "system" in body and not (isinstance(body["system"], str) and body["system"]):
        return "system: text content blocks must be non-empty"
    previous = "assistant"
    for number, turn in enumerate(turns):
        role = turn.get("role")
        if role not in ("user", "assistant"):
            return (
                f'messages: Unexpected role "{role}". The Messages API accepts a top-level '
                '`system` parameter, not "system" as an input message role.'
            )
        if role == previous:
            if number == 0:
                return 'messages: first message must use the "user" role'
            return (
                'messages: roles must alternate between "user" and "assistant", but found '
                f'multiple "{role}" roles in a row'
            )
        if not str(turn.get("content") or "").strip():
            return f"messages.{number}: text content blocks must be non-empty"
        previous = role
    return None


def _problem_of_form(body: Mapping[str, Any], structured: Structured) -> str | None:
    if "output_config" in body:
        if structured != "json_schema":
            return f"'{body['model']}' does not support output format."
        form = body["output_config"].get("format", {})
        if set(form) != {"type", "schema"} or form["type"] != "json_schema":
            return "output_config.format: Input should have type and schema"
        return _problem_of_schema(form["schema"])
    return _problem_of_tools(body, structured)


def _problem_of_tools(body: Mapping[str, Any], structured: Structured) -> str | None:
    if "tools" not in body:
        return "tool_choice may only be specified with tools" if "tool_choice" in body else None
    names = [tool.get("name", "") for tool in body["tools"]]
    for number, tool in enumerate(body["tools"]):
        if not NAME.fullmatch(tool.get("name", "")):
            return f"tools.{number}.custom.name: String should match pattern"
        if tool.get("input_schema", {}).get("type") != "object":
            return f"tools.{number}.custom.input_schema.type: Field required"
    choice = body.get("tool_choice", {"type": "auto"})
    if choice["type"] == "tool" and choice.get("name") not in names:
        return f"tool_choice: Tool '{choice.get('name')}' not found in provided tools"
    if structured == "plain" and choice["type"] in ("tool", "any"):
        return 'tool_choice: type "tool" and "any" are not supported for this model.'
    return None


def _problem_of_schema(schema: Any) -> str | None:
    where = "output_config.format.schema"
    if not isinstance(schema, dict):
        return None
    kind = schema.get("type")
    unknown = sorted(set(schema) - KEYWORDS)
    if unknown:
        return f"{where}: For '{kind}' type, properties {', '.join(unknown)} are not supported"
    if kind == "object" and schema.get("additionalProperties") is not False:
        return f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false"
    inner = [*schema.get("properties", {}).values(), schema.get("items")]
    return next((found for part in inner if (found := _problem_of_schema(part))), None)
