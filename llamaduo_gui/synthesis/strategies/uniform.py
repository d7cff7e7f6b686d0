"""All training records alike: each is a seed once, in random order, before any is one again."""

from __future__ import annotations

import random

from llamaduo_gui.core.types import Record
from llamaduo_gui.synthesis.seeds import SeedPool, Strategy


class UniformOrder:
    """One shuffled pass over the records after another."""

    def __init__(self, pool: SeedPool) -> None:
        self._pool = pool
        self._permutations: dict[int, list[int]] = {}

    def record(self, index: int) -> Record:
        """The record of draw `index`."""
        records = self._pool.records
        turn, place = divmod(index, len(records))
        if turn not in self._permutations:
            order = list(range(len(records)))
            random.Random(self._pool.derive("order", turn)).shuffle(order)
            self._permutations[turn] = order
        return records[self._permutations[turn][place]]


STRATEGY = Strategy(
    name="uniform",
    title="Uniform",
    explanation="Every training pair is the example equally often.",
    place=0,
    make=UniformOrder,
)
