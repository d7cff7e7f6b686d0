"""Groups of texts that are about the same thing: spherical k-means on hashed TF-IDF vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llamaduo_gui.data.vectors import Vectors, closeness, scale

_ITERATIONS = 25
_CANDIDATES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """The middles of the groups, shape (clusters, dimensions)."""

    centres: Vectors

    def __len__(self) -> int:
        return len(self.centres)

    @classmethod
    def find(cls, vectors: Vectors, count: int, seed: int) -> Clusters:
        """Group vectors (Dhillon and Modha 2001); the same groups for the same seed, always.

        Args:
            vectors: at least one, shape (texts, dimensions).
            count: groups wanted; there are fewer if the texts are fewer.
            seed: of the first centres, drawn far from one another (Arthur and Vassilvitskii 2007).
        """
        centres = _first_centres(vectors, min(count, len(vectors)), seed)
        members = closeness(vectors, centres).argmax(axis=1)
        for _ in range(_ITERATIONS):
            for number in np.unique(members):
                total = vectors[members == number].sum(axis=0, dtype=np.int64)
                centres[number] = scale(total[np.newaxis].astype(np.float64))[0]
            before, members = members, closeness(vectors, centres).argmax(axis=1)
            if np.array_equal(before, members):
                break
        return cls(centres)

    def assign(self, vectors: Vectors) -> npt.NDArray[np.intp]:
        """Number of the closest group of each vector, the first of equals."""
        numbers: npt.NDArray[np.intp] = closeness(vectors, self.centres).argmax(axis=1)
        return numbers


def _first_centres(vectors: Vectors, count: int, seed: int) -> Vectors:
    """Centres far from one another: each is the best of a few drawn by their distance."""
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(vectors)))]
    best = closeness(vectors, vectors[chosen])[:, 0].astype(np.float64)
    while len(chosen) < count:
        # Squared distance of vectors of one length, up to a factor.
        distances = np.maximum(0.0, best.max() - best)
        total = distances.sum()
        if total <= 0:
            break
        drawn = rng.choice(len(vectors), size=_CANDIDATES, p=distances / total)
        closer = np.maximum(best[:, np.newaxis], closeness(vectors, vectors[drawn]))
        place = int(closer.sum(axis=0).argmax())
        chosen.append(int(drawn[place]))
        best = closer[:, place]
    return vectors[chosen]
