"""JSON documents: an array of objects, or an object with such an array, streamed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llamaduo_gui.data.files import DataFile
from llamaduo_gui.data.formats.base import ContainerInfo, RawRow
from llamaduo_gui.data.json_stream import JsonBreakError, iterate_rows
from llamaduo_gui.data.rows import RowError

_START = re.compile(r"\s*(\[\s*[\[{\]\"\-0-9tfn]|\{\s*[\"}])")


def _claims(file: DataFile) -> bool:
    return _START.match(file.head) is not None


def _rows(file: DataFile) -> Iterator[RawRow]:
    number = 0
    with file.open_text("\n") as stream:
        rows = iterate_rows(stream)
        while True:
            number += 1
            try:
                value = next(rows)
            except StopIteration:
                return
            except JsonBreakError as error:
                reason = f"is not valid JSON ({error}); nothing after it can be read"
                yield RawRow(number, RowError(reason))
                return
            yield RawRow(number, value)


INFO = ContainerInfo("json", "JSON", 30, "row", _claims, _rows)
