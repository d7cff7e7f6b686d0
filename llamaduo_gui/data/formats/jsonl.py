"""JSON lines: one JSON object a line; a broken line does not hurt its neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator

from llamaduo_gui.data.files import DataFile, read_lines
from llamaduo_gui.data.formats.base import ContainerInfo, RawRow
from llamaduo_gui.data.json_stream import ROW_KEYS
from llamaduo_gui.data.rows import RowError, decode_json

_LOOKED_AT = 50


def _claims(file: DataFile) -> bool:
    """Whether one of the first lines is an object by itself, not indented."""
    head = file.head.lstrip()
    if not head.startswith("{"):
        return False
    if file.path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return True
    lines = [line for line in head.split("\n") if line.strip()]
    return any(line.startswith("{") and _is_row(line) for line in lines[:_LOOKED_AT])


def _is_row(line: str) -> bool:
    """Whether a line is an object by itself, and not a document with the rows in it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and not any(isinstance(value.get(k), list) for k in ROW_KEYS)


def _rows(file: DataFile) -> Iterator[RawRow]:
    with file.open_text("\n") as stream:
        for number, line in enumerate(read_lines(stream), start=1):
            if line is None:
                yield RawRow(number, RowError("is longer than 64 MB"))
            elif line.strip():
                yield RawRow(number, _decode(line.strip(), line, file.encoding.codec))


def _decode(text: str, line: str, codec: str) -> object:
    if not line.isascii() and codec.startswith("utf-8"):
        found = next((place for place, sign in enumerate(line) if "\udc80" <= sign <= "\udcff"), -1)
        if found >= 0:
            position = len(line[:found].encode("utf-8")) + 1
            code = ord(line[found]) - 0xDC00
            return RowError(f"is not UTF-8 (byte 0x{code:02X} at position {position})")
    try:
        return decode_json(text, "")
    except RowError as error:
        return error


INFO = ContainerInfo("jsonl", "JSON lines", 20, "line", _claims, _rows)
