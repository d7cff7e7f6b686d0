"""Edits good GGUF files for tests: other metadata, other weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

REMOVED = object()
"""In place of a value: the key is left out."""

Array = npt.NDArray[Any]
_OWN = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture")


def edit_gguf(
    source: Path,
    target: Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Callable[[Array], Array]] | None = None,
) -> Path:
    """Copy a GGUF with some values of its metadata, or some of its tensors, changed."""
    reader = gguf.GGUFReader(source)
    changes = dict(metadata or {})
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if key in _OWN:
            continue
        value = changes.pop(key, None)
        if value is REMOVED:
            continue
        kind = field.types[0]
        sub_type = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents() if value is None else value, kind, sub_type)
    assert not changes, f"the file has no {list(changes)}"
    for tensor in reader.tensors:
        edit = (tensors or {}).get(tensor.name)
        data = np.array(tensor.data) if edit is None else edit(np.array(tensor.data))
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def reorder_rope(heads: int, *, undo: bool) -> Callable[[Array], Array]:
    """Take llama.cpp's order of a query's or key's rows back, or apply it."""

    def edit(rows: Array) -> Array:
        half = rows.shape[0] // heads // 2
        split = (heads, half, 2) if undo else (heads, 2, half)
        shape = (*split, *rows.shape[1:])
        return np.ascontiguousarray(rows.reshape(shape).swapaxes(1, 2).reshape(rows.shape))

    return edit
