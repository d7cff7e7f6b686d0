"""What answering takes of memory, and the batch that fits."""

from __future__ import annotations

import pytest

from llamaduo_gui.core.generation_memory import (
    BatchLimits,
    batch_bytes,
    cache_bytes_per_token,
    fitting_batch,
)

GIB = 2**30


def test_the_cache_of_llama_3_8b_takes_128_kib_a_token() -> None:
    assert cache_bytes_per_token(32, 8 * 128) == 128 * 1024
    assert cache_bytes_per_token(32, 8 * 128, 4) == 256 * 1024


def test_a_batch_that_fits_takes_less_than_what_is_free() -> None:
    per_token = cache_bytes_per_token(32, 8 * 128)
    limits = fitting_batch(20 * GIB, per_token, 128_256, most_rows=256)
    assert limits == BatchLimits(tokens=40_960, rows=256)
    length = limits.tokens // limits.rows
    assert batch_bytes(limits.rows, length, per_token, 128_256) < 20 * GIB


def test_a_large_vocabulary_limits_the_rows() -> None:
    limits = fitting_batch(1 * GIB, 1000.0, 256_000, most_rows=256)
    assert limits.rows == 20


@pytest.mark.parametrize("free", [0, 1000])
def test_without_memory_a_little_is_tried_all_the_same(free: int) -> None:
    assert fitting_batch(free, 1000.0, 32_000, most_rows=64) == BatchLimits(1024, 1)
