"""Duplicates: exact by normalised text, near-duplicates by MinHash LSH with an exact re-check.

A text is the set of its word 3-grams (shingles), after the dataset's boilerplate is left out; two
texts are near-duplicates when the Jaccard similarity of their sets reaches the threshold. A text
of one or two tokens is one shingle, so it only matches a text of the same tokens; texts of up to
six tokens have at most four shingles, and one differing word takes them below 0.8. MinHash only
proposes candidates: whether a pair counts is decided on the sets themselves (32-bit hashes, so two
different shingles are taken for one about once in four billion), and precision is 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from llamaduo_gui.data.boilerplate import Boilerplate
from llamaduo_gui.data.minhash import MinHasher
from llamaduo_gui.data.similarity import jaccard
from llamaduo_gui.data.text import HashArray, hash_ngrams, hash_tokens, text_key, tokenise

SHINGLE_SIZE = 3
# Texts added one by one wait in dictionaries; this many at once are worth sorting into arrays.
_SEAL_AT = 4096
_BATCH = 8192


@dataclass(frozen=True, slots=True)
class Match:
    """An indexed text and how similar it is, 0..1."""

    name: str
    similarity: float


def shingle_set(text: str, boilerplate: Boilerplate) -> npt.NDArray[np.uint32]:
    """Hashed shingles of a text without its boilerplate: sorted, no repeats, never empty."""
    own = boilerplate.strip_hashes(hash_tokens(tokenise(text)))
    if not len(own):
        return np.zeros(1, np.uint32)
    hashes = hash_ngrams(own, min(SHINGLE_SIZE, len(own)))
    values = (hashes >> np.uint64(32)).astype(np.uint32)
    values.sort()
    is_new = np.empty(len(values), np.bool_)
    is_new[0] = True
    np.not_equal(values[1:], values[:-1], out=is_new[1:])
    return values[is_new]


class ExactIndex:
    """Finds texts that are equal once case, spacing and compatibility forms are folded."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, text: str) -> None:
        """Remember a text; the first of equal texts keeps its name."""
        self._names.setdefault(text_key(text), name)

    def query(self, text: str) -> str | None:
        """Name of the equal text, or None."""
        return self._names.get(text_key(text))


@dataclass(slots=True)
class _Sealed:
    """Band keys of many texts, one sorted column a band, with the text each belongs to."""

    keys: list[HashArray] = field(default_factory=list)
    owners: list[npt.NDArray[np.int32]] = field(default_factory=list)

    def merge(self, keys: HashArray, first_owner: int) -> None:
        """Take in the keys, shape (texts, bands), of the texts `first_owner` onwards."""
        owners = np.arange(first_owner, first_owner + len(keys), dtype=np.int32)
        for band in range(keys.shape[1]):
            column, column_owners = keys[:, band], owners
            if self.keys and len(self.keys) > band:
                column = np.concatenate((self.keys[band], column))
                column_owners = np.concatenate((self.owners[band], owners))
            order = np.argsort(column, kind="stable")
            if len(self.keys) > band:
                self.keys[band], self.owners[band] = column[order], column_owners[order]
            else:
                self.keys.append(column[order])
                self.owners.append(column_owners[order])

    def find(self, keys: HashArray) -> set[int]:
        """Texts that share a band with one text's keys, shape (bands,)."""
        found: set[int] = set()
        for column, owners, key in zip(self.keys, self.owners, keys, strict=False):
            left = int(np.searchsorted(column, key, side="left"))
            while left < len(column) and column[left] == key:
                found.add(int(owners[left]))
                left += 1
        return found


class NearDuplicateIndex:
    """An index that grows: add texts one by one or in bulk, and ask for the most similar one.

    Memory is about 4 bytes a shingle and 400 bytes a text.
    """

    def __init__(self, threshold: float = 0.8, boilerplate: Boilerplate | None = None) -> None:
        """An empty index.

        Args:
            threshold: Jaccard similarity, above 0 and up to 1, from which texts match.
            boilerplate: wording to leave out of every text.
        """
        self.threshold = threshold
        self._boilerplate = boilerplate or Boilerplate.none()
        self._hasher = MinHasher.for_threshold(threshold)
        self._names: list[str] = []
        self._sets: list[npt.NDArray[np.uint32]] = []
        self._sealed = _Sealed()
        self._sealed_count = 0
        self._recent_keys: list[HashArray] = []
        self._recent: list[dict[int, list[int]]] = [{} for _ in range(self._hasher.bands.number)]

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, text: str) -> None:
        """Index one text under a name."""
        shingles = shingle_set(text, self._boilerplate)
        self._append(name, shingles, self._hasher.band_keys([shingles])[0])

    def add_many(self, items: Iterable[tuple[str, str]]) -> None:
        """Index (name, text) pairs; several times faster than `add` for thousands."""
        self._seal()
        names: list[str] = []
        sets: list[npt.NDArray[np.uint32]] = []
        columns: list[HashArray] = []
        for name, text in items:
            names.append(name)
            sets.append(shingle_set(text, self._boilerplate))
            if len(sets) % _BATCH == 0:
                columns.append(self._hasher.band_keys(sets[-_BATCH:]))
        rest = len(sets) % _BATCH
        if rest:
            columns.append(self._hasher.band_keys(sets[-rest:]))
        if not columns:
            return
        self._names += names
        self._sets += sets
        self._sealed.merge(np.concatenate(columns), self._sealed_count)
        self._sealed_count = len(self._names)

    def query(self, text: str) -> Match | None:
        """The most similar indexed text that reaches the threshold; the earliest of equals."""
        shingles = shingle_set(text, self._boilerplate)
        return self._best(shingles, self._hasher.band_keys([shingles])[0])

    def query_or_add(self, name: str, text: str) -> Match | None:
        """The most similar text, or None, and then the text is indexed."""
        shingles = shingle_set(text, self._boilerplate)
        keys = self._hasher.band_keys([shingles])[0]
        match = self._best(shingles, keys)
        if match is None:
            self._append(name, shingles, keys)
        return match

    def _best(self, shingles: npt.NDArray[np.uint32], keys: HashArray) -> Match | None:
        found = self._sealed.find(keys)
        for buckets, key in zip(self._recent, keys.tolist(), strict=True):
            found.update(buckets.get(key, ()))
        best: Match | None = None
        for owner in sorted(found):
            similarity = jaccard(self._sets[owner], shingles)
            if similarity >= self.threshold and (best is None or similarity > best.similarity):
                best = Match(self._names[owner], similarity)
        return best

    def _append(self, name: str, shingles: npt.NDArray[np.uint32], keys: HashArray) -> None:
        owner = len(self._names)
        self._names.append(name)
        self._sets.append(shingles)
        self._recent_keys.append(keys)
        for buckets, key in zip(self._recent, keys.tolist(), strict=True):
            buckets.setdefault(key, []).append(owner)
        # Merging costs the whole index: wait for a share of it, so that growing stays linear.
        if len(self._recent_keys) >= max(_SEAL_AT, self._sealed_count // 4):
            self._seal()

    def _seal(self) -> None:
        if not self._recent_keys:
            return
        self._sealed.merge(np.stack(self._recent_keys), self._sealed_count)
        self._sealed_count = len(self._names)
        self._recent_keys.clear()
        for buckets in self._recent:
            buckets.clear()
