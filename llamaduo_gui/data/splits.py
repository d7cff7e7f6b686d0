"""Stratified train / validation / test splits that do not depend on the order of the file.

The unit of the draw is the prompt, or the group of prompts that share a passage (see `passages`):
records whose prompts are equal once case and spacing are folded go to the same split together, and
so do those of one group. Each category gives each split its share, rounded by largest remainder so
that the shares hold over the whole dataset too; groups that do not fit make a split smaller. Where
a category has few prompts, one is left for training before any is taken. Which prompts are taken
is decided by a hash of the seed and the prompt's text.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llamaduo_gui.core.config import SplitConfig
from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Record, Split
from llamaduo_gui.data.passages import PassageFinder
from llamaduo_gui.data.text import text_key

MIN_PROMPTS = 10


@dataclass(frozen=True, slots=True)
class SplitNotes:
    """What was found out about the prompts when they were split; JSON-able.

    Attributes:
        prompts: different prompts.
        repeats: records whose prompt another record has already.
        groups: sets of prompts that share a passage or are near-duplicates, kept in one split.
        grouped: prompts in those sets.
        near_duplicates: prompts that are near-duplicates of another.
        too_large: prompts that share passages with so many that they were split all the same.
        is_complete: False if there was too much text to look for shared passages.
    """

    prompts: int
    repeats: int = 0
    groups: int = 0
    grouped: int = 0
    near_duplicates: int = 0
    too_large: int = 0
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """The split of each record, in the order they were taken in, and what was found out."""

    splits: list[Split]
    notes: SplitNotes


@dataclass(frozen=True, slots=True)
class _Group:
    """Prompts that stay together: their numbers, place in the seeded order, and category."""

    prompts: tuple[int, ...]
    rank: bytes
    category: str


def describe_notes(notes: SplitNotes) -> list[str]:
    """What a person should know about the splits, one sentence each."""
    said = []
    if notes.repeats:
        many = notes.repeats != 1
        said.append(
            f"{notes.repeats:,} record{'s have' if many else ' has'} a prompt that an earlier "
            "record has; equal prompts are in one split."
        )
    if notes.groups:
        near = f" or nearly all words ({notes.near_duplicates:,} near-duplicates)"
        kinds = "share a passage" + (near if notes.near_duplicates else "")
        said.append(
            f"{notes.grouped:,} prompts {kinds}; each of the {notes.groups:,} "
            f"group{'s' if notes.groups != 1 else ''} is in one split."
        )
    if notes.too_large:
        said.append(
            f"{notes.too_large:,} prompts share passages with more than a third of all prompts "
            "and were split all the same: test prompts resemble training prompts."
        )
    if not notes.is_complete:
        said.append("Shared passages were not looked for: there is too much text to compare.")
    return said


class SplitPlanner:
    """Takes in records one by one and keeps what a split needs to know, not the records.

    Memory: about 400 bytes a prompt, and 12 bytes a token up to the limit of `PassageFinder`.
    """

    def __init__(self, config: SplitConfig) -> None:
        """`config` has the shares and the seed."""
        self._config = config
        self._numbers: dict[bytes, int] = {}
        self._names: dict[str, int] = {}
        # Category of each prompt's first record, and counts where there are more records.
        self._first: array[int] = array("l")
        self._counts: dict[int, Counter[int]] = {}
        self._order: array[int] = array("l")
        self._finder = PassageFinder()
        self._members: Sequence[int] = ()
        self._shared: set[int] = set()

    def add(self, record: Record) -> None:
        """Take in the next record."""
        text = record.instruction
        key = bytes.fromhex(text_key(text))
        name = self._names.setdefault(record.category, len(self._names))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            self._first.append(name)
            self._finder.add(text, record.category)
        else:
            counts = self._counts.setdefault(number, Counter([self._first[number]]))
            counts[name] += 1
        self._order.append(number)

    def plan(self) -> SplitPlan:
        """Give every record its split; every split gets at least one prompt.

        Raises:
            DataError: there are fewer than `MIN_PROMPTS` different prompts.
        """
        count = len(self._numbers)
        if count < MIN_PROMPTS:
            raise DataError(
                f"{count} different prompts are too few to split into training, validation "
                f"and test; at least {MIN_PROMPTS} are needed, a few hundred are better."
            )
        found = self._finder.groups()
        self._members = found.members
        self._shared = {member for number, member in enumerate(found.members) if number != member}
        groups = self._seeded_groups(found.members)
        test = _draw(groups, _size(self._config.test, count))
        rest = [group for group in groups if group.prompts[0] not in test]
        validation = _draw(rest, _size(self._config.validation, count))
        chosen = dict.fromkeys(test, Split.TEST) | dict.fromkeys(validation, Split.VALIDATION)
        sizes = [len(group.prompts) for group in groups if len(group.prompts) > 1]
        notes = SplitNotes(
            prompts=count,
            repeats=len(self._order) - count,
            groups=len(sizes),
            grouped=sum(sizes),
            near_duplicates=found.near_duplicates,
            too_large=found.too_large,
            is_complete=found.is_complete,
        )
        return SplitPlan([chosen.get(number, Split.TRAIN) for number in self._order], notes)

    def group_of(self, instruction: str) -> int | None:
        """Number of the group a planned prompt is in, None if it shares its passage with none."""
        group = self._members[self._numbers[bytes.fromhex(text_key(instruction))]]
        return group if group in self._shared else None

    def _seeded_groups(self, members: Sequence[int]) -> list[_Group]:
        """Groups in seeded order; one of several categories counts for its commonest."""
        joined: dict[int, list[int]] = {}
        for number, member in enumerate(members):
            if number != member:
                joined.setdefault(member, [member]).append(number)
        keys, names = list(self._numbers), list(self._names)
        groups = []
        for number, member in enumerate(members):
            if number != member:
                continue
            prompts = joined.get(number, [number])
            # The smallest key speaks for all, so that large groups are not drawn more often.
            speaker = min(keys[prompt] for prompt in prompts).hex()
            rank = hashlib.sha256(f"{self._config.seed}:{speaker}".encode()).digest()[:16]
            groups.append(_Group(tuple(prompts), rank, self._category(prompts, names)))
        return sorted(groups, key=lambda group: group.rank)

    def _category(self, prompts: Sequence[int], names: Sequence[str]) -> str:
        if len(prompts) == 1 and prompts[0] not in self._counts:
            return names[self._first[prompts[0]]]
        counts: Counter[int] = Counter()
        for prompt in prompts:
            counts.update(self._counts.get(prompt) or Counter([self._first[prompt]]))
        return names[min(counts, key=lambda name: (-counts[name], names[name]))]


def assign_splits(records: Sequence[Record], config: SplitConfig) -> list[Split]:
    """The split of each record, in the order of `records`.

    Every split gets at least one prompt.

    Args:
        records: the whole coverage dataset.
        config: shares and seed.

    Raises:
        DataError: there are fewer than `MIN_PROMPTS` different prompts.
    """
    planner = SplitPlanner(config)
    for record in records:
        planner.add(record)
    return planner.plan().splits


def _size(share: float, count: int) -> int:
    return max(1, round(share * count))


def _draw(groups: Sequence[_Group], size: int) -> set[int]:
    """Numbers of about `size` prompts, shared out over the categories.

    Groups that do not fit are passed over, so there can be fewer prompts than asked for; there
    are more only if not even the smallest group fits.
    """
    members: dict[str, list[_Group]] = {}
    for group in groups:
        members.setdefault(group.category, []).append(group)
    sizes = {name: sum(len(group.prompts) for group in items) for name, items in members.items()}
    quotas = _apportion(sizes, size)
    taken: list[_Group] = []
    for name, items in members.items():
        taken += _fill(items, quotas[name])
    taken += _fill(_spare(groups, taken), size - sum(len(group.prompts) for group in taken))
    if not taken:
        taken = [min(groups, key=lambda group: (len(group.prompts), group.rank))]
    return {prompt for group in taken for prompt in group.prompts}


def _spare(groups: Sequence[_Group], taken: Sequence[_Group]) -> list[_Group]:
    """What is left to draw from, one group of each category kept back for training."""
    drawn = {group.prompts[0] for group in taken}
    kept: set[str] = set()
    spare = []
    for group in groups:
        if group.prompts[0] in drawn:
            continue
        if group.category in kept:
            spare.append(group)
        kept.add(group.category)
    return spare


def _fill(groups: Sequence[_Group], room: int) -> list[_Group]:
    """The first groups that fit one after the other."""
    taken = []
    for group in groups:
        if len(group.prompts) <= room:
            taken.append(group)
            room -= len(group.prompts)
    return taken


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
