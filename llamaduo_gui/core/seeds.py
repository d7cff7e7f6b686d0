"""Derived random seeds, so that every step is reproducible and none repeats another's stream."""

from __future__ import annotations

import hashlib


def derive_seed(base: int, *parts: object) -> int:
    """A 31-bit seed that depends on `base` and on every part, in order.

    Resuming a stage derives the same seed for the same item, whatever was done before it.
    """
    text = "\x1f".join([str(base), *(str(part) for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF
