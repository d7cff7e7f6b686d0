"""Shows what an import would make of its sources before anything is made."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from llamaduo_gui.core.config import SplitConfig
from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Split
from llamaduo_gui.data.conversion import ReadOptions, convert_row, find_shape
from llamaduo_gui.data.formats.base import ColumnMap
from llamaduo_gui.data.reading import Progress, RecordReader, printable
from llamaduo_gui.data.rows import UNCATEGORISED, RowError, kind_of
from llamaduo_gui.data.sources import OpenedSource, Source, open_source
from llamaduo_gui.data.splits import SplitPlanner, describe_notes

PREVIEW_ROWS = 20
_SAMPLED_ROWS = 50
_SHOWN_TEXT = 2000
_SHOWN_SAMPLE = 80
_SHOWN_PROBLEMS = 100
_PROMPT_WORDS = ("prompt", "question", "instruct", "query", "request", "input", "user", "text")
_RESPONSE_WORDS = (
    "response", "answer", "completion", "output", "reply", "target", "summary", "label", "result",
)  # fmt: skip
_CATEGORY_WORDS = ("category", "topic", "intent", "task", "class", "label", "type")
_SYSTEM_WORDS = ("system",)


@dataclass(frozen=True, slots=True)
class PreviewSource:
    """One source: what it is and how its bytes became text."""

    name: str
    format: str
    encoding: str = ""
    is_guess: bool = False
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PreviewColumn:
    """A column of the first source: its name, the kind of its values and one of them."""

    name: str
    kind: str
    sample: str


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One of the first rows as it will be: its turns, or why it cannot be used."""

    number: int
    file: str
    messages: list[dict[str, str]] = field(default_factory=list)
    category: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """What all rows come to; `splits` is empty if they are too few to split."""

    rows: int
    records: int
    copies: int
    problem_count: int
    problems: list[dict[str, Any]]
    categories: dict[str, int]
    splits: dict[str, int]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Preview:
    """What an import would make of its sources; JSON-able.

    Attributes:
        layout: name of the layout of most of the first rows, empty if none is known.
        layout_title: for people, every layout of the first rows, the most frequent first.
        mapping: column by part, as they are read.
        suggestion: column by part, a guess to offer where no layout is known.
        counts: of all rows; None if only the first were read.
        error: why nothing can be imported like this, or empty.
    """

    sources: list[PreviewSource]
    layout: str = ""
    layout_title: str = ""
    columns: list[PreviewColumn] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)
    suggestion: dict[str, str] = field(default_factory=dict)
    rows: list[PreviewRow] = field(default_factory=list)
    counts: Counts | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preview:
        """The preview of its JSON form."""
        counts = data.get("counts")
        return cls(
            **{
                **data,
                "sources": [PreviewSource(**item) for item in data["sources"]],
                "columns": [PreviewColumn(**item) for item in data["columns"]],
                "rows": [PreviewRow(**item) for item in data["rows"]],
                "counts": Counts(**counts) if counts else None,
            }
        )


def make_preview(
    sources: Sequence[Source],
    options: ReadOptions | None = None,
    *,
    rows: int = PREVIEW_ROWS,
    splits: SplitConfig | None = None,
    is_whole: bool = True,
    on_progress: Progress | None = None,
) -> Preview:
    """Look at sources without keeping anything.

    Args:
        sources: files, or names of remote datasets.
        options: how they would be read.
        rows: how many of the first rows to show.
        splits: how they would be split.
        is_whole: read everything to count it; otherwise only the first rows of each source.
        on_progress: called with (bytes read, bytes in all).

    Raises:
        DataError: a source is missing, empty or no data at all. One sentence.
    """
    chosen = replace(options or ReadOptions(), on_error="keep")
    if not sources:
        raise DataError("No data file was named; choose at least one.")
    opened = [open_source(source, chosen.container) for source in sources]
    found = _look(opened, chosen, rows)
    if not is_whole:
        return found
    reader = RecordReader(sources, chosen, on_progress)
    planner = SplitPlanner(splits or SplitConfig())
    error = ""
    try:
        for record, _ in reader:
            planner.add(record)
    except DataError as problem:
        error = str(problem)
    counts, problem_text = _count(reader, planner)
    return replace(found, counts=counts, error=error or problem_text)


