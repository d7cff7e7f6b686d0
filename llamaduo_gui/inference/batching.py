"""Which prompts are answered together: samples of a prompt, then prompts of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llamaduo_gui.inference.base import PromptJob

_PADDING_SHARE = 0.25
_LITTLE_PADDING = 1024


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """Samples of one prompt; they share its prefill.

    `limit` is the most tokens each may generate.
    """

    input_ids: list[int]
    jobs: tuple[PromptJob, ...]
    limit: int


def plan_batches(
    groups: Sequence[PromptGroup], *, token_budget: int, max_rows: int
) -> Iterator[list[PromptGroup]]:
    """Cut groups into batches, longest prompts first.

    A row is one response. A batch has at most `max_rows` rows, and rows times the longest
    sequence it may reach is at most `token_budget` (one row is always allowed). Padding is kept
    below a quarter of a batch's prompts, unless it is little altogether. The longest come first,
    so that memory that does not suffice is noticed at the start, and the estimate of the time left
    errs on the long side.
    """
    batch: list[PromptGroup] = []
    rows = longest_prompt = longest_answer = padding = 0
    for group in sorted(groups, key=lambda item: -len(item.input_ids)):
        for part in _split(group, max_rows):
            prompt = max(longest_prompt, len(part.input_ids))
            answer = max(longest_answer, part.limit)
            count = rows + len(part.jobs)
            padding += len(part.jobs) * (prompt - len(part.input_ids))
            is_wasteful = padding > max(_LITTLE_PADDING, _PADDING_SHARE * count * prompt)
            is_large = count > max_rows or count * (prompt + answer) > token_budget
            if batch and (is_large or is_wasteful):
                yield batch
                batch, count, padding = [], len(part.jobs), 0
                prompt, answer = len(part.input_ids), part.limit
            if count * (prompt + answer) > token_budget and count > 1:
                allowed = max(1, token_budget // (prompt + answer))
                yield from ([piece] for piece in _split(part, allowed))
                rows = longest_prompt = longest_answer = padding = 0
                continue
            batch.append(part)
            rows, longest_prompt, longest_answer = count, prompt, answer
    if batch:
        yield batch


def _split(group: PromptGroup, rows: int) -> Iterator[PromptGroup]:
    for start in range(0, len(group.jobs), rows):
        yield PromptGroup(group.input_ids, group.jobs[start : start + rows], group.limit)
