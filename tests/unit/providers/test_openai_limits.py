"""Tests of reading rate limits from response headers."""

from __future__ import annotations

import pytest

from llamaduo_gui.providers.base import RateLimits
from llamaduo_gui.providers.openai_limits import duration_s, read_limits


def headers_of(kind: str, limit: str, left: str, reset: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{kind}": limit,
        f"x-ratelimit-remaining-{kind}": left,
        f"x-ratelimit-reset-{kind}": reset,
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1s", 1.0),
        ("1h2m3.5s", 3723.5),
        ("7.66s", 7.66),
        ("2", 2.0),
        (" 3s ", 3.0),
        ("", None),
        ("soon", None),
        ("1s later", None),
        ("-1", None),
        ("nan", None),
        ("1763900000", None),
        ("9" * 400 + "d", None),
        (None, None),
    ],
)
def test_durations_are_read_in_every_form(text: str | None, seconds: float | None) -> None:
    assert duration_s(text) == pytest.approx(seconds) if seconds else duration_s(text) is None


def test_limits_of_a_minute_are_read_whole() -> None:
    headers = headers_of("requests", "5000", "4999", "12ms")
    headers |= headers_of("tokens", "800000", "799000", "75ms")
    assert read_limits(headers) == RateLimits(
        rpm=5000,
        tpm=800_000,
        requests_left=4999,
        tokens_left=799_000,
        requests_reset_s=pytest.approx(0.012),
        tokens_reset_s=pytest.approx(0.075),
    )


@pytest.mark.parametrize(
    ("limit", "left", "reset"),
    [("200", "199", "7m12s"), ("10000", "9999", "8.64s"), ("1000", "0", "3h")],
)
def test_a_limit_of_a_day_is_not_taken_for_one_of_a_minute(
    limit: str, left: str, reset: str
) -> None:
    limits = read_limits(headers_of("requests", limit, left, reset))
    assert limits is not None
    assert limits.rpm is None
    assert limits.requests_left == int(left)


def test_an_answer_that_says_nothing_or_nonsense_of_limits_has_none() -> None:
    assert read_limits({}) is None
    assert read_limits(headers_of("requests", "many", "-3", "later")) is None
