"""How much memory answering takes, and how many tokens and rows of a batch fit: pure functions."""

from __future__ import annotations

from dataclasses import dataclass

CACHE_SHARE = 0.25
"""Part of the free memory that keys and values may take: appending a token copies them, and a
prompt's activations need room too."""

LOGITS_SHARE = 0.1
# Next-token scores, probabilities, noise and their quotient, each in float32.
_LOGITS_COPIES = 5
_FEWEST_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The largest batch: `tokens` of prompts and answers together, and `rows` of responses."""

    tokens: int
    rows: int


def cache_bytes_per_token(layers: int, key_value_width: int, bytes_each: float = 2.0) -> float:
    """Bytes of the keys and values of one token of one response.

    Args:
        layers: blocks of the model. Layers with a sliding window keep fewer tokens, which is
            not taken into account: an upper bound.
        key_value_width: key heads times their width.
        bytes_each: 2 in 16-bit formats, 4 in float32.
    """
    return 2.0 * layers * key_value_width * bytes_each


def fitting_batch(
    free_bytes: float, bytes_per_token: float, vocabulary: int, *, most_rows: int
) -> BatchLimits:
    """The largest batch whose cache and logits fit into their shares of the free memory.

    Args:
        free_bytes: free once the weights are loaded.
        bytes_per_token: see `cache_bytes_per_token`.
        vocabulary: rows of the output layer.
        most_rows: beyond which a device gets no faster.

    Returns:
        At least 1,024 tokens and one row: whether that fits is found out by trying.
    """
    tokens = int(free_bytes * CACHE_SHARE / bytes_per_token)
    rows = int(free_bytes * LOGITS_SHARE / (4.0 * _LOGITS_COPIES * vocabulary))
    return BatchLimits(max(_FEWEST_TOKENS, tokens), max(1, min(most_rows, rows)))


def batch_bytes(rows: int, length: int, bytes_per_token: float, vocabulary: int) -> float:
    """Memory a batch takes beside the weights, at its end: the cache twice, and the logits."""
    return 2.0 * rows * length * bytes_per_token + 4.0 * _LOGITS_COPIES * rows * vocabulary
