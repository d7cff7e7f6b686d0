"""Wording that a dataset's prompts share (instructions, templates), so that it can be discounted.

Prompts of one task often begin with the same instruction. Compared as they are, two different
customer messages under one long instruction are near-duplicates and share 13-grams with every
test prompt, and all synthetic data would be thrown away. So the wording that many *training*
prompts share is learned once and left out of every later comparison: near-duplicates, ROUGE-L to
the seed, and contamination. Validation and test prompts are never learned from; wording that only
they share is not boilerplate.

A run of `SIZE` tokens is frequent when it is in at least `MIN_SHARE` of the distinct training
prompts of one category, or of all, and in at least `MIN_PROMPTS` of them. Tokens inside a frequent
run are boilerplate, except where its frequency drops to less than half of its neighbour's: there
the template ends and a common beginning follows ("... the intent label only. Message: how do I"),
and a run across that edge belongs to neither. Shared wording shorter than `SIZE` tokens is left
in: it is too little to make two texts alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llamaduo_gui.data.text import HashArray, hash_ngrams, hash_tokens, text_key, tokenise
from llamaduo_gui.data.token_batches import TokenBatch

SIZE = 5
MIN_SHARE = 0.1
MIN_PROMPTS = 8
# Shares are estimated well enough from this many prompts; more would only cost memory.
MAX_PROMPTS = 20_000
_EDGE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Boilerplate:
    """The frequent runs of a dataset.

    Attributes:
        runs: hashes of the frequent runs, sorted.
        counts: in how many prompts each is.
    """

    runs: HashArray
    counts: npt.NDArray[np.int64]

    @classmethod
    def none(cls) -> Boilerplate:
        """No boilerplate: every token counts."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.int64))

    def strip(self, tokens: Sequence[str]) -> list[str]:
        """The tokens that are the text's own, in order; all of them if it has none of its own."""
        own = self.own_mask(hash_tokens(tokens))
        if own is None:
            return list(tokens)
        return [token for token, is_own in zip(tokens, own, strict=True) if is_own]

    def strip_hashes(self, hashes: HashArray) -> HashArray:
        """`strip` for token hashes."""
        own = self.own_mask(hashes)
        return hashes if own is None else hashes[own]

    def strip_batch(self, batch: TokenBatch) -> TokenBatch:
        """`strip_hashes` for many texts at once."""
        if not len(self.runs):
            return batch
        counts = np.where(batch.has_run(SIZE), self._counts(batch.hashes), 0)
        if not counts.any():
            return batch
        # Between the frequent runs of two texts are SIZE - 1 places without one, so that the
        # edge of one text's template reaches no run of another text.
        own = _uncovered(counts, len(batch.hashes))
        kept = np.concatenate((np.zeros(1, np.int64), np.cumsum(own, dtype=np.int64)))
        has_own = np.diff(kept[batch.offsets]) > 0
        return batch.keep(own | ~np.repeat(has_own, batch.lengths))

    def own_mask(self, hashes: HashArray) -> npt.NDArray[np.bool_] | None:
        """Which tokens are not boilerplate; None if all count (nothing, or everything, is)."""
        if not len(self.runs) or len(hashes) < SIZE:
            return None
        counts = self._counts(hashes)
        if not counts.any():
            return None
        own = _uncovered(counts, len(hashes))
        return own if own.any() and not own.all() else None

    def _counts(self, hashes: HashArray) -> npt.NDArray[np.int64]:
        """In how many prompts the run that begins at each token is, 0 if it is not frequent."""
        runs = hash_ngrams(hashes, SIZE)
        places = np.minimum(np.searchsorted(self.runs, runs), len(self.runs) - 1)
        return np.where(self.runs[places] == runs, self.counts[places], 0)


def _uncovered(counts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.bool_]:
    """Which of `length` tokens are in no frequent run."""
    covering = _without_edges(counts)
    starts = np.zeros(length + 1, np.int64)
    starts[: len(covering)] += covering
    starts[SIZE : SIZE + len(covering)] -= covering
    result: npt.NDArray[np.bool_] = np.cumsum(starts)[:-1] == 0
    return result


def _without_edges(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Frequent runs, less those that cross the edge of a template."""
    frequent = counts > 0
    before, after = counts[:-1], counts[1:]
    both = (before > 0) & (after > 0)
    kept: npt.NDArray[np.bool_] = frequent.copy()
    # A drop from run i-1 to run i: token i + SIZE - 1 is the first outside, in runs i..i+SIZE-2.
    for index in np.flatnonzero(both & (after < _EDGE * before)) + 1:
        kept[index : index + SIZE - 1] = False
    # A rise from run i to run i+1: token i is the last outside, in runs i-SIZE+2..i.
    for index in np.flatnonzero(both & (before < _EDGE * after)):
        kept[max(0, index - SIZE + 2) : index + 1] = False
    return kept


def learn_boilerplate(texts: Sequence[str], categories: Sequence[str] | None = None) -> Boilerplate:
    """Find the wording shared by many of the texts; repeats of a text count once.

    The result does not depend on the order of the texts.

    Args:
        texts: training prompts (or responses).
        categories: the category of each text; without them all are one.
    """
    names = categories if categories is not None else [""] * len(texts)
    distinct = {text_key(text): (name, text) for name, text in zip(names, texts, strict=True)}
    by_category: dict[str, list[HashArray]] = {}
    for key in sorted(distinct)[:MAX_PROMPTS]:
        name, text = distinct[key]
        runs = np.unique(hash_ngrams(hash_tokens(tokenise(text)), SIZE))
        by_category.setdefault(name, []).append(runs)
    if not by_category:
        return Boilerplate.none()
    everything = [runs for group in by_category.values() for runs in group]
    frequent = [_frequent(group) for group in (everything, *by_category.values())]
    all_runs, all_counts = np.unique(np.concatenate(everything), return_counts=True)
    is_frequent = np.isin(all_runs, np.concatenate(frequent), assume_unique=False)
    return Boilerplate(all_runs[is_frequent], all_counts[is_frequent].astype(np.int64))


def _frequent(group: Sequence[HashArray]) -> HashArray:
    runs, counts = np.unique(np.concatenate(group), return_counts=True)
    frequent: HashArray = runs[counts >= max(MIN_PROMPTS, math.ceil(MIN_SHARE * len(group)))]
    return frequent
