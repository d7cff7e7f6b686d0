"""What a strategy is that chooses the training record each synthesis request is made from."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.seeds import derive_seed
from llamaduo_gui.core.types import Record


class SeedOrder(Protocol):
    """The seed of request 0, 1, 2, ... of one round; the same whenever it is asked."""

    def record(self, index: int) -> Record:
        """The training record of draw `index`, counted from 0 without end."""
        ...


@dataclass(frozen=True, slots=True)
class SeedPool:
    """All that a strategy may choose by. No text of validation or test is in it.

    Attributes:
        records: training records of the coverage dataset, sorted by prompt_id.
        seed: the project's seed.
        round_number: the round that is asked for.
        weights: how much more data is needed around a training record, by prompt_id; a record
            without a weight gets their mean. Empty where nothing is known.
        earlier: prompts that were synthesised in earlier rounds.
    """

    records: Sequence[Record]
    seed: int
    round_number: int
    weights: Mapping[str, float] = field(default_factory=dict)
    earlier: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        seed: int,
        round_number: int,
        weights: Mapping[str, float] | None = None,
        earlier: Sequence[str] = (),
    ) -> SeedPool:
        """A pool of records in any order.

        Raises:
            DataError: there are no records.
        """
        if not records:
            raise DataError("There are no training records to make new pairs from; add data first.")
        ordered = sorted(records, key=lambda record: record.prompt_id)
        return cls(ordered, seed, round_number, weights or {}, earlier)

    def derive(self, *parts: object) -> int:
        """A random seed of this round for what `parts` name."""
        return derive_seed(self.seed, "synthesize", self.round_number, *parts)


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to choose seeds. Every module in `strategies` has one, named STRATEGY.

    Attributes:
        name: its name in `pipeline.yaml`, equal to the module's name.
        title: its name in the window.
        explanation: one sentence on what it does.
        place: position in lists.
        make: prepares the order of a round.
    """

    name: str
    title: str
    explanation: str
    place: int
    make: Callable[[SeedPool], SeedOrder]


@lru_cache(maxsize=1)
def all_strategies() -> Mapping[str, Strategy]:
    """All modules in `strategies` by name, in the order of lists."""
    package = importlib.import_module("llamaduo_gui.synthesis.strategies")
    found: list[Strategy] = [
        importlib.import_module(f"{package.__name__}.{module.name}").STRATEGY
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return {item.name: item for item in sorted(found, key=lambda item: item.place)}
