"""Tests of the rate limiter, on a clock that only moves when somebody sleeps."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaduo_gui.providers import limiter as limiter_module
from llamaduo_gui.providers.limiter import CATCH_UP_S, HEADROOM, RateLimiter


class FakeClock:
    """Seconds that pass only in `sleep`, which oversleeps by up to `late_s`."""

    def __init__(self, late_s: float = 0.0, seed: int = 0) -> None:
        self.now = 1000.0
        self._late_s = late_s
        self._random = random.Random(seed)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self._random.uniform(0, self._late_s)


def send(limiter: RateLimiter, clock: FakeClock, count: int, tokens: int = 1) -> list[float]:
    """Times at which `count` requests in a row may leave."""

    async def all_of_them() -> list[float]:
        times = []
        for _ in range(count):
            await limiter.acquire(tokens)
            times.append(clock.now)
        return times

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limiter_module.asyncio, "sleep", clock.sleep)
        return asyncio.run(all_of_them())


@settings(max_examples=15)
@given(
    rpm=st.integers(10, 1500),
    late_s=st.floats(0, 0.02),
    seed=st.integers(0, 100),
)
def test_no_minute_holds_more_than_the_limit_and_little_less(
    rpm: int, late_s: float, seed: int
) -> None:
    clock = FakeClock(late_s, seed)
    times = send(RateLimiter(rpm, clock=clock), clock, 2 * rpm)
    span = times[-1] - times[0]
    rate = (len(times) - 1) / span * 60
    assert rate <= rpm
    assert rate >= 0.97 * rpm
    within_a_minute = max(
        sum(1 for at in times[start:] if at - times[start] < 60) for start in range(0, rpm, 7)
    )
    assert within_a_minute <= rpm + 1


def test_requests_leave_at_even_distances() -> None:
    clock = FakeClock()
    times = send(RateLimiter(60, clock=clock), clock, 10)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # The first request may use what an idle limiter would otherwise have to make up for.
    assert gaps[0] == pytest.approx(1 / HEADROOM - CATCH_UP_S, abs=1e-6)
    assert gaps[1:] == pytest.approx([1 / HEADROOM] * 8)


def test_without_a_limit_nothing_waits() -> None:
    clock = FakeClock()
    times = send(RateLimiter(None, clock=clock), clock, 100)
    assert times[-1] == times[0]


def test_tokens_are_paced_too_and_corrected_by_what_replies_took() -> None:
    clock = FakeClock()
    limiter = RateLimiter(None, 60_000, clock=clock)
    times = send(limiter, clock, 61, tokens=1000)
    assert times[-1] - times[0] == pytest.approx(60 / HEADROOM, rel=0.01)
    waiting_s = limiter.delay_s()
    limiter.settle(1000, 2000)
    assert limiter.delay_s() == pytest.approx(waiting_s + 1 / HEADROOM)


def test_a_429_pauses_everybody_and_lowers_the_rate_once() -> None:
    clock = FakeClock()
    limiter = RateLimiter(600, clock=clock)
    send(limiter, clock, 5)
    before = limiter.rpm
    assert before is not None
    assert limiter.rate_limited(7.0) is True
    assert limiter.rate_limited(3.0) is False, "a 429 of a request already under way"
    assert limiter.rpm == pytest.approx(before * 0.7)
    started = clock.now
    times = send(limiter, clock, 3)
    assert times[0] - started == pytest.approx(7.0)
    assert times[2] - times[1] == pytest.approx(60 / (before * 0.7))


def test_nothing_is_made_up_for_after_a_pause() -> None:
    clock = FakeClock()
    limiter = RateLimiter(6000, clock=clock)
    send(limiter, clock, 5)
    limiter.rate_limited(5.0)
    times = send(limiter, clock, 20)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) > 0.009


def test_replies_win_the_rate_back_but_never_more() -> None:
    clock = FakeClock()
    limiter = RateLimiter(600, clock=clock)
    limiter.rate_limited(1.0)
    lowered = limiter.rpm
    for _ in range(int(lowered or 0)):
        limiter.succeeded()
    assert limiter.rpm == pytest.approx((lowered or 0) + 0.25 * 600 * HEADROOM, rel=0.3)
    for _ in range(5000):
        limiter.succeeded()
    assert limiter.rpm == 600 * HEADROOM


def test_without_a_limit_the_first_429_shows_one() -> None:
    clock = FakeClock()
    limiter = RateLimiter(None, clock=clock)
    for _ in range(100):
        send(limiter, clock, 1)
        clock.now += 0.1
    limiter.rate_limited(1.0)
    assert limiter.rpm == pytest.approx(0.7 * 600, rel=0.05)


def test_without_retry_after_the_pause_doubles_until_a_reply_comes() -> None:
    clock = FakeClock()
    limiter = RateLimiter(600, clock=clock)
    pauses = []
    for _ in range(7):
        limiter.rate_limited(None)
        pauses.append(round(limiter.paused_for_s))
        clock.now += limiter.paused_for_s
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    limiter.succeeded()
    limiter.rate_limited(None)
    assert limiter.paused_for_s == pytest.approx(2)
