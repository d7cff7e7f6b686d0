"""Chooses next tokens from logits with numpy, by the same draws as the transformers backend.

The same seed therefore answers alike from the trained weights and from the GGUF made of them, as
far as their logits agree, which makes the comparison of the two sharper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def draw_uniforms(seed: int, length: int) -> Float64:
    """Random numbers in [0, 1), one for each token to come; a longer draw starts the same."""
    return np.random.default_rng(seed).random(length)


def choose_tokens(
    logits: Float32,
    uniforms: Sequence[float] | Float64,
    *,
    temperature: float,
    top_p: float,
    top_k: int = 0,
) -> list[int]:
    """The next token of each row, by inversion of the cumulative distribution.

    Args:
        logits: (rows, vocabulary).
        uniforms: (rows,), in [0, 1).
        temperature: 0 takes the likeliest token.
        top_p: draw from the likeliest tokens that together have this probability.
        top_k: draw from this many likeliest tokens; 0 for all.
    """
    if temperature == 0:
        return [int(token) for token in logits.argmax(axis=-1)]
    scaled = logits.astype(np.float64) / temperature
    if 0 < top_k < scaled.shape[-1]:
        threshold = np.partition(scaled, -top_k, axis=-1)[:, -top_k, None]
        scaled = np.where(scaled < threshold, -np.inf, scaled)
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    if top_p < 1:
        weights = _keep_nucleus(weights, top_p)
    cumulative = weights.cumsum(axis=-1)
    chosen = []
    for row, uniform in zip(cumulative, uniforms, strict=True):
        # `right` never lands on a token of weight 0.
        token = int(np.searchsorted(row, uniform * row[-1], side="right"))
        chosen.append(min(token, row.size - 1))
    return chosen


def _keep_nucleus(weights: Float64, top_p: float) -> Float64:
    """Zero what lies beyond the smallest set of likeliest tokens that reaches `top_p`."""
    order = np.argsort(-weights, axis=-1, kind="stable")
    ordered = np.take_along_axis(weights, order, axis=-1)
    before = ordered.cumsum(axis=-1) - ordered
    is_kept = before < top_p * ordered.sum(axis=-1, keepdims=True)
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, order, np.where(is_kept, ordered, 0.0), axis=-1)
    return kept
