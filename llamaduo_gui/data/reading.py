"""Reads datasets of every known format: each row becomes a record or a problem with its number.

What a row leaves out is made: the category is "uncategorised", the `prompt_id` a hash of the
prompt. A `prompt_id` that comes again with another conversation gets a suffix made from that
conversation; a conversation that comes again under the same id is read once. `RecordReader` reads
at bounded memory; `read_records` keeps everything in a list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Record
from llamaduo_gui.data.conversion import OnError, ReadOptions, convert_row
from llamaduo_gui.data.formats.base import RawRow, Unit
from llamaduo_gui.data.rows import (
    UNCATEGORISED,
    RowError,
    digest,
    make_prompt_id,
    make_variant_id,
)
from llamaduo_gui.data.sources import OpenedSource, Source, open_source, short_names

Progress = Callable[[int, int], None]

_SHOWN_PROBLEMS = 3
_KEPT_PROBLEMS = 1000
_PROGRESS_ROWS = 1000


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
        names = short_names(chosen)
        self._opened = [
            open_source(source, self.options.container, name)
            for source, name in zip(chosen, names, strict=True)
        ]
        self._on_progress = on_progress
        self._by_id: dict[str, bytes] = {}
        for item in self._opened:
            if item.file is not None and item.file.encoding.is_guess:
                note = f"{item.name} was read as {item.file.encoding.title}."
                self.report.notes.append(note)
            if item.note:
                self.report.notes.append(item.note)

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
