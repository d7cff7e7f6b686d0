"""Which prompts belong together: they share a long passage, or are near-duplicates.

Questions about one text must not be split: a model that has seen the passage in training is not
tested on it. Prompts are joined that

- share a run of `RUN` tokens, or
- are near-duplicates: Jaccard of word 3-grams of `NEAR` or more.

Wording that many prompts share is their template, not a passage, and joins nothing: a run in more
than a third of all prompts, or in more than half of a category of ten or more. (A category whose
prompts are all about one passage cannot be told from one with a template, and is not joined.)
Joining goes on through chains, so a group can become large; one of more than a third of all
prompts leaves nothing to split and is taken apart again, which is counted and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from llamaduo_gui.data.boilerplate import Boilerplate
from llamaduo_gui.data.minhash import MinHasher
from llamaduo_gui.data.shingles import shingle_set
from llamaduo_gui.data.similarity import jaccard
from llamaduo_gui.data.text import HashArray, hash_ngrams, hash_tokens, tokenise

RUN = 30
NEAR = 0.8
MAX_SHARE = 1 / 3
_CATEGORY_SHARE = 0.5
_MIN_CATEGORY = 10
# Fewer shingles of its own say too little: "refund order 12" and "refund order 13" are two prompts.
_MIN_SHINGLES = 6
# 8 bytes a run, 4 a shingle: 100 MB for about 40 MB of prompts. More are not compared.
_MAX_TOKENS = 8_000_000
_MAX_BUCKET = 64

Shingles = npt.NDArray[np.uint32]
_Hash = TypeVar("_Hash", np.uint32, np.uint64)


@dataclass(frozen=True, slots=True)
class Groups:
    """Which prompts belong together.

    Attributes:
        members: the group of each prompt, as the number of its first prompt.
        near_duplicates: prompts that are near-duplicates of another.
        too_large: prompts of groups that were taken apart.
        is_complete: False if there is too much text to compare.
    """

    members: list[int]
    near_duplicates: int = 0
    too_large: int = 0
    is_complete: bool = True


class PassageFinder:
    """Takes in distinct prompts one by one, then says which belong together."""

    def __init__(self) -> None:
        self._categories: list[str] = []
        self._runs: list[HashArray] = []
        self._sets: list[Shingles] = []
        self._tokens = 0

    def add(self, text: str, category: str) -> None:
        """Take in the next prompt."""
        self._categories.append(category)
        if self._tokens > _MAX_TOKENS:
            return
        hashes = hash_tokens(tokenise(text))
        self._tokens += len(hashes)
        if self._tokens > _MAX_TOKENS:
            self._runs.clear()
            self._sets.clear()
            return
        self._runs.append(np.unique(hash_ngrams(hashes, RUN)))
        self._sets.append(shingle_set(text, Boilerplate.none()))

    def groups(self) -> Groups:
        """Which of the prompts taken in so far belong together."""
        count = len(self._categories)
        if self._tokens > _MAX_TOKENS:
            return Groups(list(range(count)), is_complete=False)
        forest = _Forest(count)
        forest.join(_owners_of_equal(self._without_templates()))
        near = _near_pairs(_own_shingles(self._sets))
        forest.join(near)
        roots = forest.roots()
        sizes = np.bincount(roots, minlength=count) if count else np.zeros(0, np.int64)
        is_large = sizes[roots] > max(1.0, MAX_SHARE * count)
        members = [
            number if is_large[number] else int(root) for number, root in enumerate(roots.tolist())
        ]
        found = {number for one, other in near for number in (one, other)}
        return Groups(members, len(found), int(is_large.sum()))

    def _without_templates(self) -> list[HashArray]:
        """The runs of each prompt less those of a template."""
        count = len(self._runs)
        by_category: dict[str, list[HashArray]] = {}
        for category, runs in zip(self._categories, self._runs, strict=True):
            by_category.setdefault(category, []).append(runs)
        templates = [_frequent(self._runs, MAX_SHARE * count)]
        templates += [
            _frequent(group, _CATEGORY_SHARE * len(group))
            for group in by_category.values()
            if len(group) >= _MIN_CATEGORY
        ]
        return _less(self._runs, np.concatenate(templates))


class _Forest:
    """Disjoint sets of numbers; each is known by its smallest member."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def join(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Put the two of each pair into one set."""
        for one, other in pairs:
            low, high = sorted((self._root(one), self._root(other)))
            self._parents[high] = low

    def roots(self) -> npt.NDArray[np.int64]:
        """The set of each number."""
        return np.array([self._root(number) for number in range(len(self._parents))], np.int64)

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number


def _frequent(group: Sequence[HashArray], limit: float) -> HashArray:
    values, counts = np.unique(np.concatenate(group), return_counts=True)
    found: HashArray = values[counts > max(1.0, limit)]
    return found


def _owners_of_equal(columns: Sequence[HashArray]) -> set[tuple[int, int]]:
    """Pairs of neighbours among the owners of each value, enough to join all its owners."""
    lengths = [len(column) for column in columns]
    if not sum(lengths):
        return set()
    values = np.concatenate(columns)
    owners = np.repeat(np.arange(len(columns)), lengths)
    order = np.argsort(values, kind="stable")
    values, owners = values[order], owners[order]
    is_same = values[1:] == values[:-1]
    pairs = np.unique(np.stack((owners[:-1][is_same], owners[1:][is_same])), axis=1)
    return {(int(one), int(other)) for one, other in pairs.T}


def _own_shingles(sets: Sequence[Shingles]) -> list[Shingles]:
    """Sets less the shingles of a template, which more than a third of the prompts have."""
    if not sets:
        return []
    values, counts = np.unique(np.concatenate(list(sets)), return_counts=True)
    common = values[counts > max(1.0, MAX_SHARE * len(sets))]
    return _less(sets, common)


def _less(
    columns: Sequence[npt.NDArray[_Hash]], common: npt.NDArray[_Hash]
) -> list[npt.NDArray[_Hash]]:
    """Each set without the common values."""
    if not len(common):
        return list(columns)
    return [column[~np.isin(column, common)] for column in columns]


def _near_pairs(sets: Sequence[Shingles]) -> set[tuple[int, int]]:
    """Pairs of near-duplicates, by MinHash bands with an exact re-check."""
    numbers = [number for number, own in enumerate(sets) if len(own) >= _MIN_SHINGLES]
    if len(numbers) < 2:
        return set()
    keys = MinHasher.for_threshold(NEAR).band_keys([sets[number] for number in numbers])
    found: set[tuple[int, int]] = set()
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        column = keys[order, band]
        edges = np.flatnonzero(column[1:] != column[:-1]) + 1
        for bucket in np.split(order, edges):
            if len(bucket) > 1:
                found |= _near_in_bucket([numbers[place] for place in bucket.tolist()], sets, found)
    return found


def _near_in_bucket(
    bucket: Sequence[int], sets: Sequence[Shingles], known: set[tuple[int, int]]
) -> set[tuple[int, int]]:
    # A crowded bucket holds copies with small changes: each is compared with the next few.
    found = set()
    for place, one in enumerate(bucket):
        for other in bucket[place + 1 : place + 1 + _MAX_BUCKET]:
            if (one, other) not in known and jaccard(sets[one], sets[other]) >= NEAR:
                found.add((one, other))
    return found
