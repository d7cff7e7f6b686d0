"""Even spacing of an amount a minute, requests or tokens, at a rate that is found by trying."""

from __future__ import annotations

from collections import deque

# A pace of exactly the limit runs into it by jitter on the way; one per cent below does not.
HEADROOM = 0.99
# How far a late wake-up may be made up for. Without it every late one lowers the rate for good
# (2 ms at 1,200 a minute is 4 %); with more than a part of a second, what is made up for arrives
# as a burst that services count as one.
CATCH_UP_S = 0.25
DECREASE = 0.7
# Share of the rate at the last 429 that is won back by each minute's worth of successes.
INCREASE_PER_MINUTE = 0.25
LOWEST_PER_MINUTE = 1.0
MINUTE_S = 60.0
# Fewer bookings than this say nothing about a rate.
FEWEST_MEASURED = 20
SHORTEST_MEASURED_S = 1.0


class Pace:
    """When the next unit may leave, so that no minute has more than the rate.

    The rate is the lower of the user's own ceiling and what the service says it allows; after a
    429 it is lowered further (`DECREASE`) and won back slowly by successes: additive increase,
    multiplicative decrease. With neither known there is no rate until a 429 shows one. All times
    are seconds of the caller's monotonic clock.
    """

    def __init__(self, ceiling: float | None = None) -> None:
        self.ceiling = ceiling
        self.told: float | None = None
        self._lowered: float | None = None
        self._reference = 0.0
        self._next_at = -1e18
        self._booked: deque[tuple[float, float]] = deque(maxlen=10_000)

    @property
    def limit(self) -> float | None:
        """Amount a minute that is never exceeded, None while nobody has named one."""
        named = [value for value in (self.ceiling, self.told) if value is not None]
        return min(named) if named else None

    @property
    def rate(self) -> float | None:
        """Amount a minute aimed at now, None while there is no limit."""
        limit = self.limit
        if limit is not None:
            limit *= HEADROOM
        rates = [value for value in (limit, self._lowered) if value is not None]
        return min(rates) if rates else None

    @property
    def next_at(self) -> float:
        """When the next booking may be made."""
        return self._next_at

    def book(self, amount: float, now: float, earliest: float) -> None:
        """Take `amount` now; nothing before `earliest` is made up for."""
        self._booked.append((now, amount))
        if (rate := self.rate) is not None:
            start = max(self._next_at, now - CATCH_UP_S, earliest)
            self._next_at = start + amount * MINUTE_S / rate

    def correct(self, amount: float) -> None:
        """Book `amount` more (or less, if negative) than was thought."""
        if (rate := self.rate) is not None:
            self._next_at += amount * MINUTE_S / rate

    def learn(self, told: float | None) -> bool:
        """Take over the limit a service names; returns whether the rate fell by it."""
        if told is None or told <= 0 or told == self.told:
            return False
        before = self.rate
        self.told = told
        after = self.rate
        return after is not None and (before is None or after < before)

    def lower(self, now: float) -> None:
        """Go down to a part of the rate that was too much, as far as one can be told."""
        rates = [value for value in (self.rate, self._measured(now)) if value is not None]
        if not rates:
            return
        self._reference = max(LOWEST_PER_MINUTE, min(rates))
        self._lowered = max(LOWEST_PER_MINUTE, DECREASE * self._reference)

    def recover(self, amount: float) -> None:
        """`amount` went well: win a lowered rate back a little."""
        if self._lowered is None:
            return
        step = INCREASE_PER_MINUTE * max(self._reference, self._lowered)
        self._lowered += step * amount / self._lowered
        limit = self.limit
        if limit is not None and self._lowered >= limit * HEADROOM:
            self._lowered = None

    def _measured(self, now: float) -> float | None:
        """Amount a minute that really left lately; None where too little did to tell.

        A rate that was never reached says nothing: what was sent when the 429 came is too much.
        """
        recent = [(at, amount) for at, amount in self._booked if now - at <= MINUTE_S]
        if len(recent) < FEWEST_MEASURED:
            return None
        span_s = max(SHORTEST_MEASURED_S, now - recent[0][0])
        return sum(amount for _, amount in recent) * MINUTE_S / span_s