def _look(opened: Sequence[OpenedSource], options: ReadOptions, rows: int) -> Preview:
    """The first rows of every source, converted."""
    shown: list[PreviewRow] = []
    titles: Counter[str] = Counter()
    examples: list[Mapping[str, Any]] = []
    for item in opened:
        with closing(item.rows()) as iterator:  # type: ignore[type-var]
            for raw in itertools.islice(iterator, max(rows, _SAMPLED_ROWS)):
                if isinstance(raw.value, Mapping):
                    examples.append(raw.value)
                row, title = _preview_row(raw.number, raw.value, item, options)
                shown.append(row)
                titles[title] += not row.problem
    layout = ", ".join(title for title, count in titles.most_common() if title and count)
    mapping = _mapping(examples, options)
    return Preview(
        sources=[_describe_source(item) for item in opened],
        layout=_layout_name(examples, options),
        layout_title=layout,
        columns=_columns(examples),
        mapping=mapping,
        suggestion={} if mapping else suggest_mapping(examples),
        rows=_spread(shown, [item.name for item in opened], rows),
    )


def _spread(shown: list[PreviewRow], names: Sequence[str], rows: int) -> list[PreviewRow]:
    """The first rows of each source, the same number of each."""
    share = max(1, rows // max(1, len(names)))
    return [row for name in names for row in [row for row in shown if row.file == name][:share]][
        : max(rows, 1)
    ]


def _preview_row(
    number: int, value: object, item: OpenedSource, options: ReadOptions
) -> tuple[PreviewRow, str]:
    try:
        found, title = convert_row(value, options)
    except RowError as error:
        return PreviewRow(number, item.name, problem=printable(str(error))), ""
    turns = [
        {"role": message.role, "content": message.content[:_SHOWN_TEXT]}
        for message in found.messages
    ]
    return PreviewRow(number, item.name, turns, found.category or UNCATEGORISED), title


def _describe_source(item: OpenedSource) -> PreviewSource:
    if item.file is None:
        return PreviewSource(item.name, item.title)
    encoding = "" if item.file.is_parquet else item.file.encoding.title
    is_guess = item.file.encoding.is_guess
    return PreviewSource(item.name, item.title, encoding, is_guess, item.size_bytes)


def _layout_name(examples: Sequence[Mapping[str, Any]], options: ReadOptions) -> str:
    if options.mapping.is_complete:
        return ""
    if options.shape is not None:
        return options.shape.name
    found = Counter(shape.name for row in examples if (shape := find_shape(row)))
    return found.most_common(1)[0][0] if found else ""


def _mapping(examples: Sequence[Mapping[str, Any]], options: ReadOptions) -> dict[str, str]:
    """The columns that are read, as the first row of the layout shows them."""
    if options.mapping.is_complete:
        return options.mapping.to_dict()
    for row in examples:
        shape = options.shape or find_shape(row)
        if shape is not None and shape.claims(row):
            return {**shape.columns(row).to_dict(), **options.mapping.to_dict()}
    return {}


def suggest_mapping(examples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A guess which columns hold prompt, response, system turn and category, by their names.

    Where names say nothing and two columns hold text, the first is taken for the prompt.
    """
    texts = [
        str(name)
        for name in dict.fromkeys(key for row in examples for key in row)
        if any(isinstance(row.get(name), str) and row[name].strip() for row in examples)
    ]
    found: dict[str, str] = {}
    for part, words in (
        ("response", _RESPONSE_WORDS),
        ("prompt", _PROMPT_WORDS),
        ("system", _SYSTEM_WORDS),
        ("category", _CATEGORY_WORDS),
    ):
        free = [name for name in texts if name not in found.values()]
        named = (name for word in words for name in free if word in name.lower())
        if best := next(named, None):
            found[part] = best
    if len(texts) == 2 and not {"prompt", "response"} <= set(found):
        found = {"prompt": texts[0], "response": texts[1]}
    if not {"prompt", "response"} <= set(found):
        return {}
    return ColumnMap(**found).to_dict()


def _columns(examples: Sequence[Mapping[str, Any]]) -> list[PreviewColumn]:
    names = list(dict.fromkeys(str(key) for row in examples for key in row))
    found = []
    for name in names:
        values = [row[name] for row in examples if row.get(name) is not None]
        sample = values[0] if values else None
        text = sample if isinstance(sample, str) else repr(sample)
        kind = kind_of(sample) if values else "nothing"
        found.append(PreviewColumn(printable(name), kind, printable(text[:_SHOWN_SAMPLE])))
    return found


def _count(reader: RecordReader, planner: SplitPlanner) -> tuple[Counts, str]:
    """Counts of all rows, and why they cannot be split, if so."""
    report, splits, notes, error = reader.report, dict[str, int](), list(reader.report.notes), ""
    try:
        plan = planner.plan()
    except DataError as problem:
        error = str(problem)
    else:
        splits = {split.value: plan.splits.count(split) for split in Split}
        notes += describe_notes(plan.notes)
    counts = Counts(
        rows=report.lines_read,
        records=report.record_count,
        copies=report.copies,
        problem_count=report.problem_count,
        problems=[asdict(problem) for problem in report.problems[:_SHOWN_PROBLEMS]],
        categories=report.categories(),
        splits=splits,
        notes=notes,
    )
    return counts, error
