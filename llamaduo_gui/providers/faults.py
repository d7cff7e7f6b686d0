"""What the request engine makes of faults: wait, try again, give one request up, or stop."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from llamaduo_gui.core.errors import FatalProviderError, ProviderError
from llamaduo_gui.providers.base import RateLimitedError, UnreachableError

# Faults of one request before it is given up; 429s and lost contact are not its fault.
MAX_FAULTS = 6
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
# A server that is starting comes back in seconds; one that answered before gets a minute.
UNREACHABLE_PATIENCE_S = 10.0
LOST_CONTACT_PATIENCE_S = 60.0
FEWEST_CONTACT_TRIES = 3
LONGEST_CONTACT_PAUSE_S = 4.0
# Longer waits are the user's decision: the run stops with a sentence and can be resumed.
LONGEST_LIMITED_S = 15 * 60.0
# With this many given up and not one reply between them, it will not get better. Rejections are
# free and may be of one prompt judged many times, so more of them are borne.
HOPELESS_FAILURES = 10
HOPELESS_REJECTIONS = 50


def backoff_s(faults: int) -> float:
    """Seconds before a request that failed `faults` times is sent again: doubling, jittered."""
    longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (faults - 1))
    return longest * random.uniform(0.5, 1.0)


class FaultPolicy:
    """Watches the faults of one service between its replies and says when to stop.

    Its methods return seconds to wait, or raise FatalProviderError.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_in_contact = False
        self._has_replies = False
        self._failures = 0
        self._rejections = 0
        self._contact_tries = 0
        self._unreachable_since: float | None = None
        self._limited_since: float | None = None

    def answered_before(self) -> None:
        """A reply was in the database: some requests do succeed."""
        self._has_replies = True

    def answered(self) -> None:
        """A reply came: whatever was wrong is over."""
        self._is_in_contact = self._has_replies = True
        self._failures = self._rejections = self._contact_tries = 0
        self._unreachable_since = self._limited_since = None

    def unreachable(self, error: UnreachableError, sent_at: float) -> float:
        """No connection, tried at `sent_at`: how long everybody is to wait for the next try."""
        if self._unreachable_since is None:
            self._unreachable_since = sent_at
        self._contact_tries += 1
        patience_s = LOST_CONTACT_PATIENCE_S if self._is_in_contact else UNREACHABLE_PATIENCE_S
        tried_s = self._clock() - self._unreachable_since
        if tried_s >= patience_s and self._contact_tries >= FEWEST_CONTACT_TRIES:
            raise FatalProviderError(str(error))
        return min(LONGEST_CONTACT_PAUSE_S, FIRST_BACKOFF_S * 2.0 ** (self._contact_tries - 1))

    def rate_limited(self, error: RateLimitedError) -> None:
        """The service answered 429."""
        if self._limited_since is None:
            self._limited_since = self._clock()
        asked_s = error.retry_after_s or 0.0
        if asked_s > LONGEST_LIMITED_S or self._clock() - self._limited_since > LONGEST_LIMITED_S:
            raise FatalProviderError(str(error), retry_after_s=error.retry_after_s)

    def given_up(self, error: ProviderError) -> None:
        """One request failed as often as is borne."""
        self._failures += 1
        if self._failures >= HOPELESS_FAILURES:
            raise FatalProviderError(str(error))

    def rejected(self, error: ProviderError) -> None:
        """The service turned one request down."""
        self._rejections += 1
        if self._rejections >= HOPELESS_REJECTIONS and not self._has_replies:
            raise FatalProviderError(str(error))
