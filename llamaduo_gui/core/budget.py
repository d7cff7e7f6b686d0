"""The money a project may spend: what is spent and under way, and the stop before the limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from llamaduo_gui.core.errors import BudgetReachedError

# One process at a time works in a project, so the database has no surprises between refusals; the
# sum over 100,000 replies takes a fifth of a second.
REREAD_AFTER_S = 60.0
# Sums of floating-point dollars are not exact; a thousandth of a cent is not worth a stop.
ROUNDING_USD = 1e-8

_REACHED = "The budget of "


class Budget:
    """A hard limit on spending, shared by every engine of a process; safe from any thread.

    Each call is reserved before it is sent with the most it may cost, and settled when its reply
    is stored. While calls are under way, one that may not fit waits for them; it is refused only
    when nothing is under way, so that the budget is used to its last call and never crossed.

    Args:
        limit_usd: the limit in dollars.
        spent_usd: reads what is spent from the database, losses included.
    """

    def __init__(self, limit_usd: float, spent_usd: Callable[[], float]) -> None:
        self.limit_usd = limit_usd
        self._read_spent_usd = spent_usd
        self._lock = threading.Lock()
        self._reserved: dict[str, float] = {}
        self._settled_usd = 0.0
        self._stored_usd = 0.0
        self._unknown_usd = 0.0
        self._read_at: float | None = None

    @property
    def spent_usd(self) -> float:
        """Dollars spent in the project so far."""
        with self._lock:
            self._reread(REREAD_AFTER_S)
            return self._spent()

    @property
    def reserved_usd(self) -> float:
        """The most that the calls under way may cost, in dollars."""
        with self._lock:
            return sum(self._reserved.values())

    def try_reserve(self, key: str, most_usd: float, what: str) -> bool:
        """Set money aside for a call, if it fits beside the calls under way.

        Args:
            key: the call's identity; reserving it twice sets the money aside once.
            most_usd: the most it may cost.
            what: the service it goes to, for the sentence.

        Returns:
            True when it may be sent; False when it has to wait for calls under way.

        Raises:
            BudgetReachedError: the call would cross the limit though nothing is under way.
        """
        with self._lock:
            if key in self._reserved:
                return True
            self._reread(REREAD_AFTER_S)
            if not self._fits(most_usd):
                if self._reserved:
                    return False
                self._reread(0.0)
            if not self._fits(most_usd):
                raise BudgetReachedError(self._sentence(most_usd, what))
            self._reserved[key] = most_usd
            return True

    def hold(self, key: str, most_usd: float) -> None:
        """Set money aside for a call that is under way already, whether it fits or not."""
        with self._lock:
            self._reserved[key] = most_usd

    def settle(self, key: str, cost_usd: float | None) -> None:
        """Count a call whose reply is stored; one of unknown cost counts with all set aside."""
        with self._lock:
            reserved_usd = self._reserved.pop(key, 0.0)
            if cost_usd is None:
                self._unknown_usd += reserved_usd
            else:
                self._settled_usd += cost_usd

    def release(self, key: str) -> None:
        """Give back what was set aside for a call that cost nothing."""
        with self._lock:
            self._reserved.pop(key, None)

    def _fits(self, most_usd: float) -> bool:
        total = self._spent() + sum(self._reserved.values()) + most_usd
        return total <= self.limit_usd + ROUNDING_USD

    def _spent(self) -> float:
        return self._stored_usd + self._settled_usd + self._unknown_usd

    def _reread(self, after_s: float) -> None:
        """Take the database's sum; what was settled meanwhile is in it."""
        now = time.monotonic()
        if self._read_at is None or now - self._read_at >= after_s:
            self._stored_usd = self._read_spent_usd()
            self._settled_usd = 0.0
            self._read_at = now

    def _sentence(self, most_usd: float, what: str) -> str:
        return (
            f"{_REACHED}{format_usd(self.limit_usd)} is reached: "
            f"{format_usd(self._spent())} is spent, "
            f"and the next call to {what} may cost up to {format_usd(most_usd)}. "
            "Raise `budget: usd` in pipeline.yaml or on the Migrate page, then resume."
        )


def is_budget_stop(error: str) -> bool:
    """Whether the stored error of a run says that it was stopped by the budget."""
    return error.startswith(_REACHED)


def format_usd(amount: float) -> str:
    """Dollars for people: cents, or as many digits as a smaller amount needs."""
    if amount == 0 or abs(amount) >= 0.01:
        return f"${amount:,.2f}"
    return f"${amount:.2g}" if abs(amount) >= 0.0001 else "under $0.0001"
