"""Tests of reading completions and lists of models, of known servers and of none."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ProviderError, RequestRejectedError, TransientProviderError
from llamaduo_gui.core.types import TokenCounts
from llamaduo_gui.providers.base import ModelInfo, Reply
from llamaduo_gui.providers.openai_batch import OpenAIBatches
from llamaduo_gui.providers.openai_compatible import OpenAIChat
from llamaduo_gui.providers.openai_errors import from_status
from llamaduo_gui.providers.openai_limits import read_limits
from llamaduo_gui.providers.openai_reply import read_completion, read_json, read_models

SERVICE = ServiceConfig(provider="openai_compatible", model="m", base_url="http://localhost/v1")


def reply_with(**usage: Any) -> Reply:
    choices = [{"message": {"content": "hi"}, "finish_reason": "stop"}]
    reply = read_completion({"choices": choices, "usage": usage}, 0.1)
    assert reply is not None
    return reply


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 32},
            },
            TokenCounts(100, 50, 64, 8, 32),
        ),
        # xAI: reasoning is in the total and not in completion_tokens.
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "total_tokens": 150,
                "completion_tokens_details": {"reasoning_tokens": 40},
            },
            TokenCounts(100, 50, reasoning=40),
        ),
        # Gemini's OpenAI-compatible endpoint: it is in the total alone.
        (
            {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 150},
            TokenCounts(100, 50, reasoning=40),
        ),
        # DeepSeek's name for tokens from the cache.
        (
            {"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 60},
            TokenCounts(100, 5, 60),
        ),
        # A part is never more than the whole.
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 64},
                "completion_tokens_details": {"reasoning_tokens": 99},
            },
            TokenCounts(10, 5, 10, 0, 5),
        ),
        ({"prompt_tokens": 12.0, "completion_tokens": True}, TokenCounts(12, 0)),
        ({"prompt_tokens": 10**30, "completion_tokens": float("nan")}, TokenCounts()),
        ({"prompt_tokens_details": None, "completion_tokens_details": []}, TokenCounts()),
    ],
)
def test_every_kind_of_token_is_counted(usage: dict[str, Any], tokens: TokenCounts) -> None:
    assert reply_with(**usage).tokens == tokens


@pytest.mark.parametrize(
    ("usage", "cost_usd"),
    [
        ({"cost": 0.0125}, 0.0125),
        ({"cost": 0}, 0.0),
        ({}, None),
        ({"cost": None}, None),
        ({"cost": "0.1"}, None),
        ({"cost": -1}, None),
        ({"cost": float("inf")}, None),
        ({"cost": {"total": 1}}, None),
        (
            {
                "cost": 0.01,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.2},
            },
            0.21,
        ),
        ({"cost": 0.01, "is_byok": True}, 0.01),
    ],
)
def test_a_cost_told_by_the_service_is_kept(usage: dict[str, Any], cost_usd: float | None) -> None:
    assert reply_with(**usage).cost_usd == pytest.approx(cost_usd)


@pytest.mark.parametrize(
    ("body", "models"),
    [
        ({"data": [{"id": "b"}, {"id": "a"}, {"id": "a"}]}, [ModelInfo("a"), ModelInfo("b")]),
        ({"data": [{"id": "a", "display_name": "A one"}]}, [ModelInfo("a", "A one")]),
        ({"models": [{"name": "a:latest", "model": "a:latest"}]}, [ModelInfo("a:latest")]),
        ({"data": None, "models": [{"name": "a"}]}, [ModelInfo("a")]),
        (["a", "b"], [ModelInfo("a"), ModelInfo("b")]),
        ({"data": [{"id": None}, {}, 7, {"id": " "}]}, []),
        ({"data": None}, []),
        ({"object": "list"}, None),
        ({"data": {"id": "a"}}, None),
        ("a", None),
    ],
)
def test_a_list_of_models_is_read_in_every_shape(
    body: object, models: list[ModelInfo] | None
) -> None:
    assert read_models(body) == models


def test_json_that_is_nested_too_deeply_is_not_json() -> None:
    with pytest.raises(ValueError, match="nested"):
        read_json("[" * 100_000)


NAMES = (
    *("choices", "message", "content", "text", "refusal", "finish_reason", "usage", "error"),
    *("code", "type", "param", "detail", "prompt_tokens", "completion_tokens", "cost"),
    *("total_tokens", "prompt_tokens_details", "cached_tokens", "is_byok", "cost_details"),
    *("data", "models", "id", "name", "msg"),
)
LEAVES = (
    *(None, True, False, 0, 1, -7, 2**70, 10**400, 0.5, -1e300, float("nan"), float("inf")),
    *("", "stop", "length", "model_not_found", "502", "५०२", "\ud83d", "\udc00 \n\x00", "<html>"),
)


def json_from(choices: Iterator[int], depth: int = 0) -> Any:
    """A JSON value made of what a byte chooses, again and again: quicker than st.recursive."""
    choice = next(choices, 0)
    if depth == 6 or choice < 100:
        return LEAVES[choice % len(LEAVES)]
    if choice < 130:
        return [json_from(choices, depth + 1) for _ in range(choice % 3)]
    return {
        NAMES[next(choices, 0) % len(NAMES)]: json_from(choices, depth + 1)
        for _ in range(choice % 5)
    }


def body_from(data: bytes) -> Any:
    """Any JSON value, every second time in the frame of a completion."""
    choices = iter(data)
    if next(choices, 0) % 2:
        return json_from(choices)
    message, reason = json_from(choices), json_from(choices)
    body = {"choices": [{"message": message, "finish_reason": reason}]}
    return {**body, "usage": json_from(choices), "error": json_from(choices)}


@settings(max_examples=10_000, deadline=None)
@given(data=st.binary(max_size=60), status=st.integers(300, 599))
def test_any_json_is_a_reply_or_a_provider_error(data: bytes, status: int) -> None:
    body = body_from(data)
    chat = OpenAIChat(SERVICE, "sk-marked")
    try:
        # As it comes over the wire.
        reply = chat._read(chat._json(json.dumps(body)), 0.1)
    except ProviderError as error:
        str(error).encode("utf-8")
    else:
        reply.text.encode("utf-8")
        counts = reply.tokens
        assert 0 <= counts.cached <= counts.prompt <= 10**9
        assert 0 <= counts.reasoning <= counts.completion <= 2 * 10**9
    for model in read_models(body) or []:
        model.title.encode("utf-8")
        assert model.id
    error = from_status(chat._endpoint, status, body, {})
    assert isinstance(error, ProviderError)
    str(error).encode("utf-8")


@settings(max_examples=3_000, deadline=None)
@given(data=st.binary(max_size=60), status=st.sampled_from([200, 400, 429, 500, None]))
def test_any_line_of_a_batch_is_a_reply_or_an_error_of_its_request(
    data: bytes, status: int | None
) -> None:
    batches = OpenAIBatches(SERVICE, None, default_address="")
    body = body_from(data)
    response = {"status_code": status, "body": body} if len(data) % 4 else body
    line = json.dumps({"custom_id": "k", "response": response, "error": body})
    result = batches._result(line.encode(), {"temperature": 0})
    assert result is not None
    key, outcome = result
    assert key == "k"
    assert isinstance(outcome, Reply | RequestRejectedError | TransientProviderError)
    batches._problem_of({"errors": {"data": body}}).encode("utf-8")
    batches._result(json.dumps(body).encode(), {})


@settings(max_examples=500, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    chat = OpenAIChat(SERVICE, None)
    with contextlib.suppress(ProviderError):
        chat._json(text)


@settings(max_examples=500, deadline=None)
@given(text=st.text("0123456789.msh-+eEina ٣", max_size=12))
def test_any_header_is_a_number_that_makes_sense_or_none(text: str) -> None:
    names = [
        f"x-ratelimit-{part}-{kind}"
        for part in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ]
    limits = read_limits(dict.fromkeys(names, text))
    values = [] if limits is None else [value for value in astuple(limits) if value is not None]
    assert all(math.isfinite(value) and value >= 0 for value in values)
