"""Reads datasets from JSON-lines files: every line becomes a record or a problem with its number.

Two shapes are read, also mixed in one file: the coverage format (`messages`, with optional
`prompt_id`, `category`, `generator`, `seed_prompt`) and bare pairs (`prompt` or `instruction`, and
`response`). What a file leaves out is made: the category is "uncategorised", the `prompt_id` a
hash of the prompt. A `prompt_id` that comes again with another conversation gets a suffix made
from that conversation; a conversation that comes again under the same id is read once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Message, Record
from llamaduo_gui.data.rows import (
    UNCATEGORISED,
    RowError,
    make_prompt_id,
    make_variant_id,
    parse_label,
    parse_messages,
)

OnError = Literal["keep", "refuse"]
Progress = Callable[[int, int], None]

_SHOWN_PROBLEMS = 3
_PROGRESS_LINES = 1000
_BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PAR1": "Parquet"}


@dataclass(frozen=True, slots=True)
class LineProblem:
    """A line that could not be used: its number (from 1), a phrase that says why, its file."""

    line_number: int
    reason: str
    file: str = ""

    def __str__(self) -> str:
        return f"line {self.line_number}: {self.reason}"


@dataclass(slots=True)
class ReadResult:
    """What was read, and what was not.

    Attributes:
        records: usable records, in file order.
        sources: "file:line" of each record, unique.
        problems: lines that were left out.
        lines_read: lines that were not blank.
        copies: lines that repeat an earlier record and were read once.
        made_ids: records whose file gave no `prompt_id`.
        renamed_ids: records whose `prompt_id` was taken by another conversation.
    """

    records: list[Record] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    problems: list[LineProblem] = field(default_factory=list)
    lines_read: int = 0
    copies: int = 0
    made_ids: int = 0
    renamed_ids: int = 0
    _by_id: dict[str, tuple[Message, ...]] = field(default_factory=dict, repr=False)

    def categories(self) -> dict[str, int]:
        """Records of each category, most first."""
        return dict(Counter(record.category for record in self.records).most_common())

    def add(self, row: object, source: str) -> None:
        """Take in one decoded row.

        Raises:
            RowError: it cannot be used.
        """
        messages = parse_messages(row)
        columns = row if isinstance(row, dict) else {}
        category = parse_label(columns, "category") or UNCATEGORISED
        given = parse_label(columns, "prompt_id")
        generator = parse_label(columns, "generator")
        seed_prompt = parse_label(columns, "seed_prompt")
        prompt_id = given or make_prompt_id(messages)
        if self._by_id.get(prompt_id, messages) != messages:
            prompt_id = make_variant_id(prompt_id, messages)
            is_renamed = True
        else:
            is_renamed = False
        if prompt_id in self._by_id:
            self.copies += 1
            return
        self._by_id[prompt_id] = messages
        self.made_ids += given is None
        self.renamed_ids += is_renamed
        self.records.append(Record(messages, category, prompt_id, generator, seed_prompt))
        self.sources.append(source)


def read_records(
    paths: Path | Sequence[Path],
    *,
    on_error: OnError = "keep",
    on_progress: Progress | None = None,
) -> ReadResult:
    """Read one or more JSON-lines files as one dataset.

    Args:
        paths: UTF-8 files, with or without a byte-order mark.
        on_error: "keep" leaves broken lines out and lists them in `problems`; "refuse" raises
            if there is any.
        on_progress: called with (bytes read, bytes in all) every thousand lines and at the end;
            what it raises stops the reading.

    Raises:
        DataError: a file is missing, a folder, empty, not JSON lines or has no usable line; or
            a line is broken and `on_error` is "refuse". One sentence.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    if not files:
        raise DataError("No data file was named; choose at least one JSONL file.")
    total = sum(_checked_size(path) for path in files)
    names = _short_names(files)
    result = ReadResult()
    done = 0
    for path, name in zip(files, names, strict=True):
        before = (len(result.records), len(result.problems))
        try:
            with path.open("rb") as stream:
                for count, position in enumerate(_read_stream(stream, name, result), start=1):
                    if on_progress and count % _PROGRESS_LINES == 0:
                        on_progress(done + position, total)
                done += stream.tell()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from error
        _check_file(path, result, before, on_error)
    if on_progress:
        on_progress(total, total)
    return result


def _read_stream(stream: BinaryIO, name: str, result: ReadResult) -> Iterator[int]:
    """Take in every line of one file; yields the position after each."""
    position = 0
    for number, line in enumerate(stream, start=1):
        position += len(line)
        content = line.removeprefix(_BOM) if number == 1 else line
        if content.strip():
            result.lines_read += 1
            try:
                result.add(_decode(content), f"{name}:{number}")
            except RowError as error:
                result.problems.append(LineProblem(number, str(error), name))
        yield position


def _decode(line: bytes) -> object:
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RowError(
            f"is not UTF-8 (byte 0x{line[error.start]:02X} at position {error.start + 1})"
        ) from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError(f"is not valid JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise RowError("is not usable JSON (nested too deeply, or a number too long)") from error


def _checked_size(path: Path) -> int:
    """Size in bytes of a file that can be JSON lines; raises DataError for one that cannot."""
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder; choose a JSONL file in it.")
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(4096)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    for mark, kind in _OTHER_ENCODINGS.items():
        if start.startswith(mark):
            raise DataError(f"{path} is {kind}, not UTF-8 JSON lines; save it as UTF-8 JSONL.")
    if not start.removeprefix(_BOM).strip() and size <= len(start):
        raise DataError(f"{path} is empty; it needs one JSON object a line.")
    if start.removeprefix(_BOM).lstrip().startswith(b"["):
        raise DataError(f"{path} is one JSON array, not JSON lines; write one object a line.")
    return size


def _check_file(path: Path, result: ReadResult, before: tuple[int, int], on_error: OnError) -> None:
    records_before, problems_before = before
    problems = result.problems[problems_before:]
    if not problems:
        return
    shown = "; ".join(str(problem) for problem in problems[:_SHOWN_PROBLEMS])
    rest = len(problems) - _SHOWN_PROBLEMS
    listing = shown + (f"; and {rest} more" if rest > 0 else "")
    if len(result.records) == records_before:
        raise DataError(f"{path} has no usable line: {listing}.")
    if on_error == "refuse":
        count = f"{len(problems)} broken line{'s' if len(problems) > 1 else ''}"
        raise DataError(f"{path} has {count}: {listing}. Correct them, or choose to keep the rest.")


def _short_names(files: Sequence[Path]) -> list[str]:
    """File names, numbered where two files have the same one, so that sources stay unique."""
    seen: Counter[str] = Counter()
    names = []
    for path in files:
        seen[path.name] += 1
        count = seen[path.name]
        names.append(path.name if count == 1 else f"{path.name}#{count}")
    return names
