"""Tests of Anthropic's wire format: what models take by name, odd messages, limits, old dates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llamaduo_gui.core.errors import FatalProviderError, ProviderError, RequestRejectedError
from llamaduo_gui.providers.anthropic_errors import (
    from_body,
    from_status,
    left_service_on,
    read_problem,
)
from llamaduo_gui.providers.anthropic_limits import read_limits
from llamaduo_gui.providers.anthropic_wire import Style, read_message, read_object
from llamaduo_gui.providers.base import RateLimitedError
from llamaduo_gui.providers.endpoint import Endpoint, Problem

ENDPOINT = Endpoint("anthropic", "claude-fake", "https://api.anthropic.com", "sk-ant-key")


@pytest.mark.parametrize(
    ("model", "mode"),
    [
        ("claude-instant-1.2", "tool"),
        ("claude-2.1", "tool"),
        ("claude-3-5-sonnet-20241022", "tool"),
        ("claude-sonnet-4-0", "tool"),
        ("claude-opus-4-20250514", "tool"),
        ("claude-opus-4-1-20250805", "json_schema"),
        ("claude-sonnet-4-5-20250929", "json_schema"),
        ("claude-opus-5-5", "json_schema"),
        ("something-new", "json_schema"),
    ],
)
def test_the_form_of_the_first_request_fits_what_is_known_of_the_model(
    model: str, mode: str
) -> None:
    assert Style.of_model(model).mode == mode


@pytest.mark.parametrize(
    ("problem", "sent", "is_adapted", "mode", "sends_temperature"),
    [
        ("'x' does not support output format.", {"output_config": 1}, True, "tool", True),
        ("output_config: extra inputs are not permitted", None, True, "tool", True),
        ('tool_choice: type "tool" and "any" are not supported', {"tools": 1}, True, "plain", True),
        ("`temperature` is deprecated for this model.", {"temperature": 1}, True, None, False),
        ("anthropic-version: not valid", {"temperature": 1}, True, None, False),
        ("`temperature` is deprecated for this model.", {}, False, None, True),
        ("output_config: extra inputs are not permitted", {"tools": 1}, False, None, True),
        ("prompt is too long: 3 tokens > 2 maximum", None, False, None, True),
    ],
)
def test_only_what_was_sent_and_refused_is_left_out(
    problem: str,
    sent: dict[str, Any] | None,
    is_adapted: bool,
    mode: str | None,
    sends_temperature: bool,
) -> None:
    style = Style("json_schema", sends_temperature=True)
    assert style.adapt(problem, sent) is is_adapted
    assert style.mode == (mode or "json_schema")
    assert style.sends_temperature is sends_temperature


def test_complaints_of_requests_under_way_together_step_down_once() -> None:
    style = Style("json_schema", sends_temperature=True)
    for _ in range(3):
        assert style.adapt("output_config: not supported", {"output_config": 1})
    assert style.mode == "tool"


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        ({"content": [{"type": "text", "text": "hi"}]}, "hi", "stop"),
        ({"content": [], "stop_reason": "end_turn"}, "", "stop"),
        ({"content": [{"type": "text", "text": 3}, None]}, "", "stop"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab", "stop"),
        ({"content": [], "stop_reason": "stop_sequence"}, "", "stop"),
        ({"content": [], "stop_reason": "brand_new"}, "", "other"),
        ({"content": [], "stop_reason": "refusal", "stop_details": None}, "", "refusal"),
        (
            {"content": [{"type": "redacted_thinking"}, {"type": "text", "text": "x"}]},
            "x",
            "stop",
        ),
    ],
)
def test_the_variants_of_a_message_are_read(body: dict[str, Any], text: str, reason: str) -> None:
    reply = read_message(body)
    assert reply is not None
    assert (reply.text, reply.finish_reason) == (text, reason)


@pytest.mark.parametrize("content", [None, "hi", {"type": "text"}])
def test_a_body_without_content_blocks_is_no_message(content: Any) -> None:
    assert read_message({"content": content}) is None


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {"input_tokens": None, "output_tokens": "7"},
        {"input_tokens": -1, "output_tokens": 10**12},
        {"output_tokens_details": {"thinking_tokens": None}},
    ],
)
def test_missing_or_odd_usage_counts_as_nothing(usage: Any) -> None:
    reply = read_message({"content": [], "usage": usage})
    assert reply is not None
    assert (reply.prompt_tokens, reply.completion_tokens, reply.reasoning_tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "not valid JSON"), ("[" * 100_000, "not valid JSON"), ("[]", "not a JSON object")],
)
def test_a_text_that_is_no_object_is_told(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_object(text)


def test_limits_are_read_against_the_servers_clock() -> None:
    limits = read_limits(
        {
            "date": "Sun, 22 Nov 2026 10:00:00 GMT",
            "anthropic-ratelimit-requests-limit": "1000",
            "anthropic-ratelimit-requests-remaining": "999",
            "anthropic-ratelimit-requests-reset": "2026-11-22T10:00:01Z",
            "anthropic-ratelimit-tokens-limit": "96000",
            "anthropic-ratelimit-tokens-remaining": "0",
            "anthropic-ratelimit-tokens-reset": "2026-11-22T10:00:30.5Z",
        }
    )
    assert limits is not None
    assert (limits.rpm, limits.requests_left, limits.requests_reset_s) == (1000, 999, 1)
    assert (limits.tpm, limits.tokens_left, limits.tokens_reset_s) == (96000, 0, 30.5)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"anthropic-ratelimit-requests-limit": "many"},
        {"anthropic-ratelimit-requests-limit": "nan"},
        {"anthropic-ratelimit-tokens-reset": "soon"},
    ],
)
def test_headers_that_tell_nothing_are_no_limits(headers: dict[str, str]) -> None:
    assert read_limits(headers, datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_a_reset_in_the_past_is_now() -> None:
    headers = {"anthropic-ratelimit-tokens-reset": "2025-12-31T23:59:00Z"}
    limits = read_limits(headers, datetime(2026, 1, 1, tzinfo=UTC))
    assert limits is not None
    assert limits.tokens_reset_s == 0


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"type": "error", "error": {"type": "t", "message": "m"}}, Problem("m", "t")),
        ({"error": {"error": {"type": "t", "message": "m"}}}, Problem("m", "t")),
        (
            {"error": {"type": "t", "message": None, "details": {"error_code": "c"}}},
            Problem("", "t", "c"),
        ),
        ({"error": "flat"}, Problem()),
        ("words", Problem("words")),
        ("<html>", Problem()),
        (None, Problem()),
    ],
)
def test_error_bodies_are_read_in_every_shape(body: Any, problem: Problem) -> None:
    assert read_problem(body) == problem


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("invalid_request_error", RequestRejectedError),
        ("authentication_error", FatalProviderError),
        ("rate_limit_error", RateLimitedError),
        ("not_found_error", FatalProviderError),
    ],
)
def test_errors_without_a_status_are_told_by_their_type(
    kind: str, expected: type[ProviderError]
) -> None:
    error = from_body(ENDPOINT, {"type": "error", "error": {"type": kind, "message": "m"}})
    assert type(error) is expected


def test_a_rate_limit_is_not_taken_for_a_spending_limit() -> None:
    problem = Problem("You are over your usage limit", "rate_limit_error")
    assert type(from_status(ENDPOINT, 429, problem, {"retry-after": "3"})) is RateLimitedError
    assert type(from_status(ENDPOINT, 429, problem, {})) is FatalProviderError


def test_a_server_that_echoes_the_key_is_not_quoted_with_it() -> None:
    error = from_body(ENDPOINT, {"error": {"type": "api_error", "message": "bad sk-ant-key!"}})
    assert "sk-ant-key" not in str(error)


def test_models_of_old_generations_are_known_to_have_left() -> None:
    assert left_service_on("claude-2.1") == ", announced for July 21st, 2025"
    assert left_service_on("claude-3-5-sonnet-20240620") == ""
    assert left_service_on("claude-sonnet-5") is None
