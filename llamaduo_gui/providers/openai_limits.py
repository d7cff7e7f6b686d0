"""Reads the rate limits that OpenAI and services like it tell in the headers of an answer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import astuple
from typing import NamedTuple

from llamaduo_gui.providers.base import RateLimits

# The same headers tell limits of a day on some accounts and services (OpenAI's smaller tiers,
# Groq): those come whole after far more than a minute.
_MINUTE_S, _DAY_S = 60.0, 86_400.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d)")
_UNIT_S = {
    "d": _DAY_S,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}


class _Window(NamedTuple):
    per_minute: float | None
    left: int | None
    reset_s: float | None


def read_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """The limits in `x-ratelimit-*` headers (names in lower case), None if there are none.

    Source: the OpenAI API's guide "Rate limits", section "Rate limits in headers".
    """
    requests = _window(headers, "requests")
    tokens = _window(headers, "tokens")
    limits = RateLimits(
        rpm=requests.per_minute,
        tpm=tokens.per_minute,
        requests_left=requests.left,
        tokens_left=tokens.left,
        requests_reset_s=requests.reset_s,
        tokens_reset_s=tokens.reset_s,
    )
    return None if all(value is None for value in astuple(limits)) else limits


def duration_s(text: str | None) -> float | None:
    """Seconds of a duration such as `6m0s`, `120ms`, `1h2m` or a plain `1.5`; None if not one."""
    if text is None:
        return None
    stripped = text.strip()
    if stripped and _DURATION.sub("", stripped) == "":
        parts = _DURATION.findall(stripped)
        number: float | None = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    else:
        number = _number(stripped)
    # Some servers give a point in time here: no wait is that long.
    return number if number is not None and number <= 7 * _DAY_S else None


def _window(headers: Mapping[str, str], kind: str) -> _Window:
    limit = _number(headers.get(f"x-ratelimit-limit-{kind}"))
    left = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
    reset_s = duration_s(headers.get(f"x-ratelimit-reset-{kind}"))
    per_minute = limit or None
    if limit and reset_s is not None:
        used = limit - (left if left is not None else limit)
        refill_s = reset_s * limit / used if used > 0 else 0.0
        if reset_s > _MINUTE_S or 0.9 * _DAY_S < refill_s < 1.1 * _DAY_S:
            per_minute = None
    return _Window(per_minute, None if left is None else int(left), reset_s)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
