"""Tokens are drawn with their probability, from the row's own stream, within the nucleus."""

from __future__ import annotations

import pytest
import torch

from llamaduo_gui.inference.sampling import pick_tokens

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, -torch.inf]])


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(count: int, *, temperature: float = 1.0, top_p: float = 1.0) -> torch.Tensor:
    """Shares of the tokens in `count` draws."""
    rows = LOGITS.repeat(count, 1)
    found = pick_tokens(rows, generators(*range(count)), temperature=temperature, top_p=top_p)
    return torch.bincount(found, minlength=5) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probability(temperature: float) -> None:
    expected = torch.softmax(LOGITS[0] / temperature, dim=0)
    # Four standard errors of a share near a half, of 4000 draws.
    assert torch.allclose(draw(4000, temperature=temperature), expected, atol=0.032)


def test_an_impossible_token_never_comes() -> None:
    assert draw(4000, temperature=5.0)[4] == 0


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    # Probabilities .64 .24 .09 .03: the first alone reaches .6, the first two .8.
    assert draw(500, top_p=0.6).tolist() == [1, 0, 0, 0, 0]
    two = draw(2000, top_p=0.8)
    assert two[2:].tolist() == [0, 0, 0]
    assert two[1] == pytest.approx(0.24 / 0.88, abs=0.05)


def test_temperature_zero_takes_the_likeliest_and_draws_nothing() -> None:
    stream = generators(1)
    assert pick_tokens(LOGITS, stream, temperature=0, top_p=0.5).tolist() == [0]
    assert torch.equal(stream[0].get_state(), generators(1)[0].get_state())


def test_a_row_draws_the_same_alone_and_in_company() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 50)
    together = pick_tokens(logits, generators(*range(6)), temperature=1.0, top_p=0.9)
    alone = [
        pick_tokens(logits[row : row + 1], generators(row), temperature=1.0, top_p=0.9).item()
        for row in range(6)
    ]
    assert together.tolist() == alone
