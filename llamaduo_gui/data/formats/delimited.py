"""CSV and TSV: a header, then a record a line; quoted fields may hold line breaks."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import IO

from llamaduo_gui.data.files import MAX_LENGTH, DataFile, read_lines
from llamaduo_gui.data.formats.base import ContainerInfo, RawRow
from llamaduo_gui.data.rows import RowError

_DELIMITERS = (",", "\t", ";", "|")
_LOOKED_AT = 50
_MIN_SHARE = 0.5


def _claims(file: DataFile) -> bool:
    return not file.is_parquet and _delimiter(file) is not None


def _delimiter(file: DataFile) -> str | None:
    """The sign that cuts the first records into equally many fields, most of them; None if none."""
    lines = file.head.splitlines(keepends=True)
    if not file.is_whole_in_head:
        lines = lines[:-1]
    best: tuple[float, int, str] | None = None
    for sign in _DELIMITERS:
        records = _sample(lines, sign)
        width = len(records[0]) if records else 0
        share = sum(len(record) == width for record in records) / max(1, len(records))
        is_fit = width > 1 and share >= _MIN_SHARE and all(name.strip() for name in records[0])
        if is_fit and (best is None or (share, width) > best[:2]):
            best = (share, width, sign)
    return best[2] if best else None


def _sample(lines: list[str], sign: str) -> list[list[str]]:
    found: list[list[str]] = []
    try:
        for record in csv.reader(iter(lines), delimiter=sign, strict=True):
            if record:
                found.append(record)
            if len(found) == _LOOKED_AT:
                break
    except csv.Error:
        # A sample may be cut inside a quoted field; what came before it tells enough.
        return found
    return found


def _rows(file: DataFile) -> Iterator[RawRow]:
    # The module's own limit, 128 KB, is shorter than a long conversation; it is the process's.
    before = csv.field_size_limit(MAX_LENGTH)
    try:
        with file.open_text("") as stream:
            yield from _records(stream, _delimiter(file) or ",")
    finally:
        csv.field_size_limit(before)


def _records(stream: IO[str], sign: str) -> Iterator[RawRow]:
    lines = (line if line is not None else "" for line in read_lines(stream))
    # Strict: a quote that is never closed would take in the rest of the file in silence.
    reader = csv.reader(lines, delimiter=sign, strict=True)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield RawRow(number, RowError(f"is not valid CSV ({error})"))
            continue
        if not record:
            continue
        if header is None:
            header = _unique([name.strip() for name in record])
        elif len(record) != len(header):
            yield RawRow(number, RowError(_misfit(len(record), len(header))))
        else:
            yield RawRow(
                number, dict(zip(header, (field or None for field in record), strict=True))
            )


def _misfit(found: int, wanted: int) -> str:
    return f"has {found} field{'s' if found != 1 else ''}, the header has {wanted}"


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return found


INFO = ContainerInfo("csv", "CSV or TSV", 40, "line", _claims, _rows)
