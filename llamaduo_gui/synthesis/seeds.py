"""Chooses the training record each synthesis request is made from."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.seeds import derive_seed
from llamaduo_gui.core.types import Record


class SeedOrder:
    """The seed record of request 0, 1, 2, ... of one round; the same whenever it is asked.

    Without weights every record is used once, in random order, before any is used again. With
    weights each request draws a record on its own, with probability in proportion to its
    category's weight.
    """

    def __init__(
        self,
        records: Sequence[Record],
        seed: int,
        round_number: int,
        category_weights: Mapping[str, float] | None = None,
    ) -> None:
        """Prepare the draw.

        Args:
            records: training records of the coverage dataset; no others may be seeds.
            seed: the project's seed.
            round_number: the round that is asked for.
            category_weights: how much each category needs more data. A category without a weight
                gets the mean weight: validation had no record of it, which says nothing.

        Raises:
            DataError: there are no records.
        """
        if not records:
            raise DataError("There are no training records to make new pairs from; add data first.")
        self._records = sorted(records, key=lambda record: record.prompt_id)
        self._seed = (seed, "synthesize", round_number)
        self._cumulative = self._accumulate(category_weights or {})
        self._permutations: dict[int, list[int]] = {}

    def _accumulate(self, weights: Mapping[str, float]) -> list[float] | None:
        usable = {name: weight for name, weight in weights.items() if weight > 0}
        if not usable:
            return None
        mean = sum(usable.values()) / len(usable)
        return list(itertools.accumulate(usable.get(r.category, mean) for r in self._records))

    def request_seed(self, index: int) -> int:
        """The random seed of request `index`."""
        return derive_seed(*self._seed, index)

    def record(self, index: int) -> Record:
        """The record of request `index`."""
        if self._cumulative is not None:
            rng = random.Random(self.request_seed(index))
            return rng.choices(self._records, cum_weights=self._cumulative)[0]
        turn, place = divmod(index, len(self._records))
        if turn not in self._permutations:
            order = list(range(len(self._records)))
            random.Random(derive_seed(*self._seed, "order", turn)).shuffle(order)
            self._permutations[turn] = order
        return self._records[self._permutations[turn][place]]
