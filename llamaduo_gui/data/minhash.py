"""MinHash signatures and their band keys, computed for many texts at once (Broder 1997)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llamaduo_gui.data.text import HashArray, mix

MAX_PERMUTATIONS = 128
# Share of the pairs at exactly the threshold that must become candidates; pairs above it fare
# better. Candidates are re-checked exactly, so precision is not traded for it.
WANTED_RECALL = 0.995
# Shingles hashed at a time: 256 KB of 32-bit values stay in a core's cache.
_CHUNK = 65_536


class Bands(NamedTuple):
    """How a signature is cut: `number` bands of `rows` values each."""

    number: int
    rows: int

    def recall(self, similarity: float) -> float:
        """Probability that two sets of this Jaccard similarity share at least one band."""
        return 1.0 - (1.0 - similarity**self.rows) ** self.number


def choose_bands(threshold: float) -> Bands:
    """The longest bands that still find `WANTED_RECALL` of the pairs at the threshold.

    Longer bands make fewer false candidates. A threshold too low for any (below 0.04) gets bands
    of one value.
    """
    for rows in range(MAX_PERMUTATIONS, 1, -1):
        bands = Bands(MAX_PERMUTATIONS // rows, rows)
        if bands.recall(threshold) >= WANTED_RECALL:
            return bands
    return Bands(MAX_PERMUTATIONS, 1)


@dataclass(frozen=True, slots=True, eq=False)
class MinHasher:
    """A fixed family of permutations: two indexes with the same bands have comparable keys."""

    bands: Bands
    factors: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.uint32]

    @classmethod
    def for_threshold(cls, threshold: float) -> MinHasher:
        """The hasher whose bands suit this Jaccard threshold."""
        bands = choose_bands(threshold)
        rng = np.random.default_rng(20_240_813)
        size = bands.number * bands.rows
        factors = rng.integers(0, 1 << 32, size, dtype=np.uint32) | np.uint32(1)
        offsets = rng.integers(0, 1 << 32, size, dtype=np.uint32)
        return cls(bands, factors, offsets)

    def band_keys(self, sets: Sequence[npt.NDArray[np.uint32]]) -> HashArray:
        """Keys by which alike sets meet: two sets are candidates if a column is equal.

        Args:
            sets: hashed shingles of each text, none empty.

        Returns:
            Shape (texts, bands), dtype uint64.
        """
        if len(sets) == 1:
            return self._combine(self._signature(sets[0])[:, np.newaxis])
        keys = np.empty((len(sets), self.bands.number), np.uint64)
        start = 0
        while start < len(sets):
            end, total = start, 0
            while end < len(sets) and (end == start or total + len(sets[end]) <= _CHUNK):
                total += len(sets[end])
                end += 1
            keys[start:end] = self._combine(self._signatures(sets[start:end]))
            start = end
        return keys

    def _signature(self, shingles: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """One text's smallest value under each permutation, all permutations at once."""
        permuted = self.factors[:, np.newaxis] * shingles
        permuted += self.offsets[:, np.newaxis]
        smallest: npt.NDArray[np.uint32] = permuted.min(axis=1)
        return smallest

    def _signatures(self, sets: Sequence[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
        """The same of many texts, shape (permutations, texts), one permutation at a time."""
        shingles = np.concatenate(sets)
        lengths = np.fromiter(map(len, sets), np.int64, len(sets))
        starts = np.concatenate(([0], np.cumsum(lengths[:-1])))
        permuted = np.empty_like(shingles)
        signatures = np.empty((len(self.factors), len(sets)), np.uint32)
        for index, (factor, offset) in enumerate(zip(self.factors, self.offsets, strict=True)):
            # Odd factors make this a permutation of the 32-bit integers (wrapping is wanted).
            np.multiply(shingles, factor, out=permuted)
            permuted += offset
            np.minimum.reduceat(permuted, starts, out=signatures[index])
        return signatures

    def _combine(self, signatures: npt.NDArray[np.uint32]) -> HashArray:
        """Keys of shape (texts, bands) from signatures of shape (permutations, texts)."""
        cut = signatures.reshape(self.bands.number, self.bands.rows, -1)
        keys = np.arange(self.bands.number, dtype=np.uint64)[:, np.newaxis]
        for row in range(self.bands.rows):
            keys = mix(keys + cut[:, row])
        return keys.T
