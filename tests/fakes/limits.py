"""Rate limits as services keep them, for the fake servers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Bucket:
    """A token bucket that holds one second's worth of a limit a minute."""

    level: float | None = None
    filled_at: float = 0.0

    def take(self, per_minute: float, now: float, amount: float = 1.0) -> bool:
        """Let `amount` in if there is room; one that is larger than the bucket needs it full."""
        capacity = max(1.0, per_minute / 60)
        if self.level is None:
            self.level, self.filled_at = capacity, now
        self.level = min(capacity, self.level + (now - self.filled_at) * per_minute / 60)
        self.filled_at = now
        if self.level < min(amount, capacity):
            return False
        self.level -= amount
        return True

    def charge(self, amount: float) -> None:
        """Take what was not known before: the tokens of a reply."""
        if self.level is not None:
            self.level -= amount

    def used(self, per_minute: float) -> float:
        """What is missing from the bucket; it is full again after this share of a minute."""
        level = max(1.0, per_minute / 60) if self.level is None else self.level
        return max(0.0, max(1.0, per_minute / 60) - level)


def openai_headers(kind: str, per_minute: float, bucket: Bucket) -> dict[str, str]:
    """`x-ratelimit-*` as OpenAI sends them, counted against the whole minute."""
    used = bucket.used(per_minute)
    reset_ms = round(used * 60_000 / per_minute)
    seconds, milliseconds = divmod(reset_ms, 1000)
    return {
        f"x-ratelimit-limit-{kind}": f"{per_minute:.0f}",
        f"x-ratelimit-remaining-{kind}": f"{max(0.0, per_minute - used):.0f}",
        f"x-ratelimit-reset-{kind}": f"{seconds}.{milliseconds:03}s"
        if seconds
        else f"{reset_ms}ms",
    }
