"""Messages of the fake Anthropic: their content blocks, and the same as a stream of events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.fakes.anthropic_faults import Fault
from tests.fakes.http_server import Response


def content_blocks(body: Mapping[str, Any], text: str, *, thinks: bool) -> list[dict[str, Any]]:
    """Thinking, and the answer: as text, or as arguments of the tool that was asked for."""
    blocks: list[dict[str, Any]] = []
    if thinks:
        blocks.append({"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"})
    found = _object_in(text) if "tools" in body else None
    if found is not None:
        name = body["tools"][0]["name"]
        blocks.append({"type": "tool_use", "id": "toolu_1", "name": name, "input": found})
    elif text:
        blocks.append({"type": "text", "text": text})
    return blocks


def stream_of(message: Mapping[str, Any], fault: Fault | None, delay_s: float) -> Response:
    """The message as server-sent events, `delay_s` apart."""
    start = {**message, "content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    events.append({"type": "ping"})
    for index, block in enumerate(message["content"]):
        empty = {"text": {"text": ""}, "tool_use": {"input": {}}}.get(block["type"], {})
        opened = {"type": "content_block_start", "index": index}
        events.append({**opened, "content_block": {**block, **empty}})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta}
            for delta in _deltas(block)
        ]
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": end, "usage": message.get("usage", {})})
    events.append({"type": "message_stop"})
    if fault == "stream_error":
        error = {"type": "overloaded_error", "message": "Overloaded"}
        events[4:] = [{"type": "error", "error": error}]
    elif fault == "stream_stops":
        del events[4:]
    texts = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events]
    if fault == "malformed_json":
        texts[3] = texts[3][:-9] + "\n\n"
    return Response(
        content_type="text/event-stream",
        pieces=[text.encode() for text in texts],
        piece_delay_s=delay_s,
        is_cut=fault == "truncated",
    )


def _object_in(text: str) -> dict[str, Any] | None:
    """What a model that has to call a tool makes of its answer; None if it writes it out."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _deltas(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "thinking":
        return [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    if block["type"] == "tool_use":
        text = json.dumps(block["input"])
        parts = [text[start : start + 20] for start in range(0, len(text), 20)]
        return [{"type": "input_json_delta", "partial_json": part} for part in parts]
    words = block["text"].split(" ")
    return [
        *({"type": "text_delta", "text": f"{word} "} for word in words[:-1]),
        {"type": "text_delta", "text": words[-1]},
    ]
