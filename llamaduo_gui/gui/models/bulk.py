"""Reading many rows at once without the pauses of the cycle collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bulk_read() -> Iterator[None]:
    """Hold the cycle collector off while plain rows are read, in whatever thread.

    Rows have no cycles, and each full collection among a million of them stops every thread:
    reading 100k judged responses took 20 s with stops of 1 s, and takes 9 s with stops of 0.4.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
