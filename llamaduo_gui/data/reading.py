"""Reads datasets of every known format: each row becomes a record or a problem with its number.

What a row leaves out is made: the category is "uncategorised", the `prompt_id` a hash of the
prompt. A `prompt_id` that comes again with another conversation gets a suffix made from that
conversation; a conversation that comes again under the same id is read once. `RecordReader` reads
at bounded memory; `read_records` keeps everything in a list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Message, Record
from llamaduo_gui.data.files import DataFile
from llamaduo_gui.data.formats.base import (
    PARTS,
    ColumnMap,
    ContainerInfo,
    Conversation,
    RawRow,
    Row,
    ShapeInfo,
    Unit,
    mapped_conversation,
    system_text,
)
from llamaduo_gui.data.formats.registry import containers, find_format, remote_of, shapes
from llamaduo_gui.data.rows import (
    UNCATEGORISED,
    RowError,
    check_characters,
    describe_columns,
    digest,
    kind_of,
    make_prompt_id,
    make_variant_id,
    parse_label,
)

OnError = Literal["keep", "refuse"]
Progress = Callable[[int, int], None]
Source = Path | str

_SHOWN_PROBLEMS = 3
_WANTED = "`messages`, or a prompt and a response column under one of their usual names"
_KEPT_PROBLEMS = 1000
_PROGRESS_ROWS = 1000


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read: broken rows, formats and columns named by the user.

    Attributes:
        on_error: "keep" leaves broken rows out and lists them; "refuse" raises if there is any.
        container: kind of file; None finds it from the content.
        shape: layout of the rows; None finds it row by row.
        mapping: columns the user has named.
    """

    on_error: OnError = "keep"
    container: ContainerInfo | None = None
    shape: ShapeInfo | None = None
    mapping: ColumnMap = field(default_factory=ColumnMap)


