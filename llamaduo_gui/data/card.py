"""The dataset card (README.md) of exported data: what is in it and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything the card says.

    Attributes:
        title: name of the dataset.
        files: file by split and format, such as {"messages": {"train": "train.jsonl"}}.
        counts: records by split.
        origins: (origin, round, records), in order.
        categories: records of the training split by category.
        teacher, judges: names of the services; empty if there are none.
        generators: records by the model that wrote them.
        settings: synthesis and filter settings by their name in `pipeline.yaml`.
        rejects: rejected synthetic pairs by reason; they are not in the data.
        notes: what was found out when the prompts were split.
        sources: names of the coverage files.
        seed: of the splits.
        version: of this application.
    """

    title: str
    files: Mapping[str, Mapping[str, str]]
    counts: Mapping[str, int]
    origins: Sequence[tuple[str, int, int]]
    categories: Mapping[str, int]
    teacher: str
    judges: Sequence[str]
    generators: Mapping[str, int]
    settings: Mapping[str, Any]
    rejects: Mapping[str, int]
    seed: int
    version: str
    sources: Sequence[str] = ()
    notes: Sequence[str] = field(default=())


def write_card(facts: CardFacts) -> str:
    """The card as Markdown with YAML front matter, as the Hub reads it."""
    sections = [
        _front_matter(facts),
        f"# {_plain(facts.title)}",
        _INTRODUCTION.format(version=facts.version),
        "## Splits",
        _table(("split", "records"), [(k, f"{v:,}") for k, v in facts.counts.items()]),
        "Synthetic pairs are in `train` alone; `validation` and `test` are the user's own.",
        *(f"- {note}" for note in facts.notes),
        "## Where the records come from",
        _table(
            ("origin", "round", "records"),
            [(name, str(number), f"{count:,}") for name, number, count in facts.origins],
        ),
        _provenance(facts),
        "## Categories of the training split",
        _table(("category", "records"), [(k, f"{v:,}") for k, v in facts.categories.items()]),
        "## Filters",
        _filters(facts),
        "## Columns",
        _COLUMNS,
        "## Licence",
        _licence(facts),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(facts: CardFacts) -> str:
    total = sum(facts.counts.values())
    size = next((name for limit, name in _SIZES if total < limit), "n>10M")
    configs = [
        {
            "config_name": name,
            **({"default": True} if place == 0 else {}),
            "data_files": [{"split": split, "path": path} for split, path in paths.items()],
        }
        for place, (name, paths) in enumerate(facts.files.items())
    ]
    data = {
        "pretty_name": facts.title,
        "license": "other",
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "distillation", "llamaduo"],
        "size_categories": [size],
        "configs": configs,
    }
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}---"


def _provenance(facts: CardFacts) -> str:
    lines = [f"- Coverage files: {_listed(facts.sources)}. Seed of the splits: {facts.seed}."]
    lines.append(f"- Teacher: {_code(facts.teacher) if facts.teacher else 'none'}.")
    lines.append(f"- Judges: {_listed(facts.judges)}.")
    if facts.generators:
        written = ", ".join(f"{_code(k)} {v:,}" for k, v in facts.generators.items())
        lines.append(f"- Written by a model: {written}.")
    return "\n".join(lines)


def _filters(facts: CardFacts) -> str:
    if not facts.settings:
        return "There is no synthetic data, so nothing was filtered."
    lines = [_GATES, "", *(f"- `{name}`: {value}" for name, value in facts.settings.items())]
    if facts.rejects:
        found = ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in facts.rejects.items())
        lines += ["", f"Rejected and not in the data: {found}."]
    return "\n".join(lines)


def _licence(facts: CardFacts) -> str:
    own = (
        "The coverage records are the user's own, and this card grants no right to them. Say "
        "here under which licence they are shared before you share them."
    )
    if not facts.generators:
        return own
    count = sum(facts.generators.values())
    return (
        f"{own}\n\n{count:,} records are output of {_listed(list(facts.generators))}. The terms of "
        "that service say what its output may be used for, often that no competing model may be "
        "trained on it: read them before you train on this data or share it."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(_code(name) for name in names) if names else "none"


def _code(text: str) -> str:
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


def _plain(text: str) -> str:
    """Text that does not end a table's cell or begin Markdown of its own."""
    cleaned = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "|\\`*_<>#[]" else sign for sign in cleaned)


_INTRODUCTION = (
    "Conversations to fine-tune a small local model with, made by LlamaDuo GUI {version}. Every "
    "row ends with the response that is wanted."
)
_GATES = (
    "Synthetic pairs passed a schema check, exact and near-duplicate removal, a comparison with "
    "their own seed, and decontamination against the validation and test splits."
)
_COLUMNS = """\
- `messages`: turns with `role` and `content`; the last is the wanted response
- `prompt`: the prompt turns as one text; `prompt_id`: its identifier
- `category`; `origin` (coverage or synthetic); `round` (0 for coverage)
- `generator`: model that wrote a synthetic pair; `seed_prompt`: `prompt_id` it was made from"""
