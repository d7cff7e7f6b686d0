"""How alike two texts are: Jaccard similarity of hashed sets and ROUGE-L of token sequences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def jaccard(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> float:
    """Shared share of two sets, 0..1; two empty sets count as equal.

    Args:
        left: sorted values without repeats.
        right: sorted values without repeats.
    """
    if not len(left) and not len(right):
        return 1.0
    few, many = (left, right) if len(left) <= len(right) else (right, left)
    if not len(few):
        return 0.0
    places = np.minimum(np.searchsorted(many, few), len(many) - 1)
    shared = int(np.count_nonzero(many[places] == few))
    return shared / (len(left) + len(right) - shared)


def lcs_length(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence of two token sequences.

    Bit-parallel (Hyyro, "Bit-parallel LCS-length computation revisited", 2004): one addition of
    len(left)-bit integers a token of `right`, about 0.1 ms for two texts of 300 tokens.
    """
    positions: defaultdict[str, int] = defaultdict(int)
    for index, token in enumerate(left):
        positions[token] |= 1 << index
    mask = (1 << len(left)) - 1
    state = mask
    for token in right:
        matches = state & positions.get(token, 0)
        state = ((state + matches) | (state - matches)) & mask
    return len(left) - state.bit_count()


def rouge_l(left: Sequence[str], right: Sequence[str]) -> float:
    """ROUGE-L F1 of two token sequences, 0..1 (Lin 2004, with beta 1); 0 if either is empty."""
    if not left or not right:
        return 0.0
    shared = lcs_length(left, right)
    return 2 * shared / (len(left) + len(right))
