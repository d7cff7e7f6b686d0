"""A text as the set of its word 3-grams, without its boilerplate: what near-duplicates share.

A text of one or two tokens is one shingle, so it only matches a text of the same tokens. Shingles
are 32-bit hashes: two different ones are taken for one about once in four billion.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from llamaduo_gui.data.boilerplate import Boilerplate
from llamaduo_gui.data.minhash import MinHasher
from llamaduo_gui.data.text import HashArray, hash_ngrams, hash_tokens, tokenise
from llamaduo_gui.data.token_batches import cut_batches, tokenise_batch

SHINGLE_SIZE = 3
_UPPER = np.uint64(32)
_MAX_THREADS = 8

ShingleSet = npt.NDArray[np.uint32]


def shingle_set(text: str, boilerplate: Boilerplate) -> ShingleSet:
    """Hashed shingles of a text without its boilerplate: sorted, no repeats, never empty."""
    own = boilerplate.strip_hashes(hash_tokens(tokenise(text)))
    if not len(own):
        return np.zeros(1, np.uint32)
    hashes = hash_ngrams(own, min(SHINGLE_SIZE, len(own)))
    values = (hashes >> _UPPER).astype(np.uint32)
    values.sort()
    return values[_is_first(values)]


def shingle_sets(texts: Sequence[str], boilerplate: Boilerplate) -> list[ShingleSet]:
    """`shingle_set` of each text, all at once; the sets are views of one array."""
    batch = boilerplate.strip_batch(tokenise_batch(texts))
    owners, lengths = batch.owners().astype(np.uint64), batch.lengths
    parts = []
    is_run = batch.has_run(SHINGLE_SIZE)
    runs = hash_ngrams(batch.hashes, SHINGLE_SIZE)[is_run]
    parts.append((owners[: len(is_run)][is_run] << _UPPER) | (runs >> _UPPER))
    for size in range(SHINGLE_SIZE):
        short = np.flatnonzero(lengths == size)
        if len(short):
            starts = batch.offsets[short]
            hashes = (
                hash_ngrams(batch.hashes, size)[starts] if size else np.zeros(len(short), np.uint64)
            )
            parts.append((short.astype(np.uint64) << _UPPER) | (hashes >> _UPPER))
    keys = np.concatenate(parts)
    keys.sort()
    keys = keys[_is_first(keys)]
    bounds = np.searchsorted(keys, np.arange(len(texts) + 1, dtype=np.uint64) << _UPPER).tolist()
    values = keys.astype(np.uint32)
    return [values[start:end] for start, end in itertools.pairwise(bounds)]


def hash_texts(
    texts: Iterable[str], boilerplate: Boilerplate, hasher: MinHasher
) -> Iterator[tuple[list[ShingleSet], HashArray]]:
    """Shingle sets and band keys of many texts, batch by batch in order, on all cores.

    Args:
        texts: taken from the iterable a few batches ahead, so that a corpus can be streamed.
        boilerplate: wording to leave out.
        hasher: makes the keys.

    Yields:
        The sets of some texts and their keys, shape (texts, bands).
    """

    def work(batch: Sequence[str]) -> tuple[list[ShingleSet], HashArray]:
        sets = shingle_sets(batch, boilerplate)
        return sets, hasher.band_keys(sets)

    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    waiting: deque[Future[tuple[list[ShingleSet], HashArray]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="shingles") as pool:
        for batch in cut_batches(texts):
            waiting.append(pool.submit(work, batch))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _is_first(values: npt.NDArray[np.uint32] | HashArray) -> npt.NDArray[np.bool_]:
    """Which of sorted values differ from the one before."""
    is_first = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return is_first
