"""More seeds where the student failed: drawn by the weights of the training records."""

from __future__ import annotations

import itertools
import random

from llamaduo_gui.core.types import Record
from llamaduo_gui.synthesis.seeds import SeedOrder, SeedPool, Strategy
from llamaduo_gui.synthesis.strategies.uniform import UniformOrder


class WeightedOrder:
    """Each draw is on its own, with probability in proportion to a record's weight."""

    def __init__(self, pool: SeedPool) -> None:
        self._pool = pool
        usable = {name: weight for name, weight in pool.weights.items() if weight > 0}
        mean = sum(usable.values()) / len(usable)
        weights = (usable.get(record.prompt_id, mean) for record in pool.records)
        self._cumulative = list(itertools.accumulate(weights))

    def record(self, index: int) -> Record:
        """The record of draw `index`."""
        rng = random.Random(self._pool.derive(index))
        return rng.choices(self._pool.records, cum_weights=self._cumulative)[0]


def _make(pool: SeedPool) -> SeedOrder:
    """Uniform while nothing was judged yet."""
    has_weights = any(weight > 0 for weight in pool.weights.values())
    return WeightedOrder(pool) if has_weights else UniformOrder(pool)


STRATEGY = Strategy(
    name="failure_driven",
    title="Where it fails",
    explanation="Training pairs like the validation prompts that scored worst are the example more "
    "often; only weights are taken from validation, never its text.",
    place=1,
    make=_make,
)
