"""Duplicates: exact by normalised text, near-duplicates by MinHash LSH with an exact re-check.

A text is the set of its word 3-grams (`shingles`), after the dataset's boilerplate is left out; two
texts are near-duplicates when the Jaccard similarity of their sets reaches the threshold. Texts of
up to six tokens have at most four shingles, and one differing word takes them below 0.8. MinHash
only proposes candidates: whether a pair counts is decided on the sets themselves, and precision
is 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from llamaduo_gui.data.boilerplate import Boilerplate
from llamaduo_gui.data.minhash import MinHasher
from llamaduo_gui.data.shingles import ShingleSet, hash_texts, shingle_set
from llamaduo_gui.data.similarity import jaccard
from llamaduo_gui.data.text import HashArray, text_key

# Texts added one by one wait in dictionaries; this many at once are worth sorting into arrays.
_SEAL_AT = 4096


@dataclass(frozen=True, slots=True)
class Match:
    """An indexed text and how similar it is, 0..1."""

    name: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Text `index` is a near-duplicate of the earlier text `of`; `similarity` is 0..1."""

    index: int
    of: int
    similarity: float


def find_duplicates(
    texts: Iterable[str], threshold: float = 0.8, boilerplate: Boilerplate | None = None
) -> list[Duplicate]:
    """The texts to leave out of a corpus so that no two near-duplicates are left.

    The same as asking an index about one text after the other and adding those that are new
    (`NearDuplicateIndex.query_or_add`), on all cores: 256,000 texts of 150 words take seconds.

    Args:
        texts: the corpus; streamed, memory is about 4 bytes a shingle and 200 bytes a text.
        threshold: Jaccard similarity, above 0 and up to 1, from which texts match.
        boilerplate: wording to leave out of every text.

    Returns:
        The later text of each pair with the most similar text that stays, by `index`.
    """
    hasher = MinHasher.for_threshold(threshold)
    sets: list[ShingleSet] = []
    columns: list[HashArray] = []
    for batch, keys in hash_texts(texts, boilerplate or Boilerplate.none(), hasher):
        sets += batch
        columns.append(keys)
    if not sets:
        return []
    keys = np.concatenate(columns)
    columns.clear()
    is_shared = _is_shared(keys)
    buckets: dict[tuple[int, int], list[int]] = {}
    found: list[Duplicate] = []
    for index in np.flatnonzero(is_shared.any(axis=1)).tolist():
        own = [(band, int(keys[index, band])) for band in np.flatnonzero(is_shared[index]).tolist()]
        near = {other for key in own for other in buckets.get(key, ())}
        other, similarity = _most_similar(sets, sets[index], near)
        if similarity >= threshold:
            found.append(Duplicate(index, other, similarity))
            continue
        for key in own:
            buckets.setdefault(key, []).append(index)
    return found


def _is_shared(keys: HashArray) -> npt.NDArray[np.bool_]:
    """Which band keys another text has as well; shape as `keys`, (texts, bands)."""
    shared = np.zeros(keys.shape, np.bool_)
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        column = keys[order, band]
        is_equal = np.zeros(len(column) + 1, np.bool_)
        np.equal(column[1:], column[:-1], out=is_equal[1:-1])
        shared[order, band] = is_equal[1:] | is_equal[:-1]
    return shared


def _most_similar(
    sets: Sequence[ShingleSet], shingles: ShingleSet, others: Iterable[int]
) -> tuple[int, float]:
    """The text most like a set, the earliest of equals, and how alike; (-1, 0.0) if none is."""
    best = (-1, 0.0)
    for other in sorted(others):
        similarity = jaccard(sets[other], shingles)
        if similarity > best[1]:
            best = (other, similarity)
    return best


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
        self._sets: list[ShingleSet] = []
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

        def texts() -> Iterator[str]:
            for name, text in items:
                names.append(name)
                yield text

        columns: list[HashArray] = []
        for sets, keys in hash_texts(texts(), self._boilerplate, self._hasher):
            self._sets += sets
            columns.append(keys)
        if not columns:
            return
        self._names += names
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

    def _best(self, shingles: ShingleSet, keys: HashArray) -> Match | None:
        found = self._sealed.find(keys)
        for buckets, key in zip(self._recent, keys.tolist(), strict=True):
            found.update(buckets.get(key, ()))
        owner, similarity = _most_similar(self._sets, shingles, found)
        return Match(self._names[owner], similarity) if similarity >= self.threshold else None

    def _append(self, name: str, shingles: ShingleSet, keys: HashArray) -> None:
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
