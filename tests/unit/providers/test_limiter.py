"""Tests of the rate limiter, on a clock that only moves when somebody sleeps."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaduo_gui.core.config import JudgeConfig, ServiceConfig
from llamaduo_gui.providers import limiter as limiter_module
from llamaduo_gui.providers.base import RateLimits
from llamaduo_gui.providers.limiter import RateLimiter
from llamaduo_gui.providers.limits import forget_limits, shared_limiter
from llamaduo_gui.providers.pace import CATCH_UP_S, HEADROOM


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
            limiter.release()
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


def service(**settings: Any) -> ServiceConfig:
    return ServiceConfig(provider="openai", model="m", **settings)


def test_without_a_limit_of_the_user_the_first_reply_sets_the_pace() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock=clock)
    limiter.succeeded(100, RateLimits(rpm=120, tpm=60_000, requests_left=119))
    assert limiter.rpm == pytest.approx(120 * HEADROOM)
    assert limiter.tpm == pytest.approx(60_000 * HEADROOM)
    assert limiter.token_limit == 60_000
    times = send(limiter, clock, 4)
    assert times[3] - times[2] == pytest.approx(0.5 / HEADROOM)


def test_a_service_that_allows_less_than_the_user_counts_and_one_that_allows_more_does_not() -> (
    None
):
    limiter = RateLimiter(600, 10_000, clock=FakeClock())
    limiter.succeeded(1, RateLimits(rpm=5000, tpm=4000))
    assert limiter.rpm == 600 * HEADROOM
    assert limiter.tpm == 4000 * HEADROOM
    limiter.succeeded(1, RateLimits(rpm=200, tpm=90_000))
    assert limiter.rpm == 200 * HEADROOM
    assert limiter.tpm == 10_000 * HEADROOM


@given(
    st.lists(
        st.one_of(
            st.builds(RateLimits, rpm=st.floats(1, 1e5), tpm=st.floats(1, 1e7)),
            st.just("429"),
            st.just("ok"),
        ),
        max_size=40,
    )
)
def test_nothing_a_service_says_takes_the_rate_above_the_users_own_limits(
    events: list[RateLimits | str],
) -> None:
    clock = FakeClock()
    limiter = RateLimiter(300, 5000, clock=clock)
    for event in events:
        clock.now += 1
        if isinstance(event, RateLimits):
            limiter.succeeded(50, event)
        elif event == "429":
            limiter.rate_limited(0.1)
        else:
            limiter.succeeded(50)
        assert limiter.rpm is not None
        assert limiter.tpm is not None
        assert 0 < limiter.rpm <= 300 * HEADROOM
        assert 0 < limiter.tpm <= 5000 * HEADROOM


def test_a_429_that_tells_the_limit_for_the_first_time_sets_the_pace_to_it() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock=clock)
    send(limiter, clock, 4)
    limiter.rate_limited(1.0, RateLimits(rpm=100))
    assert limiter.rpm == pytest.approx(100 * HEADROOM)
    clock.now += 5
    limiter.rate_limited(1.0, RateLimits(rpm=100))
    assert limiter.rpm == pytest.approx(100 * HEADROOM * 0.7), "the number was too high, then"


def test_a_limit_far_above_what_passes_is_not_taken_down_step_by_step() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock=clock)
    limiter.succeeded(1, RateLimits(rpm=14_400))
    for _ in range(30):
        send(limiter, clock, 1)
        clock.now += 1
    limiter.rate_limited(1.0)
    assert limiter.rpm == pytest.approx(0.7 * 60, rel=0.05)


def test_a_429_about_tokens_leaves_the_requests_alone() -> None:
    limiter = RateLimiter(600, 60_000, clock=FakeClock())
    limiter.rate_limited(1.0, RateLimits(requests_left=40, tokens_left=0))
    assert limiter.rpm == 600 * HEADROOM
    assert limiter.tpm == pytest.approx(60_000 * HEADROOM * 0.7)


def test_a_429_about_requests_leaves_the_tokens_alone() -> None:
    limiter = RateLimiter(600, 60_000, clock=FakeClock())
    limiter.rate_limited(1.0, RateLimits(requests_left=0, tokens_left=5000))
    assert limiter.rpm == pytest.approx(600 * HEADROOM * 0.7)
    assert limiter.tpm == 60_000 * HEADROOM


def test_a_lowered_token_rate_is_won_back_by_the_tokens_of_replies() -> None:
    limiter = RateLimiter(None, 60_000, clock=FakeClock())
    limiter.rate_limited(1.0, RateLimits(tokens_left=0))
    for _ in range(200):
        limiter.succeeded(1000)
    assert limiter.tpm == 60_000 * HEADROOM


def test_a_booking_far_too_large_does_not_hold_up_what_follows() -> None:
    clock = FakeClock()
    limiter = RateLimiter(None, 6000, clock=clock)
    send(limiter, clock, 1, tokens=4000)
    started = clock.now

    async def settle_later() -> None:
        waiting = asyncio.create_task(limiter.acquire(10))
        await asyncio.sleep(0)
        limiter.settle(4000, 100)
        await waiting

    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        await real_sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limiter_module.asyncio, "sleep", sleep)
        asyncio.run(settle_later())
    assert clock.now - started < 2.5, "and not the forty seconds booked"


def test_engines_that_wait_together_never_leave_together() -> None:
    clock = FakeClock()
    limiter = RateLimiter(600, clock=clock)
    real_sleep = asyncio.sleep
    times: list[tuple[float, str]] = []

    async def sleep(seconds: float) -> None:
        clock.now += seconds / 3 + 0.001  # three sleep at the same time
        await real_sleep(0)

    async def engine(name: str) -> None:
        for _ in range(10):
            await limiter.acquire(1)
            limiter.release()
            times.append((clock.now, name))

    async def all_of_them() -> None:
        await asyncio.gather(*(engine(name) for name in "abc"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limiter_module.asyncio, "sleep", sleep)
        asyncio.run(all_of_them())
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(sorted(times))]
    # The first four may use what an idle limiter has to make up for.
    assert min(gaps[4:]) > 0.09


def test_while_a_service_is_unknown_requests_under_way_begin_few() -> None:
    limiter = RateLimiter()
    with limiter.used_by(service(concurrency=64)):
        assert limiter.concurrency == 4
        for _ in range(6):
            limiter.succeeded()
        assert limiter.concurrency == 10
        limiter.succeeded(1, RateLimits(rpm=6000))
        assert limiter.concurrency == 64, "now they are paced"


def test_a_limit_of_the_user_needs_no_slow_beginning() -> None:
    limiter = RateLimiter()
    with limiter.used_by(service(concurrency=64, max_rpm=600)):
        assert limiter.concurrency == 64


def test_of_two_users_the_lower_ceilings_count_and_the_other_comes_back() -> None:
    limiter = RateLimiter()
    with limiter.used_by(service(concurrency=8, max_rpm=600)):
        with limiter.used_by(service(concurrency=2, max_rpm=900, max_tpm=5000)):
            assert (limiter.rpm, limiter.tpm) == (600 * HEADROOM, 5000 * HEADROOM)
            assert limiter.concurrency == 2
        assert (limiter.rpm, limiter.tpm, limiter.concurrency) == (600 * HEADROOM, None, 8)


def test_a_service_has_one_limiter_and_others_have_their_own() -> None:
    forget_limits()
    teacher = service(base_url="http://localhost:1/v1")
    judge = JudgeConfig(provider="openai", model="m", base_url="http://localhost:1/v1/", repeats=3)
    assert shared_limiter(teacher) is shared_limiter(judge)
    assert shared_limiter(teacher) is not shared_limiter(service())
    assert shared_limiter(teacher) is not shared_limiter(
        teacher.model_copy(update={"model": "other"})
    )


def test_a_429_among_the_first_requests_closes_the_window_and_guesses_no_rate() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock=clock)
    with limiter.used_by(service(concurrency=64)):
        send(limiter, clock, 3)
        limiter.rate_limited(1.0)
        assert limiter.rpm is None
        assert limiter.concurrency == 1
        clock.now += 2
        for _ in range(10):
            limiter.succeeded()
        assert limiter.concurrency == 4
