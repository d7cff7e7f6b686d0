"""Decodes JSON documents of any size value by value, holding one value and one chunk in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO

from llamaduo_gui.data.files import MAX_LENGTH

# A document that is one object keeps its rows under one of these.
ROW_KEYS = ("data", "rows", "contents", "examples", "items", "records", "instances")
_CHUNK = 1 << 16
_MAX_CHUNK = 1 << 22
# An error this close to the end of what is read may only mean that the rest is missing.
_MARGIN = 16
_MAX_DIGITS = 4000
_SPACE = re.compile(r"[ \t\r\n]*")
# What may follow the digits read so far: "1" may become "1.5e-3".
_NUMBER_REST = re.compile(r"[0-9eE+.\-]*")


class JsonBreakError(ValueError):
    """The document breaks off; what follows cannot be read. The text is a phrase."""


def _integer(text: str) -> int | str:
    """A whole number; one too long for Python to convert stays text, and its row is refused."""
    return int(text) if len(text) < _MAX_DIGITS else text


class _Reader:
    """A window on the document that grows as a value needs it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder(parse_int=_integer)
        self._text = ""
        self._place = 0
        self._is_end = False

    def peek(self) -> str:
        """The next character that is no space, or nothing at the end."""
        while True:
            match = _SPACE.match(self._text, self._place)
            self._place = match.end() if match else self._place
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more(_CHUNK):
                return ""

    def take(self, wanted: str) -> bool:
        """Step over a character if it is the next."""
        if self.peek() != wanted:
            return False
        self._place += 1
        return True

    def value(self) -> object:
        """The next value.

        Raises:
            JsonBreakError: there is none.
        """
        self.peek()
        size = _CHUNK
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                is_string = error.msg.startswith("Unterminated string")
                is_cut = is_string or error.pos >= len(self._text) - _MARGIN
                if not is_cut or not self._more(size):
                    raise JsonBreakError(f"{error.msg[:1].lower()}{error.msg[1:]}") from error
            except (ValueError, RecursionError) as error:
                raise JsonBreakError("it is nested too deeply") from error
            else:
                if not self._is_open_number(end) or not self._more(size):
                    self._place = end
                    return found
            size = min(2 * size, _MAX_CHUNK)

    def _is_open_number(self, end: int) -> bool:
        """Whether the value before `end` is a number that may go on in what is not read yet."""
        is_near = len(self._text) - end <= _MARGIN
        is_number = is_near and self._text[end - 1].isdigit()
        return is_number and _NUMBER_REST.fullmatch(self._text, end) is not None

    def _more(self, size: int) -> bool:
        if self._is_end:
            return False
        if len(self._text) - self._place > MAX_LENGTH:
            raise JsonBreakError("one value is longer than 64 MB")
        chunk = self._stream.read(size)
        self._is_end = not chunk
        self._text = self._text[self._place :] + chunk
        self._place = 0
        return bool(chunk)


def iterate_rows(stream: IO[str]) -> Iterator[object]:
    """Rows of a document: of an array, of an array under one of `ROW_KEYS`, or the value itself.

    Several documents one after the other are read as one.

    Raises:
        JsonBreakError: the document breaks off.
    """
    reader = _Reader(stream)
    while first := reader.peek():
        if first == "[":
            yield from _array(reader)
        elif first == "{":
            yield from _object(reader)
        else:
            yield reader.value()


def _array(reader: _Reader) -> Iterator[object]:
    reader.take("[")
    if reader.take("]"):
        return
    while True:
        yield reader.value()
        if reader.take("]"):
            return
        if not reader.take(","):
            raise JsonBreakError(_expected("a comma or ] after an element", reader))


def _object(reader: _Reader) -> Iterator[object]:
    found: dict[str, object] = {}
    has_rows = False
    reader.take("{")
    while not reader.take("}"):
        key = reader.value() if reader.peek() == '"' else None
        if not isinstance(key, str) or not reader.take(":"):
            raise JsonBreakError(_expected("a name and a colon", reader))
        if key in ROW_KEYS and reader.peek() == "[":
            has_rows = True
            yield from _array(reader)
        else:
            found[key] = reader.value()
        if reader.peek() != "}" and not reader.take(","):
            raise JsonBreakError(_expected("a comma or } after a value", reader))
    if not has_rows:
        yield found


def _expected(what: str, reader: _Reader) -> str:
    return f"expected {what}" + ("" if reader.peek() else ", the file ends")
