"""A batch whose results are to come, and when to ask after it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Self

from llamaduo_gui.providers.batch_calls import BatchPace
from llamaduo_gui.providers.batch_ledger import LedgerBatch


@dataclass(slots=True, eq=False)
class OpenBatch:
    """A batch whose results are to come.

    Attributes:
        handled: keys whose result was dealt with, should the results have to be read again.
        answered: requests the service says are answered, as was last told.
        due_at: when to ask after it next (monotonic); `interval_s` is the wait after that.
    """

    id: int
    label: str
    remote_id: str | None
    total: int
    created_at: float
    interval_s: float
    due_at: float
    handled: set[str] = field(default_factory=set)
    answered: int = -1
    told_at: float = 0.0

    @classmethod
    def of(cls, row: LedgerBatch, pace: BatchPace, delay_s: float = 0.0) -> Self:
        """A batch as stored; it is asked after in `delay_s` seconds."""
        return cls(
            id=row.id,
            label=row.label,
            remote_id=row.remote_id,
            total=row.total,
            created_at=row.created_at,
            interval_s=pace.first_poll_s,
            due_at=time.monotonic() + delay_s,
        )

    @property
    def text(self) -> str:
        """What it is called in the log."""
        return f"batch of {self.total} {'request' if self.total == 1 else 'requests'}"

    def postpone(self, pace: BatchPace) -> None:
        """Ask again after the present interval, and then less often."""
        self.due_at = time.monotonic() + self.interval_s
        self.interval_s = min(pace.longest_poll_s, self.interval_s * pace.growth)

    def is_news(self, answered: int, quiet_s: float) -> bool:
        """Whether so many answers are worth a line in the log: a change, or a long silence."""
        now = time.monotonic()
        if answered == self.answered and now - self.told_at < quiet_s:
            return False
        self.answered, self.told_at = answered, now
        return True
