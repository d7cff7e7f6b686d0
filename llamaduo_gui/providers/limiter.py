"""Paces requests evenly under a rate limit, and slows down when the service says so."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

# A pace of exactly the limit runs into it by jitter on the way; one per cent below does not.
HEADROOM = 0.99
# How far a late wake-up may be made up for. Without it every late one lowers the rate for good
# (2 ms at 1,200 a minute is 4 %); with more than a part of a second, what is made up for arrives
# as a burst that services count as one.
CATCH_UP_S = 0.25
DECREASE = 0.7
# Share of the full rate won back by each minute's worth of successes.
INCREASE_PER_MINUTE = 0.25
LOWEST_RPM = 1.0
FIRST_GUESS_S = 2.0
LONGEST_GUESS_S = 60.0


class RateLimiter:
    """One limiter for everything sent to one service and model, first attempts and retries alike.

    Requests leave at even distances of 60 / rpm seconds and, if there is a token limit, so that
    estimated tokens stay under it as well. A 429 pauses everybody and lowers the rate by
    `DECREASE`; successes raise it again, slowly (additive increase, multiplicative decrease).

    Args:
        max_rpm: requests a minute, None for no limit until the service shows one.
        max_tpm: tokens a minute, prompt and reply together, None for no limit.
        clock: monotonic seconds; tests give their own.
    """

    def __init__(
        self,
        max_rpm: float | None,
        max_tpm: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._ceiling = max_rpm * HEADROOM if max_rpm is not None else None
        self._rpm = self._ceiling
        self._reference = self._ceiling or 0.0
        self._tpm = max_tpm * HEADROOM if max_tpm is not None else None
        self._next_request = -1e18
        self._next_tokens = -1e18
        self._paused_until = -1e18
        self._guess_s = FIRST_GUESS_S / 2
        self._sent: deque[float] = deque(maxlen=10_000)

    @property
    def rpm(self) -> float | None:
        """Requests a minute aimed at now, None while there is no limit."""
        return self._rpm

    @property
    def paused_for_s(self) -> float:
        """Seconds until the next request may leave because of a pause; 0 if there is none."""
        return max(0.0, self._paused_until - self._clock())

    async def acquire(self, tokens: int) -> None:
        """Wait until a request of about `tokens` tokens may leave, and book it.

        Only one caller at a time: the engine's dispatcher.
        """
        while (delay := self.delay_s()) > 0:
            await asyncio.sleep(delay)
        self._book(tokens)

    def delay_s(self) -> float:
        """Seconds until the next request may leave."""
        due = max(self._paused_until, self._next_request, self._next_tokens)
        return max(0.0, due - self._clock())

    def settle(self, estimated_tokens: int, tokens: int) -> None:
        """Correct a booking once the reply tells how many tokens it took."""
        if self._tpm is not None and tokens > 0:
            self._next_tokens += (tokens - estimated_tokens) * 60 / self._tpm

    def succeeded(self) -> None:
        """A reply came: raise a lowered rate a little."""
        self._guess_s = FIRST_GUESS_S / 2
        if self._rpm is not None and self._rpm != self._ceiling:
            raised = self._rpm + INCREASE_PER_MINUTE * self._reference / self._rpm
            self._rpm = raised if self._ceiling is None else min(self._ceiling, raised)

    def pause(self, seconds: float) -> None:
        """Let nothing leave for `seconds`; a longer pause already begun stays."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def rate_limited(self, retry_after_s: float | None) -> bool:
        """The service answered 429: pause everybody and lower the rate.

        The pause is what the service asked for, else a guess that doubles until a reply comes.

        Returns:
            Whether this began a pause. Further 429s, of requests that were under way when it
            began, only make it longer.
        """
        is_new = self._clock() >= self._paused_until
        if is_new:
            self._lower()
            self._guess_s = min(LONGEST_GUESS_S, 2 * self._guess_s)
        self.pause(self._guess_s if retry_after_s is None else retry_after_s)
        return is_new

    def _book(self, tokens: int) -> None:
        now = self._clock()
        self._sent.append(now)
        # After a pause nothing is made up for: the service has just asked for less.
        earliest = max(now - CATCH_UP_S, self._paused_until)
        if self._rpm is not None:
            self._next_request = max(self._next_request, earliest) + 60 / self._rpm
        if self._tpm is not None:
            self._next_tokens = max(self._next_tokens, earliest) + tokens * 60 / self._tpm

    def _lower(self) -> None:
        if self._rpm is None:
            # No limit was set: what got through in the last minute is the best guess at it.
            now = self._clock()
            recent = [at for at in self._sent if now - at <= 60]
            span = max(1.0, now - recent[0]) if recent else 60.0
            self._rpm = self._reference = max(LOWEST_RPM, len(recent) * 60 / span)
        self._rpm = max(LOWEST_RPM, self._rpm * DECREASE)
