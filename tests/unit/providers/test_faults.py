"""Tests of when the engine waits and when it stops."""

from __future__ import annotations

import pytest

from llamaduo_gui.core.errors import FatalProviderError, RequestRejectedError
from llamaduo_gui.providers.base import RateLimitedError, UnreachableError
from llamaduo_gui.providers.faults import (
    HOPELESS_FAILURES,
    HOPELESS_REJECTIONS,
    LONGEST_BACKOFF_S,
    FaultPolicy,
    backoff_s,
)

DOWN = UnreachableError("it cannot be reached")
REJECTED = RequestRejectedError("it was turned down")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def patience_s(policy: FaultPolicy, clock: Clock) -> float:
    """Seconds until the policy stops trying to reach a server that is down."""
    started = clock.now
    while clock.now < started + 1000:
        try:
            clock.now += policy.unreachable(DOWN, clock.now)
        except FatalProviderError:
            return clock.now - started
    pytest.fail("it never stops")


def test_backoff_doubles_up_to_a_limit_and_is_jittered() -> None:
    waits = [backoff_s(faults) for faults in range(1, 12)]
    for faults, wait in enumerate(waits, start=1):
        longest = min(LONGEST_BACKOFF_S, 0.5 * 2 ** (faults - 1))
        assert longest / 2 <= wait <= longest
    assert len({backoff_s(3) for _ in range(5)}) > 1


def test_the_sentence_is_that_of_the_last_try() -> None:
    clock = Clock()
    policy = FaultPolicy(clock)
    policy.unreachable(DOWN, clock.now)
    policy.unreachable(DOWN, clock.now)
    clock.now += 20
    with pytest.raises(FatalProviderError, match=str(DOWN)):
        policy.unreachable(DOWN, clock.now)


def test_a_server_never_reached_is_given_ten_seconds() -> None:
    clock = Clock()
    assert 10 <= patience_s(FaultPolicy(clock), clock) <= 15


def test_a_server_that_answered_before_is_given_a_minute() -> None:
    clock = Clock()
    policy = FaultPolicy(clock)
    policy.answered()
    assert 60 <= patience_s(policy, clock) <= 65


def test_contact_starts_the_count_anew() -> None:
    clock = Clock()
    policy = FaultPolicy(clock)
    policy.unreachable(DOWN, clock.now)
    clock.now += 9
    policy.answered()
    clock.now += 50
    assert policy.unreachable(DOWN, clock.now) == pytest.approx(0.5)


def test_a_wait_of_hours_stops_the_run() -> None:
    policy = FaultPolicy(Clock())
    policy.rate_limited(RateLimitedError("slower", retry_after_s=60))
    with pytest.raises(FatalProviderError, match="slower"):
        policy.rate_limited(RateLimitedError("slower", retry_after_s=3600))


def test_a_quarter_of_an_hour_of_nothing_but_429s_stops_the_run() -> None:
    clock = Clock()
    policy = FaultPolicy(clock)
    policy.rate_limited(RateLimitedError("slower"))
    clock.now = 14 * 60
    policy.rate_limited(RateLimitedError("slower"))
    clock.now = 16 * 60
    with pytest.raises(FatalProviderError, match="slower"):
        policy.rate_limited(RateLimitedError("slower"))


def test_when_nothing_but_rejections_comes_the_run_stops() -> None:
    policy = FaultPolicy()
    for _ in range(HOPELESS_REJECTIONS - 1):
        policy.rejected(REJECTED)
    with pytest.raises(FatalProviderError, match="turned down"):
        policy.rejected(REJECTED)


@pytest.mark.parametrize("how", ["answered", "answered_before"])
def test_rejections_beside_replies_never_stop_the_run(how: str) -> None:
    policy = FaultPolicy()
    getattr(policy, how)()
    for _ in range(2 * HOPELESS_REJECTIONS):
        policy.rejected(REJECTED)


def test_failures_stop_the_run_only_in_a_row() -> None:
    policy = FaultPolicy()
    for _ in range(HOPELESS_FAILURES - 1):
        policy.given_up(REJECTED)
    policy.answered()
    for _ in range(HOPELESS_FAILURES - 1):
        policy.given_up(REJECTED)
    with pytest.raises(FatalProviderError):
        policy.given_up(REJECTED)
