"""Reads the rate limits that Anthropic tells in the headers of every answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from llamaduo_gui.providers.base import RateLimits

_PREFIX = "anthropic-ratelimit"


def read_limits(headers: Mapping[str, str], now: datetime | None = None) -> RateLimits | None:
    """The limits in `anthropic-ratelimit-*` headers (names in lower case), None if none are there.

    `tokens` are those of the limit that is nearest to being reached. Resets are points in time by
    the server's clock, so they are taken against its `Date`.

    Source: platform.claude.com/docs/en/api/rate-limits, section "Response headers".
    """
    at = moment(headers.get("date")) or now or datetime.now(UTC)
    limits = RateLimits(
        rpm=_number(headers, "requests-limit") or None,
        tpm=_number(headers, "tokens-limit") or None,
        requests_left=_whole(headers, "requests-remaining"),
        tokens_left=_whole(headers, "tokens-remaining"),
        requests_reset_s=_seconds_to(headers.get(f"{_PREFIX}-requests-reset"), at),
        tokens_reset_s=_seconds_to(headers.get(f"{_PREFIX}-tokens-reset"), at),
    )
    return None if all(value is None for value in astuple(limits)) else limits


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        number = float(headers.get(f"{_PREFIX}-{name}", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _whole(headers: Mapping[str, str], name: str) -> int | None:
    number = _number(headers, name)
    return None if number is None else int(number)


def _seconds_to(text: str | None, at: datetime) -> float | None:
    when = moment(text)
    return None if when is None else max(0.0, (when - at).total_seconds())


def moment(text: str | None) -> datetime | None:
    """A time in RFC 3339, or in the form of HTTP's `Date`; None if it is neither."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        try:
            when = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError):
            return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
