"""Keeps calls within the project's budget: each is reserved before it is sent, at its price."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.pricing import estimate_usd, price_of

POLL_S = 0.02


async def reserve_call(
    budget: Budget | None, service: ServiceConfig, key: str, request: ChatRequest
) -> None:
    """Reserve one live call, waiting while calls under way may still leave room for it.

    Call it right before the request is noted as in flight; then `Budget.settle` once the reply
    is stored, or `Budget.release` when the request was put back or failed without a cost.
    Without a budget it does nothing.

    Raises:
        BudgetReachedError: the call would cross the limit; nothing was sent.
        ConfigError: the service has no price.
    """
    while not try_reserve_call(budget, service, key, request):
        # Calls settle on other threads and loops as well, so there is no one event to wait for.
        await asyncio.sleep(POLL_S)


def try_reserve_call(
    budget: Budget | None,
    service: ServiceConfig,
    key: str,
    request: ChatRequest,
    *,
    is_batch: bool = False,
) -> bool:
    """Reserve one call if it fits beside those under way; False if it has to wait for them.

    Raises:
        BudgetReachedError, ConfigError: as `reserve_call`.
    """
    if budget is None:
        return True
    return budget.try_reserve(key, _most_usd(service, request, is_batch=is_batch), service.name)


def hold_call(
    budget: Budget | None,
    service: ServiceConfig,
    key: str,
    request: ChatRequest,
    *,
    is_batch: bool = False,
) -> None:
    """Reserve a call that is under way already, such as one of a batch found again at a restart."""
    if budget is not None:
        budget.hold(key, _most_usd(service, request, is_batch=is_batch))


def require_prices(budget_usd: float | None, services: Iterable[ServiceConfig]) -> None:
    """Refuse to begin when a budget is set that cannot be kept.

    Raises:
        ConfigError: a service has no known price, or `services.yaml` is not valid.
    """
    if budget_usd is None:
        return
    for service in services:
        if price_of(service) is None:
            raise _unpriced(service)


def _most_usd(service: ServiceConfig, request: ChatRequest, *, is_batch: bool) -> float:
    most_usd = estimate_usd(service, request, is_batch=is_batch)
    if most_usd is None:
        raise _unpriced(service)
    return most_usd


def _unpriced(service: ServiceConfig) -> ConfigError:
    return ConfigError(
        f"No price is known for {service.name}, so the budget cannot be kept: set its `price` in "
        "pipeline.yaml or in Settings, or remove `budget: usd`."
    )