def make_options(
    formats: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    on_error: OnError = "keep",
) -> ReadOptions:
    """Options from what a person typed.

    Args:
        formats: names of a layout, a kind of file, or both.
        mapping: column by part (`prompt`, `response`, `system`, `category`).
        on_error: see `ReadOptions`.

    Raises:
        DataError: a name is unknown, or only one of prompt and response is mapped.
    """
    options = ReadOptions(on_error=on_error)
    for name in formats:
        info = find_format(name)
        if isinstance(info, ShapeInfo):
            options = replace(options, shape=info)
        else:
            options = replace(options, container=info)
    chosen = dict(mapping or {})
    for part in chosen:
        if part not in PARTS:
            raise DataError(f"`{part}` is no part of a record; map one of {', '.join(PARTS)}.")
    columns = ColumnMap(**chosen)
    if (columns.prompt is None) != (columns.response is None):
        raise DataError("Map both prompt and response to columns, or neither.")
    return replace(options, mapping=columns)


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A row that could not be used: its number (from 1), a phrase that says why, its file."""

    line_number: int
    reason: str
    file: str = ""
    unit: Unit = "line"

    def __str__(self) -> str:
        return f"{self.unit} {self.line_number}: {self.reason}"


@dataclass(slots=True)
class ReadReport:
    """What was read so far, and what was not.

    Attributes:
        record_count: usable records.
        problems: rows that were left out, the first thousand.
        problem_count: all of them.
        lines_read: rows that were not blank.
        copies: rows that repeat an earlier record and were read once.
        made_ids: records whose source gave no `prompt_id`.
        renamed_ids: records whose `prompt_id` was taken by another conversation.
        shape_counts: rows of each layout, by title.
        category_counts: records of each category.
        notes: what was guessed, one sentence each.
    """

    record_count: int = 0
    problems: list[RowProblem] = field(default_factory=list)
    problem_count: int = 0
    lines_read: int = 0
    copies: int = 0
    made_ids: int = 0
    renamed_ids: int = 0
    shape_counts: Counter[str] = field(default_factory=Counter)
    category_counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def categories(self) -> dict[str, int]:
        """Records of each category, most first."""
        return dict(self.category_counts.most_common())

    def add_problem(self, problem: RowProblem) -> None:
        """Count a row that was left out."""
        self.problem_count += 1
        if len(self.problems) < _KEPT_PROBLEMS:
            self.problems.append(problem)


@dataclass(slots=True)
class ReadResult(ReadReport):
    """A report with the records themselves, in file order, and the "file:line" of each."""

    records: list[Record] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def convert_row(row: object, options: ReadOptions) -> tuple[Conversation, str]:
    """One decoded row as a conversation, and the title of its layout.

    Raises:
        RowError: it cannot be used.
    """
    if isinstance(row, RowError):
        raise row
    if not isinstance(row, Mapping):
        raise RowError(f"is {kind_of(row)}, not an object with columns")
    mapping = options.mapping
    if mapping.is_complete:
        found, title = mapped_conversation(row, mapping), "chosen columns"
    else:
        shape = options.shape if options.shape is not None else find_shape(row)
        if shape is None or (options.shape is not None and not shape.claims(row)):
            wants = shape.wants if shape else _WANTED
            raise RowError(f"has {describe_columns(row)}; wanted {wants}")
        found, title = shape.convert(row), shape.title
    if system := system_text(row, mapping.system):
        if found.messages[0].role != "system":
            found = replace(found, messages=(Message("system", system), *found.messages))
    elif mapping.system and mapping.system not in row:
        raise RowError(f"has no column `{mapping.system[:40]}`")
    if mapping.category:
        if mapping.category not in row:
            raise RowError(f"has no column `{mapping.category[:40]}`")
        found = replace(found, category=parse_label(row, mapping.category))
    elif mapping.is_complete:
        found = replace(found, category=parse_label(row, "category"))
    check_characters(found.messages)
    return found, title


def find_shape(row: Row) -> ShapeInfo | None:
    """The layout of a row, or None if no format knows it."""
    return next((shape for shape in shapes() if shape.claims(row)), None)


def find_container(file: DataFile) -> ContainerInfo:
    """What kind of file it is, by its content; JSON lines where nothing can be told."""
    known = containers()
    found = next((info for info in known if info.claims(file)), None)
    return found or next(info for info in known if info.name == "jsonl")


@dataclass(slots=True)
class OpenedSource:
    """A source found fit to be read.

    Attributes:
        name: short and unique among the sources, part of every record's `source`.
        size_bytes: on disk; 0 where it is not known.
    """

    name: str
    label: str
    title: str
    unit: Unit
    rows: Callable[[], Iterator[RawRow]]
    size_bytes: int = 0
    file: DataFile | None = None


def open_source(source: Source, options: ReadOptions, name: str = "") -> OpenedSource:
    """Find out what a source is.

    Args:
        source: a path, or text with a remote prefix ("hub:OWNER/NAME@REVISION").
        options: may name the kind of file.
        name: short name; None takes the file's.

    Raises:
        DataError: it is missing, a folder, empty or no data. One sentence.
    """
    remote = remote_of(source) if isinstance(source, str) else None
    if remote is not None:
        text = str(source)
        key = text.removeprefix(remote.prefix)
        return OpenedSource(name or text, text, remote.title, "row", lambda: remote.rows(key))
    file = DataFile(Path(source).expanduser())
    info = options.container or find_container(file)
    packed = " packed with gzip" if file.is_gzip else ""
    title = info.title + packed
    label = str(file.path)
    rows = info.rows
    return OpenedSource(
        name or file.path.name, label, title, info.unit, lambda: rows(file), file.size_bytes, file
    )


class RecordReader:
    """Reads sources as one dataset, one record at a time; `report` fills as it goes.

    Memory: what a row needs, and about 200 bytes a record to find copies.
    """

    def __init__(
        self,
        sources: Source | Sequence[Source],
        options: ReadOptions | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Look at every source.

        Args:
            sources: files, or names of remote datasets.
            options: how to read.
            on_progress: called with (bytes read, bytes in all) every thousand rows and at the
                end; what it raises stops the reading.

        Raises:
            DataError: a source is not fit; one sentence.
        """
        chosen = [sources] if isinstance(sources, Path | str) else list(sources)
        if not chosen:
            raise DataError("No data file was named; choose at least one.")
        self.options = options or ReadOptions()
        self.report = ReadReport()
        names = _short_names(chosen)
        self._opened = [
            open_source(source, self.options, name)
            for source, name in zip(chosen, names, strict=True)
        ]
        self._on_progress = on_progress
        self._by_id: dict[str, bytes] = {}
        for item in self._opened:
            if item.file is not None and item.file.encoding.is_guess:
                note = f"{item.name} was read as {item.file.encoding.title}."
                self.report.notes.append(note)

    @property
    def opened(self) -> Sequence[OpenedSource]:
        """The sources."""
        return self._opened

    def __iter__(self) -> Iterator[tuple[Record, str]]:
        """Records with their unique "file:line", in order.

        Raises:
            DataError: a source cannot be read, or has no usable row; or a row is broken and
                the options say to refuse it.
        """
        total = sum(item.size_bytes for item in self._opened)
        done = 0
        for item in self._opened:
            before = (self.report.record_count, self.report.problem_count)
            for count, raw in enumerate(item.rows(), start=1):
                if self._on_progress and count % _PROGRESS_ROWS == 0:
                    share = item.file.share_read if item.file else 0.0
                    self._on_progress(done + int(share * item.size_bytes), total)
                record = self._take(raw, item)
                if record is not None:
                    yield record, f"{item.name}:{raw.number}"
            done += item.size_bytes
            self._check_source(item, before)
        if self._on_progress:
            self._on_progress(total, total)

    def _take(self, raw: RawRow, item: OpenedSource) -> Record | None:
        """The record of one row; None if it is broken or a copy."""
        report = self.report
        report.lines_read += 1
        try:
            found, title = convert_row(raw.value, self.options)
        except RowError as error:
            reason = printable(str(error))
            report.add_problem(RowProblem(raw.number, reason, item.name, item.unit))
            return None
        identity = bytes.fromhex(digest(found.messages))
        prompt_id = found.prompt_id or make_prompt_id(found.messages)
        is_renamed = self._by_id.get(prompt_id, identity) != identity
        if is_renamed:
            prompt_id = make_variant_id(prompt_id, found.messages)
        if prompt_id in self._by_id:
            report.copies += 1
            return None
        self._by_id[prompt_id] = identity
        report.made_ids += found.prompt_id is None
        report.renamed_ids += is_renamed
        report.record_count += 1
        report.shape_counts[title] += 1
        category = found.category or UNCATEGORISED
        report.category_counts[category] += 1
        return Record(found.messages, category, prompt_id, found.generator, found.seed_prompt)

    def _check_source(self, item: OpenedSource, before: tuple[int, int]) -> None:
        """Refuse a source without a usable row, or with a broken one if so asked."""
        records_before, problems_before = before
        count = self.report.problem_count - problems_before
        has_records = self.report.record_count > records_before or self.report.copies > 0
        if not count and not has_records:
            raise DataError(f"{item.label} has no row; it needs one for each prompt.")
        if not count:
            return
        problems = self.report.problems[problems_before:]
        shown = "; ".join(str(problem) for problem in problems[:_SHOWN_PROBLEMS])
        rest = count - min(len(problems), _SHOWN_PROBLEMS)
        listing = shown + (f"; and {rest} more" if rest > 0 else "")
        if not has_records:
            raise DataError(f"{item.label} has no usable {item.unit}: {listing}.")
        if self.options.on_error == "refuse":
            words = f"{count} broken {item.unit}{'s' if count > 1 else ''}"
            raise DataError(
                f"{item.label} has {words}: {listing}. Correct them, or choose to keep the rest."
            )


def read_records(
    sources: Source | Sequence[Source],
    *,
    on_error: OnError = "keep",
    on_progress: Progress | None = None,
    options: ReadOptions | None = None,
) -> ReadResult:
    """Read sources as one dataset into memory; see `RecordReader`.

    Raises:
        DataError: a source is missing, empty, not data or has no usable row; or a row is broken
            and `on_error` is "refuse". One sentence.
    """
    chosen = options or ReadOptions(on_error=on_error)
    reader = RecordReader(sources, chosen, on_progress)
    records: list[Record] = []
    places: list[str] = []
    for record, place in reader:
        records.append(record)
        places.append(place)
    report = {name: getattr(reader.report, name) for name in ReadReport.__slots__}
    return ReadResult(**report, records=records, sources=places)


def printable(text: str) -> str:
    """One line that can be written as UTF-8, whatever the data holds."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _short_names(sources: Sequence[Source]) -> list[str]:
    """File names, numbered where two files have the same one, so that sources stay unique."""
    seen: Counter[str] = Counter()
    names = []
    for source in sources:
        is_remote = isinstance(source, str) and remote_of(source) is not None
        name = str(source) if is_remote else Path(source).name
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names
