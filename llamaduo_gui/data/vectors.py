"""Texts as vectors of hashed TF-IDF weights, for asking how far texts are from one another.

Vectors are whole numbers of at most 127 and about that length, so that every dot product is an
exact integer below 2**24: it comes out the same in float32 whatever order a library adds in, and
choices made from it are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llamaduo_gui.data.boilerplate import Boilerplate
from llamaduo_gui.data.text import HashArray, hash_tokens, tokenise

DIMENSIONS = 512
LENGTH = 127
_CHUNK = 4096

Vectors = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class TextSpace:
    """Turns texts into vectors by the words of the texts it was made from.

    Attributes:
        tokens: hashes of their tokens, sorted.
        weights: inverse document frequency of each; a token not among them weighs `unknown`.
    """

    tokens: HashArray
    weights: npt.NDArray[np.float64]
    unknown: float
    boilerplate: Boilerplate

    @classmethod
    def learn(cls, texts: Sequence[str], boilerplate: Boilerplate | None = None) -> TextSpace:
        """Weigh tokens by how few of the texts have them (Sparck Jones 1972, smoothed)."""
        stripped = boilerplate or Boilerplate.none()
        distinct = [np.unique(_own_hashes(text, stripped)) for text in texts]
        every = np.concatenate([np.empty(0, np.uint64), *distinct])
        tokens, counts = np.unique(every, return_counts=True)
        total = len(texts) + 1
        return cls(tokens, np.log(total / (counts + 1)) + 1, float(np.log(total) + 1), stripped)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (texts, DIMENSIONS); a text without tokens is all zeros."""
        encoded = np.zeros((len(texts), DIMENSIONS), np.int8)
        for row, text in enumerate(texts):
            encoded[row] = self._encode_one(_own_hashes(text, self.boilerplate))[0]
        return encoded

    def _encode_one(self, hashes: HashArray) -> Vectors:
        """A vector of shape (1, DIMENSIONS)."""
        distinct, counts = np.unique(hashes, return_counts=True)
        weights = (1 + np.log(counts)) * self._weights_of(distinct)
        # One bit of the hash is the sign, so that tokens that share a place cancel out on average.
        signs = np.where(distinct >> np.uint64(63), -1.0, 1.0)
        places = (distinct % np.uint64(DIMENSIONS)).astype(np.int64)
        values = np.zeros((1, DIMENSIONS))
        values[0] = np.bincount(places, weights * signs, DIMENSIONS)
        return scale(values)

    def _weights_of(self, hashes: HashArray) -> npt.NDArray[np.float64]:
        if not len(self.tokens):
            return np.full(len(hashes), self.unknown)
        places = np.minimum(np.searchsorted(self.tokens, hashes), len(self.tokens) - 1)
        return np.where(self.tokens[places] == hashes, self.weights[places], self.unknown)


def scale(values: npt.NDArray[np.float64]) -> Vectors:
    """Rows stretched to `LENGTH` and rounded; a row of zeros stays one."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    scaled = np.divide(values * LENGTH, lengths, out=np.zeros_like(values), where=lengths > 0)
    rounded: Vectors = np.rint(scaled).astype(np.int8)
    return rounded


def closeness(left: Vectors, right: Vectors) -> npt.NDArray[np.float32]:
    """Dot products of shape (left, right): about `LENGTH` squared times the cosine, exact."""
    result: npt.NDArray[np.float32] = left.astype(np.float32) @ right.astype(np.float32).T
    return result


def nearest(left: Vectors, right: Vectors) -> npt.NDArray[np.float32]:
    """Closeness of each left vector to the closest right one; zeros if there is none."""
    best = np.zeros(len(left), np.float32)
    for start in range(0, len(right), _CHUNK):
        block = closeness(left, right[start : start + _CHUNK])
        np.maximum(best, block.max(axis=1, initial=0), out=best)
    return best


def _own_hashes(text: str, boilerplate: Boilerplate) -> HashArray:
    return boilerplate.strip_hashes(hash_tokens(tokenise(text)))
