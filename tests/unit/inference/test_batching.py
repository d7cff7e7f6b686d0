"""Batches respect rows and tokens, put samples of a prompt together and start with the longest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llamaduo_gui.core.types import Message
from llamaduo_gui.inference.base import PromptJob
from llamaduo_gui.inference.batching import PromptGroup, plan_batches


def group(number: int, length: int, samples: int, limit: int = 10) -> PromptGroup:
    messages = (Message("user", str(number)),)
    jobs = tuple(PromptJob(number, sample, messages, 0) for sample in range(samples))
    return PromptGroup([0] * length, jobs, limit)


def identities(batches: list[list[PromptGroup]]) -> list[tuple[int, int]]:
    parts = [part for batch in batches for part in batch]
    return [(job.record_id, job.sample) for part in parts for job in part.jobs]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 9)), max_size=30),
    token_budget=st.integers(10, 2000),
    max_rows=st.integers(1, 20),
)
def test_every_response_is_in_one_batch_that_fits(
    sizes: list[tuple[int, int]], token_budget: int, max_rows: int
) -> None:
    groups = [group(number, *size) for number, size in enumerate(sizes)]
    batches = list(plan_batches(groups, token_budget=token_budget, max_rows=max_rows))
    assert sorted(identities(batches)) == sorted(identities([groups]))
    for batch in batches:
        rows = sum(len(part.jobs) for part in batch)
        longest = max(len(part.input_ids) + part.limit for part in batch)
        assert rows <= max_rows
        assert rows == 1 or rows * longest <= token_budget


def test_the_longest_prompts_come_first() -> None:
    groups = [group(number, length, 1) for number, length in enumerate([5, 90, 30, 60])]
    batches = list(plan_batches(groups, token_budget=10_000, max_rows=2))
    assert [[len(part.input_ids) for part in batch] for batch in batches] == [[90, 60], [30, 5]]


def test_samples_of_a_prompt_stay_together() -> None:
    groups = [group(number, 20, 4) for number in range(3)]
    batches = list(plan_batches(groups, token_budget=10_000, max_rows=8))
    assert [[len(part.jobs) for part in batch] for batch in batches] == [[4, 4], [4]]


def test_prompts_of_very_different_lengths_are_not_padded_to_one_length() -> None:
    groups = [group(number, length, 1) for number, length in enumerate([800] * 4 + [40] * 30)]
    batches = list(plan_batches(groups, token_budget=100_000, max_rows=64))
    assert [len(batch) for batch in batches] == [5, 29]
    for batch in batches:
        longest = max(len(part.input_ids) for part in batch)
        padding = sum(longest - len(part.input_ids) for part in batch)
        assert padding <= max(1024, longest * len(batch) // 4)
