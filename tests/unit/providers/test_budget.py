"""Calls within the budget: priced before they are sent, and refused up front without a price."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.config import PriceConfig, ServiceConfig
from llamaduo_gui.core.errors import BudgetReachedError, ConfigError
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.budget import (
    hold_call,
    require_prices,
    reserve_call,
    try_reserve_call,
)

# A reply of 1000 tokens costs ten cents; prompts are free, so that amounts are exact.
PRICE = PriceConfig(input=0, output=100)
LOCAL = "http://127.0.0.1:1/v1"


def _service(**values: Any) -> ServiceConfig:
    defaults: dict[str, Any] = {"provider": "openai", "model": "m", "price": PRICE}
    return ServiceConfig(**{**defaults, "max_tokens": 1000, **values})


def _request(service: ServiceConfig) -> ChatRequest:
    return ChatRequest.for_service(service, (Message("user", "hello"),), "judge")


def test_a_live_call_waits_until_the_one_under_way_leaves_room() -> None:
    service = _service()
    budget = Budget(0.15, lambda: 0.0)

    async def scene() -> list[str]:
        order = []
        await reserve_call(budget, service, "a", _request(service))
        waiting = asyncio.create_task(reserve_call(budget, service, "b", _request(service)))
        await asyncio.sleep(0.05)
        order.append("waits" if not waiting.done() else "sent")
        budget.settle("a", 0.02)
        await asyncio.wait_for(waiting, 2)
        order.append("sent")
        return order

    assert asyncio.run(scene()) == ["waits", "sent"]


def test_the_call_that_would_cross_the_budget_is_refused() -> None:
    service = _service()
    with pytest.raises(BudgetReachedError):
        asyncio.run(reserve_call(Budget(0.09, lambda: 0.0), service, "a", _request(service)))


def test_a_call_in_a_batch_sets_half_aside() -> None:
    service = _service()
    budget = Budget(0.12, lambda: 0.0)
    assert try_reserve_call(budget, service, "a", _request(service), is_batch=True)
    assert try_reserve_call(budget, service, "b", _request(service), is_batch=True)
    assert budget.reserved_usd == pytest.approx(0.1)
    hold_call(budget, service, "c", _request(service))
    assert budget.reserved_usd == pytest.approx(0.2)


def test_free_services_pass_an_exhausted_budget_and_no_budget_asks_nothing() -> None:
    local = _service(provider="openai_compatible", base_url=LOCAL, price=None)
    assert try_reserve_call(Budget(1.0, lambda: 1.0), local, "a", _request(local))
    unpriced = _service(model="no-such-model", price=None)
    assert try_reserve_call(None, unpriced, "a", _request(unpriced))
    hold_call(None, unpriced, "a", _request(unpriced))


def test_a_service_without_a_price_is_refused_when_a_budget_is_set() -> None:
    unpriced = _service(model="no-such-model", price=None)
    with pytest.raises(ConfigError, match="No price is known for openai:no-such-model"):
        require_prices(5.0, [_service(), unpriced])
    with pytest.raises(ConfigError, match="remove `budget: usd`"):
        try_reserve_call(Budget(5.0, lambda: 0.0), unpriced, "a", _request(unpriced))
    require_prices(None, [unpriced])
    require_prices(5.0, [_service()])
