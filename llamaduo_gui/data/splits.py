"""Stratified train / validation / test splits that do not depend on the order of the file.

The unit of the draw is the distinct prompt: records whose prompts are equal once case and spacing
are folded go to the same split together. Each category gives each split its share, rounded by
largest remainder so that the shares hold over the whole dataset too. Where a category has few
prompts, one is left for training before any is taken. Which prompts are taken is decided by a
hash of the seed and the prompt's text.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llamaduo_gui.core.config import SplitConfig
from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Record, Split
from llamaduo_gui.data.text import text_key

MIN_PROMPTS = 10


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A distinct prompt: its key, its place in the seeded order, and its category."""

    key: str
    rank: str
    category: str


def assign_splits(records: Sequence[Record], config: SplitConfig) -> list[Split]:
    """The split of each record, in the order of `records`.

    Every split gets at least one prompt.

    Args:
        records: the whole coverage dataset.
        config: shares and seed.

    Raises:
        DataError: there are fewer than `MIN_PROMPTS` different prompts.
    """
    keys = [text_key(record.instruction) for record in records]
    prompts = _distinct_prompts(keys, records, config.seed)
    if len(prompts) < MIN_PROMPTS:
        raise DataError(
            f"{len(prompts)} different prompts are too few to split into training, validation "
            f"and test; at least {MIN_PROMPTS} are needed, a few hundred are better."
        )
    test_size = _size(config.test, len(prompts))
    validation_size = _size(config.validation, len(prompts))
    test = _draw(prompts, test_size)
    rest = [prompt for prompt in prompts if prompt.key not in test]
    validation = _draw(rest, validation_size)
    chosen = dict.fromkeys(test, Split.TEST) | dict.fromkeys(validation, Split.VALIDATION)
    return [chosen.get(key, Split.TRAIN) for key in keys]


def _size(share: float, count: int) -> int:
    return max(1, round(share * count))


def _distinct_prompts(keys: Sequence[str], records: Sequence[Record], seed: int) -> list[_Prompt]:
    """Distinct prompts in seeded order; a prompt of several categories counts for its commonest."""
    categories: dict[str, Counter[str]] = {}
    for key, record in zip(keys, records, strict=True):
        categories.setdefault(key, Counter())[record.category] += 1
    prompts = [
        _Prompt(
            key,
            hashlib.sha256(f"{seed}:{key}".encode()).hexdigest(),
            min(counts, key=lambda name: (-counts[name], name)),
        )
        for key, counts in categories.items()
    ]
    return sorted(prompts, key=lambda prompt: prompt.rank)


def _draw(prompts: Sequence[_Prompt], size: int) -> set[str]:
    """Keys of `size` prompts, shared out over the categories."""
    members: dict[str, list[str]] = {}
    for prompt in prompts:
        members.setdefault(prompt.category, []).append(prompt.key)
    quotas = _apportion({name: len(keys) for name, keys in members.items()}, size)
    return {key for name, keys in members.items() for key in keys[: quotas[name]]}


def _apportion(available: Mapping[str, int], size: int) -> dict[str, int]:
    """Share `size` out over categories in proportion, by largest remainder (Hamilton's method).

    A category keeps its last prompt unless the others cannot fill the size.
    """
    total = sum(available.values())
    exact = {name: size * count / total for name, count in available.items()}
    quotas = {name: min(int(exact[name]), available[name]) for name in available}
    # Equal remainders keep the order of `available`, which is the seeded one.
    order = sorted(available, key=lambda name: quotas[name] - exact[name])
    for spared in (1, 0):
        while (missing := size - sum(quotas.values())) > 0:
            open_names = [name for name in order if quotas[name] < available[name] - spared]
            if not open_names:
                break
            for name in open_names[:missing]:
                quotas[name] += 1
    return quotas
