"""Chooses next tokens from logits with numpy: what `sampling` does with torch, without loading it.

The streams of random numbers are not torch's, so one seed gives two different draws in the two
backends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

_SMALLEST_NOISE = np.float32(1e-30)


def choose_tokens(
    logits: Float32,
    generators: Sequence[np.random.Generator],
    *,
    temperature: float,
    top_p: float,
    top_k: int = 0,
) -> list[int]:
    """The next token of each row, by an exponential race: the largest p_i / e_i wins.

    With e_i drawn from Exp(1), token i wins with probability p_i, and a rounding error in the
    logits changes the winner about as rarely as is possible at all (see `sampling.pick_tokens`).

    Args:
        logits: (rows, vocabulary).
        generators: one a row; each is advanced by one draw.
        temperature: 0 takes the likeliest token and draws nothing.
        top_p: draw from the likeliest tokens that together have this probability.
        top_k: draw from this many likeliest tokens; 0 for all.
    """
    if temperature == 0:
        return [int(token) for token in logits.argmax(axis=-1)]
    scaled = logits / np.float32(temperature)
    if 0 < top_k < scaled.shape[-1]:
        threshold = np.partition(scaled, -top_k, axis=-1)[:, -top_k, None]
        scaled = np.where(scaled < threshold, np.float32(-np.inf), scaled)
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    if top_p < 1:
        weights = _keep_nucleus(weights, top_p)
    size = weights.shape[-1]
    noise = np.stack([item.standard_exponential(size, dtype=np.float32) for item in generators])
    winners = (weights / np.maximum(noise, _SMALLEST_NOISE)).argmax(axis=-1)
    return [int(token) for token in winners]


def _keep_nucleus(weights: Float32, top_p: float) -> Float32:
    """Zero what lies beyond the smallest set of likeliest tokens that reaches `top_p`."""
    order = np.argsort(-weights, axis=-1, kind="stable")
    ordered = np.take_along_axis(weights, order, axis=-1)
    before = ordered.cumsum(axis=-1) - ordered
    is_kept = before < top_p * ordered.sum(axis=-1, keepdims=True)
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, order, np.where(is_kept, ordered, np.float32(0)), axis=-1)
    return kept
