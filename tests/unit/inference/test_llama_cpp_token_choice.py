"""Tests of choosing tokens with numpy: the right shares, limits, and one stream a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llamaduo_gui.inference import sampling
from llamaduo_gui.inference.token_choice import choose_tokens


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    """One stream a row."""
    return [np.random.default_rng([seed, row]) for row in range(count)]


def rows(logits: list[float], count: int) -> np.ndarray:
    """The same logits on every row."""
    return np.array([logits], dtype=np.float32).repeat(count, axis=0)


def test_draws_follow_the_probabilities() -> None:
    logits = rows(np.log([0.5, 0.3, 0.2]).tolist(), 20_000)
    found = choose_tokens(logits, generators(20_000), temperature=1.0, top_p=1.0)
    counts = np.bincount(found, minlength=3)
    np.testing.assert_allclose(counts / 20_000, [0.5, 0.3, 0.2], atol=0.015)


def test_temperature_zero_takes_the_likeliest_and_draws_nothing() -> None:
    streams = generators(3)
    assert choose_tokens(rows([1, 3, 2], 3), streams, temperature=0, top_p=0.1) == [1, 1, 1]
    assert streams[0].random() == generators(3)[0].random()


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.99, 1.0])
def test_top_p_keeps_the_tokens_that_the_transformers_backend_keeps(top_p: float) -> None:
    logits = np.random.default_rng(1).normal(size=12).astype(np.float32) * 2
    found = choose_tokens(rows(logits.tolist(), 4000), generators(4000), temperature=3, top_p=top_p)
    streams = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    theirs = sampling.pick_tokens(
        torch.from_numpy(logits).repeat(4000, 1), streams, temperature=3, top_p=top_p
    )
    assert set(found) == set(theirs.tolist())
    shares = np.bincount(found, minlength=12) / 4000
    expected = np.bincount(theirs.numpy(), minlength=12) / 4000
    np.testing.assert_allclose(shares, expected, atol=0.04)


def test_top_k_keeps_only_the_likeliest() -> None:
    logits = rows([1.0, 3.0, 2.0, -1.0], 500)
    found = choose_tokens(logits, generators(500), temperature=5.0, top_p=1.0, top_k=2)
    assert set(found) == {1, 2}
    found = choose_tokens(logits, generators(500), temperature=5.0, top_p=1.0)
    assert set(found) == {0, 1, 2, 3}


def test_a_token_of_probability_zero_is_never_chosen() -> None:
    logits = rows([0.0, -np.inf, -np.inf], 2000)
    assert set(choose_tokens(logits, generators(2000), temperature=2.0, top_p=1.0)) == {0}


def test_a_row_depends_on_its_own_stream_only() -> None:
    logits = np.random.default_rng(5).normal(size=(6, 50)).astype(np.float32)
    together = choose_tokens(logits, generators(6), temperature=1.0, top_p=0.9)
    alone = [
        choose_tokens(logits[row : row + 1], [generators(6)[row]], temperature=1.0, top_p=0.9)[0]
        for row in range(6)
    ]
    assert together == alone
    assert len(set(choose_tokens(rows([0.0] * 50, 6), generators(6), temperature=1, top_p=1))) > 3
