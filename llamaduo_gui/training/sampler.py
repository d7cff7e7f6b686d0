"""The order of the training records: shuffled by seed and epoch, like lengths together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from llamaduo_gui.core.seeds import derive_seed

_POOL_BATCHES = 50
"""Batches whose records are sorted by length together: little padding, and still shuffled."""


class EpochSampler(Sampler[int]):
    """Yields record indices in an order that depends on nothing but seed and epoch.

    The length-grouping sampler of transformers draws from the global random state, so a run
    resumed in its second epoch would see other batches than one that was not interrupted.

    Args:
        lengths: tokens of each record.
        step_size: records of one optimiser step.
        seed: of the run.
        is_grouped: whether records of about one length come together.
        is_longest_first: whether the longest record is in the first step of an epoch.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        step_size: int,
        seed: int,
        is_grouped: bool,
        is_longest_first: bool = True,
    ) -> None:
        self._lengths = lengths
        self._step_size = step_size
        self._seed = seed
        self._is_grouped = is_grouped
        self._is_longest_first = is_longest_first
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0; called by accelerate's data loader."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(
            self._lengths,
            step_size=self._step_size,
            seed=derive_seed(self._seed, "epoch", self._epoch),
            is_grouped=self._is_grouped,
            is_longest_first=self._is_longest_first,
        )
        return iter(order)


def epoch_order(
    lengths: Sequence[int],
    *,
    step_size: int,
    seed: int,
    is_grouped: bool,
    is_longest_first: bool = True,
) -> list[int]:
    """A permutation of the record indices.

    Grouped: pools of some 50 steps are drawn at random, sorted by length and cut into steps,
    which come in random order. Longest first: the longest record is in the first step all the
    same, with its like if they are grouped, so that memory that does not suffice is noticed at
    once and not hours later.
    """
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(lengths)).tolist()
    if not is_grouped:
        return _with_longest_first(shuffled, lengths) if is_longest_first else shuffled
    steps: list[list[int]] = []
    # At least four pools where there are that many steps, or every epoch would group alike.
    pool = step_size * max(1, min(_POOL_BATCHES, len(lengths) // (4 * step_size)))
    for start in range(0, len(shuffled), pool):
        part = sorted(shuffled[start : start + pool], key=lambda index: -lengths[index])
        steps += [part[at : at + step_size] for at in range(0, len(part), step_size)]
    # A short step stays last: batches are cut from the flat order.
    last = [steps.pop()] if steps and len(steps[-1]) < step_size else []
    order = random.permutation(len(steps)).tolist()
    if order and is_longest_first:
        longest = max(range(len(steps)), key=lambda index: lengths[steps[index][0]])
        order.remove(longest)
        order.insert(0, longest)
    return [index for step in [*(steps[at] for at in order), *last] for index in step]


def _with_longest_first(order: list[int], lengths: Sequence[int]) -> list[int]:
    """The order with its longest record and its first one exchanged."""
    if order:
        at = max(range(len(order)), key=lambda place: lengths[order[place]])
        order[0], order[at] = order[at], order[0]
    return order
