"""Opens data files whatever their packing and encoding: gzip, byte-order marks, a guess."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from llamaduo_gui.core.errors import DataError

HEAD_BYTES = 1 << 18
# A line or JSON value longer than this is a file gone wrong, not a conversation.
MAX_LENGTH = 1 << 26
_SNIFF_BYTES = 1 << 26
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
# Longer marks first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte-order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_OTHER_FILES = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; unpack it, or save the sheet as CSV",
    b"%PDF": "a PDF document; data has to be JSONL, JSON, CSV, TSV or Parquet",
    b"SQLite format 3": "a database; data has to be JSONL, JSON, CSV, TSV or Parquet",
    b"ARROW1": "an Arrow file; save it as Parquet",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"BZh": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
}
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes become text: Python's name of the codec, and words for people."""

    codec: str
    title: str
    is_guess: bool = False


class DataFile:
    """One file to import, opened as often as needed.

    Attributes:
        path: where it is.
        size_bytes: on disk.
        is_gzip: whether it is packed.
        is_parquet: whether it is Parquet, which is not text.
        encoding: how its bytes become text.
        head: the beginning of the text; empty for Parquet.
        is_whole_in_head: whether `head` is all of it.
        share_read: how much of it is read while a reader runs, 0..1.
    """

    def __init__(self, path: Path) -> None:
        """Look at the beginning of a file.

        Raises:
            DataError: it is missing, a folder, empty, or no data file. One sentence.
        """
        self.path = path
        self.share_read = 0.0
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise DataError(f"{path} is a folder; choose a data file in it.")
            self.size_bytes = status.st_size
            with path.open("rb", buffering=0) as raw:
                start = raw.read(HEAD_BYTES) or b""
            self._small = start if len(start) < HEAD_BYTES else None
            self.is_gzip = start.startswith(_GZIP)
            if self.is_gzip:
                with self.open_binary() as stream:
                    start = stream.read(HEAD_BYTES)
            self.is_parquet = start.startswith(_PARQUET)
            self.encoding = self._find_encoding(start)
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist; check the path.") from error
        except _DAMAGE as error:
            raise self.damaged() from error
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error
        except ValueError as error:
            raise DataError(f"{str(path)!r} is not a path.") from error
        self.is_whole_in_head = len(start) < HEAD_BYTES
        self.head = "" if self.is_parquet else self._decode_head(start)
        if not self.is_parquet and self.is_whole_in_head and not self.head.strip():
            raise DataError(f"{path} is empty; it needs a row for each prompt.")

    @property
    def name(self) -> str:
        """The file's name without `.gz`."""
        return self.path.name.removesuffix(".gz") if self.is_gzip else self.path.name

    def damaged(self) -> DataError:
        """The error for a packed file that ends early or does not unpack."""
        return DataError(f"{self.path} is cut off or damaged: it does not unpack as gzip.")

    @contextlib.contextmanager
    def open_binary(self) -> Iterator[BinaryIO]:
        """The bytes, unpacked."""
        with self.path.open("rb") as raw:
            if not self.is_gzip:
                yield raw
                return
            with gzip.GzipFile(fileobj=raw, mode="rb") as unpacked:
                yield io.BufferedReader(unpacked)

    @contextlib.contextmanager
    def open_text(self, newline: str) -> Iterator[IO[str]]:
        r"""The text, and `share_read` kept up to date.

        Args:
            newline: as for `open`: "\n" splits lines there only, "" at any line break.

        Raises:
            DataError: the file cannot be read or unpacked.
        """
        is_bytewise = self.encoding.codec in ("utf-8", "utf-8-sig", "cp1252")
        try:
            with self._open_raw() as raw:
                counted = _Counted(raw, self)
                buffered: BinaryIO = io.BufferedReader(counted, _CHUNK)
                if self.is_gzip:
                    unpacked = gzip.GzipFile(fileobj=buffered, mode="rb")
                    buffered = io.BufferedReader(unpacked, _CHUNK)
                yield io.TextIOWrapper(
                    buffered,
                    encoding=self.encoding.codec,
                    errors="surrogateescape" if is_bytewise else "replace",
                    newline=newline,
                )
        except _DAMAGE as error:
            raise self.damaged() from error
        except OSError as error:
            text = f"{self.path} cannot be read ({error.strerror or error})."
            raise DataError(text) from error

    def _open_raw(self) -> io.FileIO | io.BytesIO:
        """The bytes on disk; those of a small file are known already."""
        small = self._small
        return self.path.open("rb", buffering=0) if small is None else io.BytesIO(small)

    def _find_encoding(self, start: bytes) -> Encoding:
        for mark, codec, title in _MARKS:
            if start.startswith(mark):
                return Encoding(codec, title)
        for mark, kind in _OTHER_FILES.items():
            if start.startswith(mark):
                raise DataError(f"{self.path} is {kind}.")
        if self.is_parquet:
            return Encoding("utf-8", "UTF-8")
        if b"\0" in start[:4096]:
            raise DataError(
                f"{self.path} is not text; data has to be JSONL, JSON, CSV, TSV or Parquet."
            )
        if len(start) < HEAD_BYTES:
            return _utf8_or_guess(io.BytesIO(start))
        with self.open_binary() as stream:
            return _utf8_or_guess(stream)

    def _decode_head(self, start: bytes) -> str:
        text = start.decode(self.encoding.codec, "replace")
        if not self.is_whole_in_head:
            text = text.rstrip("\ufffd")
        return text


class _Counted(io.RawIOBase):
    """Passes bytes on and notes how much of the file they are."""

    def __init__(self, raw: io.FileIO | io.BytesIO, file: DataFile) -> None:
        self._raw = raw
        self._file = file
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._raw.readinto(buffer) or 0
        self._done += count
        self._file.share_read = min(1.0, self._done / max(1, self._file.size_bytes))
        return count


def read_lines(stream: IO[str]) -> Iterator[str | None]:
    """Lines with their line breaks; None stands for one that is longer than any row can be."""
    while line := stream.readline(MAX_LENGTH):
        if len(line) < MAX_LENGTH or line.endswith("\n"):
            yield line
            continue
        while (line := stream.readline(MAX_LENGTH)) and not line.endswith("\n"):
            continue
        yield None


def _utf8_or_guess(stream: BinaryIO) -> Encoding:
    """UTF-8 unless there are bytes that are not, and none that are telling UTF-8.

    One broken line in a UTF-8 file must not make the others Windows-1252.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    while done < _SNIFF_BYTES and (chunk := stream.read(_CHUNK)):
        done += len(chunk)
        try:
            text = decoder.decode(chunk)
        except UnicodeDecodeError:
            if any(_is_telling_utf8(line) for line in chunk.split(b"\n")):
                break
            return Encoding("cp1252", "Windows-1252, a guess: it is not UTF-8", is_guess=True)
        if not text.isascii():
            break
    return Encoding("utf-8", "UTF-8")


def _is_telling_utf8(line: bytes) -> bool:
    if line.isascii():
        return False
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
