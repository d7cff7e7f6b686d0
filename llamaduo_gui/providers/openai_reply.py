"""Reads the bodies that OpenAI and servers like it answer with: completions and model lists."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from llamaduo_gui.providers.base import FinishReason, ModelInfo, Reply
from llamaduo_gui.providers.endpoint import well_formed

# More tokens than any context has: a count beyond it is a fault of the server's.
MOST_TOKENS = 10**9

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
}


def read_json(text: str | bytes) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: it is not JSON, or nested so deeply that it cannot be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_completion(body: Mapping[str, Any], latency_s: float) -> Reply | None:
    """The reply in a chat completion, None if there is no message in it.

    Usage, finish reason and content may be missing or null: servers differ.
    """
    choice = first_choice(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        return None
    text = _text_of(message.get("content"))
    refusal = message.get("refusal")
    reason = _FINISH_REASONS.get(str(choice.get("finish_reason") or "stop").lower(), "other")
    if isinstance(refusal, str) and refusal:
        text, reason = text or refusal, "refusal"
    usage = part(body, "usage")
    prompt = count(usage.get("prompt_tokens"))
    completion = count(usage.get("completion_tokens"))
    read, written = part(usage, "prompt_tokens_details"), part(usage, "completion_tokens_details")
    reasoning = count(written.get("reasoning_tokens"))
    # xAI and Gemini's endpoint count reasoning in the total only; it is paid for as well.
    unnamed = count(usage.get("total_tokens")) - prompt - completion
    if unnamed > 0 and prompt > 0:
        completion, reasoning = completion + unnamed, max(reasoning, unnamed)
    # DeepSeek has a name of its own for tokens from the cache.
    cached = count(read.get("cached_tokens")) or count(usage.get("prompt_cache_hit_tokens"))
    return Reply(
        text=well_formed(text),
        finish_reason=reason,
        prompt_tokens=prompt,
        completion_tokens=completion,
        latency_s=latency_s,
        cost_usd=_cost_usd(usage),
        cached_tokens=min(cached, prompt),
        cache_write_tokens=min(count(read.get("cache_write_tokens")), prompt),
        reasoning_tokens=min(reasoning, completion),
    )


def first_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first choice of a completion, empty if there is none."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}


def read_models(body: object) -> list[ModelInfo] | None:
    """The models of a list by id, None if it is not one.

    OpenAI, vLLM and Ollama send `data`, llama.cpp `data` beside `models`, some servers a bare
    list; Ollama without a model sends null. OpenRouter and Together add a name for people.
    """
    entries = body
    if isinstance(body, Mapping):
        names = [name for name in ("data", "models") if name in body]
        entries = next((body[name] for name in names if body[name]), [] if names else None)
    if not isinstance(entries, list):
        return None
    found: dict[str, ModelInfo] = {}
    for entry in entries:
        values = entry if isinstance(entry, Mapping) else {"id": entry}
        name = _first_text(values, "id", "model", "name")
        if name:
            title = _first_text(values, "display_name", "name")
            found[name] = ModelInfo(name, "" if title == name else title)
    return [found[name] for name in sorted(found)]


def _first_text(values: Mapping[str, Any], *names: str) -> str:
    texts = (values.get(name) for name in names)
    text = next((text for text in texts if isinstance(text, str) and text.strip()), "")
    return well_formed(" ".join(text.split()))


def _text_of(content: object) -> str:
    """Content as text; some servers send it in typed parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _cost_usd(usage: Mapping[str, Any]) -> float | None:
    """What OpenRouter says a reply cost, in US dollars; None where nothing is said.

    With a key of one's own for the model behind it, `cost` is OpenRouter's fee alone.
    Source: OpenRouter's documentation, "Usage accounting".
    """
    cost = _amount(usage.get("cost"))
    if cost is None or not usage.get("is_byok"):
        return cost
    return cost + (_amount(part(usage, "cost_details").get("upstream_inference_cost")) or 0.0)


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < math.inf and value <= MOST_TOKENS else None


def count(value: object) -> int:
    """A number of tokens or requests, 0 where the value is none that can be believed."""
    amount = _amount(value)
    return int(amount) if amount is not None else 0


def part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object of this name, empty if it is missing or something else."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}
