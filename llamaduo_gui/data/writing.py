"""Writes records as messages JSONL or Parquet, forms that `reading` takes in."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Record

_BATCH_ROWS = 1000


def record_to_row(record: Record) -> dict[str, Any]:
    """The JSON object of one record; reading it back gives an equal record."""
    row: dict[str, Any] = {
        "prompt": record.instruction,
        "prompt_id": record.prompt_id,
        "messages": [message.to_dict() for message in record.messages],
        "category": record.category,
    }
    if record.generator is not None:
        row["generator"] = record.generator
    if record.seed_prompt is not None:
        row["seed_prompt"] = record.seed_prompt
    return row


def write_jsonl(records: Iterable[Record], path: Path) -> int:
    """Write records, one a line, in UTF-8; folders are made, an existing file is replaced.

    The file appears whole or not at all.

    Returns:
        Records written.

    Raises:
        DataError: the file cannot be written.
    """
    return write_jsonl_rows(map(record_to_row, records), path)


def write_jsonl_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """`write_jsonl` for JSON objects."""
    count = 0
    with _whole_or_not(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_parquet_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write rows of `record_to_row`, with `origin` and `round`, as Parquet (zstd).

    Returns:
        Rows written.

    Raises:
        DataError: the file cannot be written.
    """
    # 0.4 s and 40 MB: only where Parquet is written.
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.string()
    turns = pyarrow.list_(pyarrow.struct([("role", text), ("content", text)]))
    names = ("prompt", "prompt_id", "messages", "category", "generator", "seed_prompt", "origin")
    fields = [(name, turns if name == "messages" else text) for name in names]
    schema = pyarrow.schema([*fields, ("round", pyarrow.int32())])
    count = 0
    iterator = iter(rows)
    with (
        _whole_or_not(path) as temporary,
        parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        while batch := list(itertools.islice(iterator, _BATCH_ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


@contextlib.contextmanager
def _whole_or_not(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when all is written."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}); check the folder and the "
            "free space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
