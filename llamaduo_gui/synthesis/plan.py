"""The requests a round may make: from which seed each is made, within the categories' quotas."""

from __future__ import annotations

import math
from collections import Counter

from llamaduo_gui.core.config import ServiceConfig, SynthesisConfig
from llamaduo_gui.core.types import Record
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.synthesis.prompts import SeedPair, build_request
from llamaduo_gui.synthesis.seeds import SeedOrder, SeedPool

# Requests a round may take: this many times what it would take if every pair were kept.
MAX_REQUESTS_FACTOR = 3
# Draws to look at for each request: a category that is drawn less often is not waited for.
_MAX_DRAWS_FACTOR = 200


class RequestPlan:
    """Request 0, 1, 2, ... of a round with its seed; known before the first one is sent.

    Without quotas request i is made from draw i. A category with a quota has no more requests in
    the plan than `MAX_REQUESTS_FACTOR` times what its quota takes; draws beyond are passed over.
    Which of the planned requests are sent is up to what the earlier ones bring.
    """

    def __init__(self, order: SeedOrder, pool: SeedPool, settings: SynthesisConfig) -> None:
        self._order = order
        self._pool = pool
        self._settings = settings
        names = {record.category for record in pool.records}
        self.quotas = {
            name: quota for name, quota in settings.category_quotas.items() if name in names
        }
        self.has_room_beyond_quotas = bool(names - set(self.quotas))
        most = self._most(settings.pairs_per_round)
        self._draws = self._choose(most) if self.quotas else range(most)

    def __len__(self) -> int:
        return len(self._draws)

    def record(self, index: int) -> Record:
        """The seed of request `index`."""
        return self._order.record(self._draws[index])

    def request_seed(self, index: int) -> int:
        """The random seed of request `index`, part of its identity."""
        return self._pool.derive(self._draws[index])

    def request(self, index: int, teacher: ServiceConfig) -> ChatRequest:
        """Request `index` to `teacher`; the same whenever it is asked."""
        return build_request(
            teacher,
            SeedPair.of(self.record(index)),
            count=self._settings.pairs_per_request,
            temperature=self._settings.temperature,
            repeat=self.request_seed(index),
        )

    def _most(self, pairs: int) -> int:
        return MAX_REQUESTS_FACTOR * math.ceil(pairs / self._settings.pairs_per_request)

    def _choose(self, most: int) -> list[int]:
        left = Counter({name: self._most(quota) for name, quota in self.quotas.items()})
        chosen: list[int] = []
        for draw in range(_MAX_DRAWS_FACTOR * most):
            is_full = not self.has_room_beyond_quotas and not left.total()
            if len(chosen) == most or is_full:
                break
            category = self._order.record(draw).category
            if category in self.quotas:
                if not left[category]:
                    continue
                left[category] -= 1
            chosen.append(draw)
        return chosen
