"""How fast an answer is being written."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WritingProgress:
    """Tokens written so far, seconds to the first, and tokens a second since that one."""

    tokens: int = 0
    first_token_s: float | None = None
    tokens_per_second: float | None = None


class WritingClock:
    """Counts the tokens of one answer; it starts with the question."""

    def __init__(self) -> None:
        self.count = 0
        self._started = time.monotonic()
        self._first_at: float | None = None

    @property
    def seconds(self) -> float:
        """Since the question."""
        return time.monotonic() - self._started

    def count_token(self) -> None:
        """One more token."""
        self.count += 1
        if self._first_at is None:
            self._first_at = time.monotonic()

    def progress(self) -> WritingProgress:
        """The measures of this moment."""
        first, now = self._first_at, time.monotonic()
        if first is None:
            return WritingProgress()
        has_speed = self.count > 1 and now > first
        speed = (self.count - 1) / (now - first) if has_speed else None
        return WritingProgress(self.count, first - self._started, speed)
