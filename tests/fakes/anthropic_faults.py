"""What can go wrong at the fake Anthropic, and the errors Anthropic answers with then."""

from __future__ import annotations

from typing import Any, Literal

from tests.fakes.http_server import Response

Fault = Literal[
    "rate_limit",
    "server_error",
    "overloaded",
    "timeout",
    "drop",
    "truncated",
    "malformed_json",
    "malformed_content",
    "out_of_range",
    "refusal",
    "length",
    "context_full",
    "pause_turn",
    "web_page",
    "no_content",
    "no_usage",
    "error_in_200",
    "stream_error",
    "stream_stops",
    "content_filter",
    "context_length",
    "too_large",
    "no_credit",
    "billing",
    "own_spend_limit",
    "tier_spend_limit",
    "forbidden",
    "disabled",
    "bad_request",
    "lone_surrogate",
    "hang",
]

# Status, type, message and code of each.
FAILURES: dict[Fault, tuple[int, str, str, str]] = {
    "server_error": (500, "api_error", "Internal server error", ""),
    "overloaded": (529, "overloaded_error", "Overloaded", ""),
    "timeout": (504, "timeout_error", "Request timeout", ""),
    "content_filter": (
        400,
        "invalid_request_error",
        "Output blocked by content filtering policy",
        "",
    ),
    "context_length": (
        400,
        "invalid_request_error",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "",
    ),
    "too_large": (413, "request_too_large", "Request exceeds the maximum size", ""),
    "no_credit": (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
        "",
    ),
    "billing": (402, "billing_error", "Your payment could not be taken", ""),
    "own_spend_limit": (
        400,
        "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
        "",
    ),
    "tier_spend_limit": (
        429,
        "rate_limit_error",
        "This organization has reached its monthly usage threshold",
        "enforced_spend_limit_reached",
    ),
    "forbidden": (403, "permission_error", "Your API key may not use this resource", ""),
    "disabled": (400, "invalid_request_error", "This organization has been disabled.", ""),
    "bad_request": (400, "invalid_request_error", "Something about the request is wrong", ""),
}


def failure_of(fault: Fault | None) -> Response | None:
    """The error response of a fault, None if it has none."""
    if fault == "web_page":
        return Response(200, b"<!doctype html><p>Sign in", "text/html")
    if fault == "no_content":
        return Response.of_json({"type": "message", "content": None})
    if fault == "error_in_200":
        response = problem(529, "overloaded_error", "Overloaded")
        response.status = 200
        return response
    return problem(*FAILURES[fault]) if fault in FAILURES else None


def problem(status: int, kind: str, message: str, code: str = "") -> Response:
    """An error as Anthropic words them."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if code:
        error["details"] = {"error_code": code}
    body = {"type": "error", "error": error, "request_id": "req_fake"}
    return Response.of_json(body, status)
