"""Reads tensors of a safetensors folder row by row, from the mapped file, without loading it.

Format: https://huggingface.co/docs/safetensors (8 bytes of header length, a JSON header, data).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llamaduo_gui.core.errors import UserError

Float32 = npt.NDArray[np.float32]
# Which rows of a tensor: all of a range, or a list in any order.
Rows = slice | npt.NDArray[np.intp]

# BF16 has no numpy type: its bits are read as integers and shifted into place.
_NUMPY_TYPES: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
}
_HEADER_LIMIT = 100_000_000


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor inside a safetensors file. `array` is a view of the mapped file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    array: npt.NDArray[Any]

    def read(self, rows: Rows) -> Float32:
        """Some rows in float32 (a vector's elements count as rows)."""
        part = self.array[rows]
        if self.dtype == "BF16":
            widened = part.astype(np.uint32) << np.uint32(16)
            return widened.view(np.float32)
        return part.astype(np.float32)


def open_shards(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a model folder by its name, mapped and not yet read.

    Raises:
        UserError: there are no safetensors weights, a shard is missing or damaged, or the
            weights are of a type that cannot be exported.
    """
    tensors: dict[str, StoredTensor] = {}
    for path in _weight_files(folder):
        tensors.update(open_safetensors(path))
    return tensors


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file.

    Raises:
        UserError: the file is missing or damaged, or has a type that cannot be exported.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _HEADER_LIMIT:
                raise ValueError("the header is too long")
            header = json.loads(file.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
        header.pop("__metadata__", None)
        return {name: _tensor(name, entry, data) for name, entry in header.items()}
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; get the model again.") from error
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise UserError(f"{path} is damaged or incomplete; get the model again.") from error


def _tensor(name: str, entry: dict[str, Any], data: npt.NDArray[np.uint8]) -> StoredTensor:
    dtype = entry["dtype"]
    if dtype not in _NUMPY_TYPES:
        raise UserError(
            f"The weight {name} is stored as {dtype}; export needs a base model with 16-bit or "
            "32-bit weights."
        )
    start, end = entry["data_offsets"]
    if end > data.size:
        raise ValueError("the data is cut off")
    array = data[start:end].view(_NUMPY_TYPES[dtype]).reshape(entry["shape"])
    return StoredTensor(name, dtype, tuple(entry["shape"]), array)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{index} is damaged; get the model again.") from error
        return [folder / name for name in sorted(names)]
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise UserError(
            f"{folder} has no safetensors weights; export needs the base model in that format."
        )
    return files
