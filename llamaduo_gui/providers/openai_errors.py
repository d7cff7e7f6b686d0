"""Turns whatever the openai SDK raises, and OpenAI's error bodies, into the common sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from llamaduo_gui.core.errors import ProviderError
from llamaduo_gui.providers.endpoint import Endpoint, Problem, is_no_connection
from llamaduo_gui.providers.openai_limits import read_limits

# Errors within errors, as relays send them.
DEEPEST = 8


def read_problem(body: object) -> Problem:
    """Find message and code in the shapes of error body that servers are known to send."""
    found = body
    for _ in range(DEEPEST):
        inner = _inside(found)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping):
        text = found if isinstance(found, str) else ""
        return Problem("" if text.lstrip().startswith("<") else text)
    message = found.get("message") or found.get("msg") or ""
    code = found.get("code") or found.get("type") or ""
    return Problem(str(message), str(code), str(found.get("param") or ""))


def _inside(body: object) -> object:
    """What an error body wraps, None if it is the innermost part."""
    if isinstance(body, list):
        return body[0] if body else None
    if isinstance(body, Mapping):
        for key in ("error", "detail"):
            if isinstance(body.get(key), str | Mapping | list) and body[key]:
                return cast("object", body[key])
    return None


def explain(endpoint: Endpoint, error: Exception, timeout_s: float) -> ProviderError:
    """The error for an exception of the SDK (or a TimeoutError, or a decoding error)."""
    import openai

    if isinstance(error, openai.APIStatusError):
        headers = {name.lower(): value for name, value in error.response.headers.items()}
        return from_status(endpoint, error.status_code, error.body, headers)
    is_timeout = isinstance(error, TimeoutError | openai.APITimeoutError)
    if is_timeout and not is_no_connection(error):
        return endpoint.timed_out(timeout_s)
    if isinstance(error, openai.APIConnectionError):
        return endpoint.no_connection(error)
    if isinstance(error, openai.APIError):
        return from_body(endpoint, error.body)
    return endpoint.unreadable(f"not valid JSON ({type(error).__name__})")


def from_status(
    endpoint: Endpoint, status: int, body: object, headers: Mapping[str, str]
) -> ProviderError:
    """The error for an HTTP status that is not a success; header names in lower case."""
    return endpoint.from_status(status, read_problem(body), headers, read_limits(headers))


def from_body(endpoint: Endpoint, body: object) -> ProviderError:
    """The error for an error that came with a good status; its code may be the status meant."""
    problem = read_problem(body)
    is_status = re.fullmatch(r"[45][0-9]{2}", problem.code)
    return endpoint.from_status(int(problem.code) if is_status else 500, problem, {})
