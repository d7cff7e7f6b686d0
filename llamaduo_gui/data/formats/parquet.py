"""Parquet: columns of texts and lists, a few hundred rows in memory at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.data.files import DataFile
from llamaduo_gui.data.formats.base import ContainerInfo, RawRow

if TYPE_CHECKING:
    import pyarrow

_BATCH_ROWS = 256
_BUFFER_BYTES = 1 << 20


def _claims(file: DataFile) -> bool:
    return file.is_parquet


def _rows(file: DataFile) -> Iterator[RawRow]:
    # 0.4 s and 40 MB: only where Parquet is read.
    import pyarrow
    from pyarrow import parquet

    with ExitStack() as stack:
        try:
            source: Any = file.path
            if file.is_gzip:
                # Parquet is read from its end, which a packed stream cannot do.
                source = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stack.enter_context(file.open_binary()), source)
            opened = stack.enter_context(
                parquet.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            )
            yield from _read(opened, file)
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError, EOFError) as error:
            first = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise DataError(f"{file.path} is not readable Parquet ({first[:200]}).") from error


def _read(opened: Any, file: DataFile) -> Iterator[RawRow]:
    columns = [field.name for field in opened.schema_arrow if _is_readable(field.type)]
    number = 0
    total = max(1, opened.metadata.num_rows)
    batches = opened.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False)
    for batch in batches:
        for value in batch.to_pylist():
            number += 1
            yield RawRow(number, value)
        file.share_read = min(1.0, number / total)


def _is_readable(kind: pyarrow.DataType) -> bool:
    """Whether a column can be part of a conversation: no images, sounds or embeddings."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_readable(kind.value_type)
    if types.is_struct(kind):
        return all(_is_readable(field.type) for field in kind)
    if types.is_list(kind) or types.is_large_list(kind):
        return not types.is_floating(kind.value_type) and _is_readable(kind.value_type)
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(is_text or types.is_primitive(kind) or types.is_null(kind))


INFO = ContainerInfo("parquet", "Parquet", 10, "row", _claims, _rows)
