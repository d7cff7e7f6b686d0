"""Turns Google's error bodies, and what the google-genai SDK raises, into the common sentences."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llamaduo_gui.core.errors import FatalProviderError, ProviderError, RequestRejectedError
from llamaduo_gui.providers.base import RateLimitedError, RateLimits
from llamaduo_gui.providers.endpoint import Endpoint, Problem, is_no_connection, is_web_page
from llamaduo_gui.providers.retry_after import retry_after_s

# Source: google/rpc/code.proto, "HTTP Mapping"; results of a batch carry these codes.
HTTP_OF_RPC = {
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}
CANCELLED = 499
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_BAD_KEY = re.compile(r"api key (expired|not valid|not found)|unregistered callers")
_SPENT = re.compile(r"credits? (are|is|have been) (depleted|exhausted)|spend(ing)? (cap|limit)")
_NO_PLACE = re.compile(r"location is not supported|not available in your (country|region)")
_TOO_LARGE = re.compile(r"payload size exceeds|exceeds the maximum number of tokens")
_PER_DAY = re.compile(r"per_?day", re.IGNORECASE)
_PER_MINUTE = re.compile(r"per_?minute", re.IGNORECASE)
_NO_QUOTA = re.compile(r"\blimit: 0\b")


def explain(endpoint: Endpoint, error: Exception, timeout_s: float) -> ProviderError:
    """The error for an exception of the SDK, of the HTTP client below it, or for bad JSON."""
    import httpx2
    from google.genai.errors import APIError

    if isinstance(error, APIError):
        headers = getattr(error.response, "headers", None) or {}
        named = {str(name).lower(): str(value) for name, value in headers.items()}
        return from_status(endpoint, error.code or 500, error.details, named)
    is_timeout = isinstance(error, TimeoutError | httpx2.TimeoutException)
    if is_timeout and not is_no_connection(error):
        return endpoint.timed_out(timeout_s)
    if isinstance(error, httpx2.HTTPError):
        return endpoint.no_connection(error)
    if isinstance(error, json.JSONDecodeError) and is_web_page(error.doc):
        return web_page(endpoint)
    if isinstance(error, ValueError):
        return endpoint.unreadable("it is not valid JSON")
    return endpoint.unreadable("it has not the form of an answer")


def web_page(endpoint: Endpoint) -> ProviderError:
    """A web page where an answer should be, before any answer ever came."""
    return FatalProviderError(
        f"{endpoint.name}: {endpoint.address} answers with a web page and not as the Gemini API; "
        "remove base_url or correct it."
    )


def from_status(
    endpoint: Endpoint, status: int, body: object, headers: Mapping[str, str]
) -> ProviderError:
    """The error for a status that is not a success.

    Args:
        endpoint: who is spoken to.
        status: of HTTP, or a `google.rpc.Code` as results of a batch carry it.
        body: `{"error": {"code", "message", "status", "details"}}` or its inner part.
        headers: names in lower case.
    """
    status = HTTP_OF_RPC.get(status, status)
    problem = read_problem(body)
    said = endpoint.said(problem.message)
    if _SPENT.search(problem.text):
        return endpoint.no_credit(status, said)
    if status == 429:
        return _out_of_quota(endpoint, problem, _details(body), headers)
    if status == CANCELLED:
        return endpoint.passing_fault(status, said)
    if status in (400, 401, 403) and _BAD_KEY.search(problem.text):
        return endpoint.no_access(status)
    if status in (400, 413) and _TOO_LARGE.search(problem.text):
        return endpoint.too_long(status, said)
    return _unusable(endpoint, status, problem, said) or endpoint.from_status(
        status, problem, headers
    )


def _unusable(endpoint: Endpoint, status: int, problem: Problem, said: str) -> ProviderError | None:
    """What is wrong with the account, the place or the address, None if it is something else."""
    if status == 400 and "billing" in problem.text:
        return FatalProviderError(
            f"{endpoint.name} wants billing enabled for the key's project ({status}{said}); "
            "enable it in Google AI Studio and resume."
        )
    if status == 400 and _NO_PLACE.search(problem.text):
        return FatalProviderError(
            f"{endpoint.name} is not offered where you are ({status}{said}); choose another "
            "provider."
        )
    if status == 404 and "model" not in problem.text:
        return FatalProviderError(
            f"{endpoint.name}: nothing at {endpoint.address} answers as the Gemini API "
            f"({status}{said}); remove base_url or correct it."
        )
    return None


def for_one_of_many(error: ProviderError) -> ProviderError:
    """The error of one result in a batch: what is fatal for it need not be for the others."""
    return RequestRejectedError(str(error)) if isinstance(error, FatalProviderError) else error


def read_problem(body: object) -> Problem:
    """Message and reason of an error body; the reason is the machine-readable one if there is."""
    inner = _inner(body)
    message = str(inner.get("message") or "")
    reasons = [str(detail.get("reason") or "") for detail in _details(body)]
    code = next(filter(None, reasons), "") or str(inner.get("status") or "")
    return Problem("" if message.lstrip().startswith("<") else message, code)


def _inner(body: object) -> Mapping[str, Any]:
    if isinstance(body, list) and body:
        return _inner(body[0])
    if not isinstance(body, Mapping):
        return {}
    error = body.get("error")
    return error if isinstance(error, Mapping) else body


def _details(body: object) -> list[Mapping[str, Any]]:
    details = _inner(body).get("details")
    items = details if isinstance(details, list) else []
    return [detail for detail in items if isinstance(detail, Mapping)]


def _out_of_quota(
    endpoint: Endpoint,
    problem: Problem,
    details: Sequence[Mapping[str, Any]],
    headers: Mapping[str, str],
) -> ProviderError:
    """429: the quotas of a minute pass, those of a day and a plan's zero do not."""
    quotas = list(_quotas(details))
    if any(value == 0 for _, value in quotas) or _NO_QUOTA.search(problem.text):
        return FatalProviderError(
            f"{endpoint.name} is not part of the key's plan (429: its quota is 0); choose another "
            "model, or a higher tier in Google AI Studio."
        )
    daily = [(name, value) for name, value in quotas if _PER_DAY.search(name)]
    if daily:
        name, value = daily[0]
        amount = f" of {value:,.0f} {_unit(name)}" if value else ""
        return FatalProviderError(
            f"{endpoint.name} has used up its quota{amount} for today (429); it is renewed at "
            "midnight Pacific time: resume then, or choose a higher tier in Google AI Studio."
        )
    lowest = {unit: _lowest_of_minute(quotas, unit) for unit in ("requests", "tokens")}
    said = [f"{value:,.0f} {unit} a minute" for unit, value in lowest.items() if value]
    detail = f": {' and '.join(said)}" if said else endpoint.said(problem.message)
    return RateLimitedError(
        f"{endpoint.name} asks for fewer requests (429{detail}).",
        retry_after_s=_retry_delay_s(details, headers),
        limits=RateLimits(rpm=lowest["requests"], tpm=lowest["tokens"]) if said else None,
    )


def _quotas(details: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float | None]]:
    """Name and limit of each quota that a `google.rpc.QuotaFailure` blames."""
    for detail in details:
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, Mapping):
                name = f"{violation.get('quotaId') or ''} {violation.get('quotaMetric') or ''}"
                yield name, _number(violation.get("quotaValue"))


def _unit(quota: str) -> str:
    return "tokens" if "token" in quota.lower() else "requests"


def _lowest_of_minute(quotas: Sequence[tuple[str, float | None]], unit: str) -> float | None:
    values = [
        value
        for name, value in quotas
        if value and _PER_MINUTE.search(name) and _unit(name) == unit
    ]
    return min(values, default=None)


def _retry_delay_s(
    details: Sequence[Mapping[str, Any]], headers: Mapping[str, str]
) -> float | None:
    """Seconds to wait: `retryDelay` of a `google.rpc.RetryInfo` ("34.1s"), else `Retry-After`."""
    delays = [_DURATION.fullmatch(str(detail.get("retryDelay") or "")) for detail in details]
    found = next(filter(None, delays), None)
    return float(found.group(1)) if found else retry_after_s(headers)


def _number(value: object) -> float | None:
    """A number; whole numbers of 64 bits are strings in Google's JSON."""
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
