"""Turns what the anthropic SDK raises, and Anthropic's error bodies, into the common sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from llamaduo_gui.core.errors import FatalProviderError, ProviderError
from llamaduo_gui.providers.anthropic_limits import read_limits
from llamaduo_gui.providers.endpoint import Endpoint, Problem, is_no_connection

# Errors inside streams and batches come without a status; this is the one each type goes with
# elsewhere (platform.claude.com/docs/en/api/errors).
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_SPENT = re.compile(r"spend_limit_reached|usage limits?\b|spend(ing)? limit|regain access")
_DISABLED = re.compile(r"organization_on_hold|organization has been disabled")
_MODEL = re.compile(r"\bmodel\b")
# All of Claude 1, 2 and 3 left service by 2026-04; the SDK's table has the dates of some.
_OLD_GENERATIONS = re.compile(r"claude-(instant|1|2|3)\b")


def read_problem(body: object) -> Problem:
    """Message and code of `{"type": "error", "error": {...}}`, also where one more is around it."""
    found = body
    while isinstance(found, Mapping) and isinstance(found.get("error"), Mapping):
        found = found["error"]
    if not isinstance(found, Mapping):
        text = found if isinstance(found, str) else ""
        return Problem("" if text.lstrip().startswith("<") else text)
    details = found.get("details")
    code = details.get("error_code") if isinstance(details, Mapping) else None
    return Problem(str(found.get("message") or ""), str(found.get("type") or ""), str(code or ""))


def explain(endpoint: Endpoint, error: Exception, timeout_s: float) -> ProviderError:
    """The error for an exception of the SDK or of the HTTP library below it, or a TimeoutError."""
    import anthropic
    import httpx2

    if isinstance(error, anthropic.APIStatusError):
        headers = {name.lower(): value for name, value in error.response.headers.items()}
        return from_status(endpoint, error.status_code, read_problem(error.body), headers)
    timeouts = (TimeoutError, anthropic.APITimeoutError, httpx2.TimeoutException)
    if isinstance(error, timeouts) and not is_no_connection(error):
        return endpoint.timed_out(timeout_s)
    return endpoint.no_connection(error)


def from_body(endpoint: Endpoint, body: object) -> ProviderError:
    """The error for an error body without a status, as streams and batches have them."""
    problem = read_problem(body)
    return from_status(endpoint, _STATUS.get(problem.code, 500), problem, {})


def from_status(
    endpoint: Endpoint, status: int, problem: Problem, headers: Mapping[str, str]
) -> ProviderError:
    """The error for an HTTP status that is not a success; header names in lower case."""
    said = endpoint.said(problem.message)
    # A spending limit is told apart from a rate limit by having no end to wait for.
    is_spent = status == 400 or (status == 429 and "retry-after" not in headers)
    if is_spent and _SPENT.search(problem.text):
        return FatalProviderError(
            f"{endpoint.name} has reached the account's spending limit ({status}{said}); raise it "
            "in Anthropic's console, or resume when it is renewed."
        )
    if status in (400, 401, 403) and _DISABLED.search(problem.text):
        return endpoint.forbidden(status, said)
    if 300 <= status < 400:
        return FatalProviderError(
            f"{endpoint.name}: {endpoint.address} sends elsewhere ({status}), where the key does "
            "not go; correct base_url or remove it."
        )
    if status == 404:
        return _not_found(endpoint, problem, said)
    if status == 413:
        return endpoint.too_long(status, said)
    return endpoint.from_status(status, problem, headers, read_limits(headers))


def _not_found(endpoint: Endpoint, problem: Problem, said: str) -> ProviderError:
    if _MODEL.search(problem.text):
        return no_model(endpoint, said)
    return FatalProviderError(
        f"{endpoint.name}: there is no Messages API at {endpoint.address} (404{said}); "
        "correct base_url or remove it."
    )


def no_model(endpoint: Endpoint, said: str = "") -> ProviderError:
    """The error for a 404 that means the model: one that left service is named as such."""
    left = left_service_on(endpoint.model)
    return endpoint.no_model(404, said) if left is None else endpoint.left_service(404, left)


def left_service_on(model: str) -> str | None:
    """A clause on when a model left service, "" if only that it did, None if it is not known to."""
    from anthropic.resources.messages import DEPRECATED_MODELS

    announced = DEPRECATED_MODELS.get(model, "")
    if announced and _date(announced) <= datetime.now(UTC):
        return f", announced for {announced}"
    return "" if _OLD_GENERATIONS.match(model) else None


def _date(text: str) -> datetime:
    """The date in `January 5th, 2026`; the end of time for anything else."""
    try:
        plain = re.sub(r"(?<=\d)(st|nd|rd|th)", "", text)
        return datetime.strptime(plain, "%B %d, %Y").replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
