"""The limiters of this process: one for each service, whoever asks it."""

from __future__ import annotations

import threading

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.providers.limiter import RateLimiter

_limiters: dict[tuple[str, str, str], RateLimiter] = {}
_lock = threading.Lock()


def shared_limiter(service: ServiceConfig) -> RateLimiter:
    """The limiter of a provider, address and model.

    A teacher that is also a judge has one, and what a stage learnt of a service's limits the next
    stage knows. Ceilings are those of the engines that use it at the time (`used_by`).
    """
    key = (service.provider, (service.base_url or "").rstrip("/"), service.model)
    with _lock:
        return _limiters.setdefault(key, RateLimiter())


def forget_limits() -> None:
    """Forget all that was learnt; engines at work keep the limiter they have."""
    with _lock:
        _limiters.clear()
