"""Resampling whole prompts: the totals a clustered bootstrap needs, in one matrix product each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Bounds the memory of one block of resample counts to 16 MB whatever the number of prompts.
_CELLS_PER_BLOCK = 2_000_000


def resampled_totals(clusters: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """Column totals of `resamples` draws of whole prompts with replacement.

    The draw depends on `seed`, `resamples` and the number of prompts only, so two calls with
    the same prompts in the same order see the same draws: that is what pairs two models.

    Args:
        clusters: shape (prompts, columns); what one prompt adds to each total.
        resamples: number of draws, each of as many prompts as there are.
        seed: of the generator.

    Returns:
        Shape (resamples, columns).
    """
    prompts = len(clusters)
    if prompts * resamples <= _CELLS_PER_BLOCK:
        totals: FloatArray = _all_counts(prompts, resamples, seed) @ clusters
        return totals
    blocks = _count_blocks(prompts, resamples, seed)
    return np.concatenate([counts @ clusters for counts in blocks])


@lru_cache(maxsize=1)
def _all_counts(prompts: int, resamples: int, seed: int) -> FloatArray:
    """The one block of a small problem, kept because the next cell of a table needs it again."""
    (counts,) = _count_blocks(prompts, resamples, seed)
    counts.setflags(write=False)
    return counts


def _count_blocks(prompts: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """How often each prompt is drawn, shape (block, prompts), until `resamples` rows are out."""
    generator = np.random.default_rng(seed)
    block = max(1, min(resamples, _CELLS_PER_BLOCK // prompts))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = generator.integers(0, prompts, size=(rows, prompts))
        drawn += np.arange(rows)[:, None] * prompts
        counts = np.bincount(drawn.ravel(), minlength=rows * prompts)
        yield counts.reshape(rows, prompts).astype(np.float64)
