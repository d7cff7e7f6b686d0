"""Tests that the draws of the llama.cpp backend are those of the transformers backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llamaduo_gui.inference import sampling
from llamaduo_gui.inference.token_choice import choose_tokens, draw_uniforms


@pytest.mark.parametrize("temperature", [0.0, 0.3, 0.8, 2.0])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.95, 1.0])
def test_both_backends_draw_the_same_tokens(temperature: float, top_p: float) -> None:
    logits = np.random.default_rng(1).normal(size=(400, 97)).astype(np.float32) * 3
    logits[:, 90:] = -np.inf
    uniforms = np.random.default_rng(2).random(400)
    ours = choose_tokens(logits, uniforms, temperature=temperature, top_p=top_p)
    theirs = sampling.pick_tokens(
        torch.from_numpy(logits),
        torch.from_numpy(uniforms),
        temperature=temperature,
        top_p=top_p,
    ).tolist()
    # A draw at the very edge of a token's share can fall either way.
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) <= 1
    assert max(ours) < 90


def test_the_random_numbers_of_a_seed_are_the_same_and_longer_draws_begin_alike() -> None:
    theirs = sampling.draw_uniforms([11, 12], 20).numpy()
    np.testing.assert_array_equal(draw_uniforms(11, 20), theirs[0])
    np.testing.assert_array_equal(draw_uniforms(12, 50)[:20], theirs[1])


def test_draws_follow_the_probabilities() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.2]], dtype=np.float32)).repeat(20_000, axis=0)
    uniforms = np.random.default_rng(3).random(20_000)
    counts = np.bincount(choose_tokens(logits, uniforms, temperature=1.0, top_p=1.0), minlength=3)
    np.testing.assert_allclose(counts / 20_000, [0.5, 0.3, 0.2], atol=0.015)


def test_top_k_keeps_only_the_likeliest() -> None:
    logits = np.array([[1.0, 3.0, 2.0, -1.0]], dtype=np.float32).repeat(500, axis=0)
    uniforms = np.random.default_rng(4).random(500)
    assert set(choose_tokens(logits, uniforms, temperature=5.0, top_p=1.0, top_k=2)) == {1, 2}
    assert set(choose_tokens(logits, uniforms, temperature=5.0, top_p=1.0)) == {0, 1, 2, 3}
