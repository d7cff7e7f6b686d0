"""Paces requests evenly under a rate limit, and slows down when the service says so."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.providers.base import RateLimits
from llamaduo_gui.providers.pace import Pace
from llamaduo_gui.providers.slots import Slots

FIRST_GUESS_S = 2.0
LONGEST_GUESS_S = 60.0
# A reply that took fewer tokens than booked lets the next one leave sooner than was thought.
LONGEST_NAP_S = 0.25
SHORTEST_NAP_S = 0.002


class RateLimiter:
    """One limiter for everything sent to one service and model, first attempts and retries alike.

    Requests leave at even distances of 60 / rpm seconds and, if there is a token limit, so that
    estimated tokens stay under it as well. The limits are the user's own, which are never
    exceeded, and those the service names in its answers. A 429 pauses everybody and lowers the
    rate; successes raise it again, slowly (additive increase, multiplicative decrease). Without
    any limit, requests under way begin few and grow with the replies.

    What the service says is *left* of a limit is used only to tell which limit a 429 is about:
    some count a minute's worth and some a second's, so that little may be left at a fine pace.

    Safe to use from several threads and event loops.

    Args:
        max_rpm: requests a minute, None for no limit until the service shows one.
        max_tpm: tokens a minute, prompt and reply together, None for no limit.
        clock: monotonic seconds; tests give their own.
    """

    def __init__(
        self,
        max_rpm: float | None = None,
        max_tpm: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._own = (max_rpm, max_tpm)
        self._requests = Pace(max_rpm)
        self._tokens = Pace(max_tpm)
        self._slots = Slots()
        self._open_if_paced()
        self._turns: deque[object] = deque()
        self._users: list[ServiceConfig] = []
        self._paused_until = -1e18
        self._guess_s = FIRST_GUESS_S / 2

    @property
    def rpm(self) -> float | None:
        """Requests a minute aimed at now, None while there is no limit."""
        return self._requests.rate

    @property
    def tpm(self) -> float | None:
        """Tokens a minute aimed at now, None while there is no limit."""
        return self._tokens.rate

    @property
    def token_limit(self) -> float | None:
        """Tokens a minute the user or the service allows, None while nobody named a number."""
        return self._tokens.limit

    @property
    def concurrency(self) -> int:
        """Requests that may be under way at once now."""
        return self._slots.size

    @property
    def paused_for_s(self) -> float:
        """Seconds until the next request may leave because of a pause; 0 if there is none."""
        return max(0.0, self._paused_until - self._clock())

    @contextlib.contextmanager
    def used_by(self, service: ServiceConfig) -> Iterator[None]:
        """Hold to the ceilings of `service` too, while the block lasts.

        Of several users' ceilings at the same time the lowest counts.
        """
        with self._lock:
            self._users.append(service)
            self._set_ceilings()
        try:
            yield
        finally:
            with self._lock:
                self._users.remove(service)
                if self._users:
                    self._set_ceilings()

    async def acquire(self, tokens: int) -> None:
        """Wait until a request of about `tokens` tokens may leave, and book it.

        Who came first leaves first, whichever engine it is of. `release` has to follow when the
        request is over, however it ended.
        """
        await self._slots.acquire()
        turn = object()
        with self._lock:
            self._turns.append(turn)
        try:
            while (delay := self._book_or_wait(turn, tokens)) > 0:
                await asyncio.sleep(min(delay, LONGEST_NAP_S))
        except BaseException:
            self._slots.release()
            raise
        finally:
            with self._lock:
                self._turns.remove(turn)

    def release(self) -> None:
        """A request that was let out is not under way any more."""
        self._slots.release()

    def delay_s(self) -> float:
        """Seconds until the next request may leave."""
        with self._lock:
            due = max(self._paused_until, self._requests.next_at, self._tokens.next_at)
            return max(0.0, due - self._clock())

    def settle(self, estimated_tokens: int, tokens: int) -> None:
        """Correct a booking once the reply tells how many tokens it took."""
        with self._lock:
            if tokens > 0:
                self._tokens.correct(tokens - estimated_tokens)

    def succeeded(self, tokens: int = 0, limits: RateLimits | None = None) -> None:
        """A reply of `tokens` tokens came: learn the limits it names, raise a lowered rate."""
        with self._lock:
            self._guess_s = FIRST_GUESS_S / 2
            self._learn(limits)
            self._requests.recover(1)
            self._tokens.recover(tokens)
        self._slots.succeeded()

    def pause(self, seconds: float) -> None:
        """Let nothing leave for `seconds`; a longer pause already begun stays."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def rate_limited(self, retry_after_s: float | None, limits: RateLimits | None = None) -> bool:
        """The service answered 429: pause everybody and lower the rate.

        The pause is what the service asked for, else a guess that doubles until a reply comes.

        Returns:
            Whether this began a pause. Further 429s, of requests that were under way when it
            began, only make it longer.
        """
        with self._lock:
            is_new = self._clock() >= self._paused_until
            # Too fast for want of knowing the limit: the limit itself is slow enough.
            is_explained = self._learn(limits)
            if is_new:
                self._guess_s = min(LONGEST_GUESS_S, 2 * self._guess_s)
                if not is_explained:
                    self._lower(limits or RateLimits())
            self.pause(self._guess_s if retry_after_s is None else retry_after_s)
            return is_new

    def _book_or_wait(self, turn: object, tokens: int) -> float:
        """Book a request and return 0, or return the seconds after which to ask again."""
        with self._lock:
            delay = self.delay_s()
            if turn is not self._turns[0]:
                return max(delay, SHORTEST_NAP_S)
            if delay == 0:
                now = self._clock()
                # After a pause nothing is made up for: the service has just asked for less.
                self._requests.book(1, now, self._paused_until)
                self._tokens.book(tokens, now, self._paused_until)
            return delay

    def _learn(self, limits: RateLimits | None) -> bool:
        if limits is None:
            return False
        has_slowed = [self._requests.learn(limits.rpm), self._tokens.learn(limits.tpm)]
        self._open_if_paced()
        return any(has_slowed)

    def _lower(self, limits: RateLimits) -> None:
        now = self._clock()
        is_short_of_requests = limits.requests_left == 0
        is_short_of_tokens = limits.tokens_left == 0
        if is_short_of_tokens and not is_short_of_requests:
            self._tokens.lower(now)
            return
        self._requests.lower(now)
        if is_short_of_requests:
            return
        # Nothing tells which limit it was, or whether too many were under way at once.
        if self._tokens.rate is not None:
            self._tokens.lower(now)
        self._slots.limited()

    def _set_ceilings(self) -> None:
        own_rpm, own_tpm = self._own
        self._requests.ceiling = _lowest(own_rpm, *(user.max_rpm for user in self._users))
        self._tokens.ceiling = _lowest(own_tpm, *(user.max_tpm for user in self._users))
        self._slots.set_ceiling(min(user.concurrency for user in self._users))
        self._open_if_paced()

    def _open_if_paced(self) -> None:
        if self._requests.limit is not None or self._tokens.limit is not None:
            self._slots.open()


def _lowest(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
