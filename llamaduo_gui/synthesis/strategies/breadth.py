"""Seeds far from what exists: farthest-first among the training records (Gonzalez 1985)."""

from __future__ import annotations

import random

import numpy as np

from llamaduo_gui.core.types import Record
from llamaduo_gui.data.boilerplate import learn_boilerplate
from llamaduo_gui.data.vectors import TextSpace, closeness, nearest
from llamaduo_gui.synthesis.seeds import SeedPool, Strategy

# Earlier pairs to keep away from; more of them, evenly picked, would say the same.
_MAX_EARLIER = 8192


class FarthestFirst:
    """Next is always the record least like the pairs of earlier rounds and the seeds before it.

    When every record was a seed, the order begins again. It is worked out as far as it is asked.
    """

    def __init__(self, pool: SeedPool) -> None:
        records = list(pool.records)
        # Of equally far records the first one is taken: which that is, is left to chance.
        random.Random(pool.derive("breadth")).shuffle(records)
        prompts = [record.instruction for record in records]
        boilerplate = learn_boilerplate(prompts, [record.category for record in records])
        space = TextSpace.learn(prompts, boilerplate)
        step = max(1, -(-len(pool.earlier) // _MAX_EARLIER))
        self._records = records
        self._vectors = space.encode(prompts)
        self._closest = nearest(self._vectors, space.encode(pool.earlier[::step]))
        self._order: list[int] = []

    def record(self, index: int) -> Record:
        """The record of draw `index`."""
        place = index % len(self._records)
        while len(self._order) <= place:
            self._choose_next()
        return self._records[self._order[place]]

    def _choose_next(self) -> None:
        chosen = int(self._closest.argmin())
        self._order.append(chosen)
        added = closeness(self._vectors, self._vectors[chosen : chosen + 1])[:, 0]
        np.maximum(self._closest, added, out=self._closest)
        self._closest[chosen] = np.inf


STRATEGY = Strategy(
    name="breadth",
    title="Breadth",
    explanation="Training pairs least like what was synthesised before are the example first.",
    place=2,
    make=FarthestFirst,
)
