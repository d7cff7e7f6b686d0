"""The order of records depends on seed and epoch alone, and keeps like lengths together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llamaduo_gui.training.sampler import EpochSampler, epoch_order

LENGTHS = [(7 * index) % 101 + 5 for index in range(200)]


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=120),
    step_size=st.integers(1, 17),
    seed=st.integers(0, 2**31 - 1),
    is_grouped=st.booleans(),
)
def test_every_record_comes_once(
    lengths: list[int], step_size: int, seed: int, is_grouped: bool
) -> None:
    order = epoch_order(lengths, step_size=step_size, seed=seed, is_grouped=is_grouped)
    assert sorted(order) == list(range(len(lengths)))


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=120),
    step_size=st.integers(1, 17),
    seed=st.integers(0, 2**31 - 1),
)
def test_the_longest_record_is_in_the_first_full_step(
    lengths: list[int], step_size: int, seed: int
) -> None:
    order = epoch_order(lengths, step_size=step_size, seed=seed, is_grouped=True)
    full = len(lengths) // step_size * step_size
    first = max(lengths[index] for index in order[:step_size])
    assert first == max(lengths[index] for index in order[: full or None])


def test_grouping_leaves_far_less_padding() -> None:
    def padding(is_grouped: bool) -> int:
        order = epoch_order(LENGTHS, step_size=8, seed=1, is_grouped=is_grouped)
        steps = [order[at : at + 8] for at in range(0, len(order), 8)]
        return sum(max(LENGTHS[i] for i in step) - LENGTHS[j] for step in steps for j in step)

    assert padding(True) < padding(False) / 2


def test_an_epoch_can_be_repeated_whatever_came_before() -> None:
    def sampler() -> EpochSampler:
        return EpochSampler(LENGTHS, step_size=8, seed=3, is_grouped=True)

    whole, resumed = sampler(), sampler()
    epochs = []
    for epoch in range(3):
        whole.set_epoch(epoch)
        epochs.append(list(whole))
    resumed.set_epoch(2)
    assert list(resumed) == epochs[2]
    assert epochs[0] != epochs[1] != epochs[2]


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=60),
    step_size=st.integers(1, 9),
    seed=st.integers(0, 2**31 - 1),
)
def test_without_grouping_the_longest_record_comes_first_of_all(
    lengths: list[int], step_size: int, seed: int
) -> None:
    order = epoch_order(lengths, step_size=step_size, seed=seed, is_grouped=False)
    assert lengths[order[0]] == max(lengths)
    assert sorted(order) == list(range(len(lengths)))


def test_longest_first_can_be_turned_off() -> None:
    orders = {
        tuple(
            epoch_order(LENGTHS, step_size=8, seed=seed, is_grouped=True, is_longest_first=False)[
                :8
            ]
        )
        for seed in range(8)
    }
    assert any(max(LENGTHS[index] for index in order) < max(LENGTHS) for order in orders)
