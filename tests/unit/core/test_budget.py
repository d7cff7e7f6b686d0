"""The budget: reserved before, settled after, waited for, and never crossed."""

from __future__ import annotations

import threading

import pytest

from llamaduo_gui.core import budget as budget_module
from llamaduo_gui.core.budget import Budget, format_usd
from llamaduo_gui.core.errors import BudgetReachedError


class Stored:
    """A database that knows what was spent."""

    def __init__(self, usd: float = 0.0) -> None:
        self.usd = usd
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.usd


def test_calls_are_let_through_until_one_would_cross_the_limit() -> None:
    stored = Stored()
    budget = Budget(1.0, stored)
    for number in range(10):
        assert budget.try_reserve(f"k{number}", 0.1, "openai:m")
        stored.usd += 0.1
        budget.settle(f"k{number}", 0.1)
    with pytest.raises(BudgetReachedError) as caught:
        budget.try_reserve("k10", 0.1, "openai:m")
    text = str(caught.value)
    assert "The budget of $1.00 is reached: $1.00 is spent" in text
    assert "the next call to openai:m may cost up to $0.10" in text
    assert "Raise `budget: usd`" in text


def test_a_call_that_may_not_fit_waits_for_those_under_way() -> None:
    budget = Budget(1.0, Stored())
    assert budget.try_reserve("a", 0.9, "m")
    assert not budget.try_reserve("b", 0.2, "m")
    budget.settle("a", 0.3)
    assert budget.try_reserve("b", 0.2, "m")
    assert budget.reserved_usd == pytest.approx(0.2)
    assert budget.spent_usd == pytest.approx(0.3)


def test_what_was_spent_before_counts() -> None:
    with pytest.raises(BudgetReachedError):
        Budget(1.0, Stored(0.95)).try_reserve("a", 0.1, "m")


def test_a_released_call_gives_its_money_back() -> None:
    budget = Budget(1.0, Stored())
    budget.try_reserve("a", 1.0, "m")
    budget.release("a")
    assert budget.try_reserve("b", 1.0, "m")


def test_a_reply_of_unknown_cost_counts_with_all_that_was_set_aside() -> None:
    budget = Budget(1.0, Stored())
    budget.try_reserve("a", 0.6, "m")
    budget.settle("a", None)
    with pytest.raises(BudgetReachedError):
        budget.try_reserve("b", 0.5, "m")


def test_the_same_call_is_reserved_once() -> None:
    budget = Budget(1.0, Stored())
    assert budget.try_reserve("a", 0.8, "m")
    assert budget.try_reserve("a", 0.8, "m")
    assert budget.reserved_usd == 0.8


def test_calls_under_way_from_before_are_held_even_past_the_limit() -> None:
    stored = Stored(0.5)
    budget = Budget(1.0, stored)
    budget.hold("batch", 0.9)
    assert not budget.try_reserve("a", 0.1, "m")
    stored.usd = 0.95
    budget.settle("batch", 0.45)
    with pytest.raises(BudgetReachedError):
        budget.try_reserve("a", 0.1, "m")


def test_spending_elsewhere_is_seen_and_the_database_is_not_read_for_each_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = Stored()
    budget = Budget(1.0, stored)
    for number in range(50):
        budget.try_reserve(f"k{number}", 0.001, "m")
    assert stored.reads == 1
    monkeypatch.setattr(budget_module, "REREAD_AFTER_S", 0.0)
    stored.usd = 0.99
    assert not budget.try_reserve("last", 0.1, "m")


def test_a_stale_sum_is_read_again_before_anything_is_refused() -> None:
    stored = Stored()
    budget = Budget(1.0, stored)
    budget.try_reserve("a", 0.9, "m")
    # The reply's cost comes out lower in the database than what the engine settled.
    budget.settle("a", 0.95)
    stored.usd = 0.1
    assert budget.try_reserve("b", 0.5, "m")


def test_many_threads_never_cross_the_limit_together() -> None:
    stored = Stored()
    budget = Budget(1.0, stored)
    lock = threading.Lock()
    sent: list[str] = []

    def work(worker: int) -> None:
        for number in range(200):
            key = f"{worker}:{number}"
            try:
                if not budget.try_reserve(key, 0.03, "m"):
                    continue
            except BudgetReachedError:
                return
            with lock:
                sent.append(key)
                stored.usd += 0.02
            budget.settle(key, 0.02)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored.usd <= 1.0
    assert len(sent) == 49


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (1234.5, "$1,234.50"),
        (0.0123, "$0.01"),
        (0.0042, "$0.0042"),
        (0.00000001, "under $0.0001"),
    ],
)
def test_small_amounts_keep_their_digits(amount: float, text: str) -> None:
    assert format_usd(amount) == text
