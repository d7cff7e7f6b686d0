"""Reads and checks the header of a GGUF file without loading the model or a heavy library.

Layout (ggml's docs/gguf.md): magic, version, counts, metadata, tensor infos, aligned tensor data.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaduo_gui.core.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4

# ggml_type -> (name, weights in a block, bytes of a block); ggml.c, type_traits.
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}

# llama_ftype -> the usual name of the quantisation; llama.h.
FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    25: "IQ4_NL",
    30: "IQ4_XS",
    32: "BF16",
}

_SCALARS: dict[int, str] = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING = 8
_ARRAY = 9


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor's description. `shape` has rows first; `offset` counts from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What the header of a GGUF file says."""

    path: Path
    version: int
    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]
    size_bytes: int

    @property
    def architecture(self) -> str:
        """The llama.cpp architecture, such as `llama`."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def quant(self) -> str:
        """Name of the quantisation the file was made with, such as `Q4_K_M`."""
        kind = self.metadata.get("general.file_type")
        return FILE_TYPES.get(kind, f"type {kind}") if isinstance(kind, int) else "unknown"

    @property
    def context_length(self) -> int:
        """The longest sequence the model was trained for, in tokens; 0 if the file does not say."""
        return int(self.metadata.get(f"{self.architecture}.context_length", 0))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(_count(tensor.shape) for tensor in self.tensors)

    @property
    def tensor_types(self) -> dict[str, int]:
        """How many tensors have which type, the most frequent first."""
        return dict(Counter(tensor.type for tensor in self.tensors).most_common())


class _DamagedError(Exception):
    pass


class _Reader:
    """Reads little-endian values one after another and refuses to go past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> int:
        """Step over `count` bytes and return where they began."""
        start = self.at
        if count < 0 or start + count > len(self.data):
            raise _DamagedError
        self.at = start + count
        return start

    def scalar(self, code: str) -> Any:
        form = "<" + code
        return struct.unpack_from(form, self.data, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        length = self.scalar("Q")
        start = self.take(length)
        return self.data[start : start + length].decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise _DamagedError
        return self.scalar(_SCALARS[kind])

    def _array(self) -> list[Any]:
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind in _SCALARS:
            form = f"<{count}{_SCALARS[kind]}" if count <= len(self.data) else ""
            if not form:
                raise _DamagedError
            start = self.take(struct.calcsize(form))
            return list(struct.unpack_from(form, self.data, start))
        if kind not in (_STRING, _ARRAY):
            raise _DamagedError
        return [self.value(kind) for _ in range(count)]


def check_gguf(path: Path) -> GgufFile:
    """Read the header of a GGUF file and check that all the tensor data it promises is there.

    Raises:
        UserError: the file is missing, is not a GGUF, has a version that cannot be read, or is
            shorter than its header says.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path or export the model again.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; choose the .gguf file itself.")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                raise UserError(f"{path.name} is empty; export or download it again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(path, data, size)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (_DamagedError, struct.error, RecursionError) as error:
        raise UserError(
            f"{path.name} is damaged or incomplete; export or download it again."
        ) from error


def _parse(path: Path, data: mmap.mmap, size: int) -> GgufFile:
    reader = _Reader(data)
    if data[:4] != MAGIC:
        raise UserError(
            f"{path.name} is not a GGUF file; choose a model file that ends in .gguf, "
            "such as the one Export wrote."
        )
    reader.take(4)
    version = reader.scalar("I")
    if version not in VERSIONS:
        big_endian = version & 0xFFFF == 0 and version != 0
        found = "is big-endian" if big_endian else f"has GGUF version {version}"
        raise UserError(
            f"{path.name} {found}, and this program reads little-endian GGUF version 2 and 3; "
            "convert the model again with a current llama.cpp."
        )
    tensor_count, value_count = reader.scalar("Q"), reader.scalar("Q")
    metadata: dict[str, Any] = {}
    for _ in range(value_count):
        key = reader.text()
        metadata[key] = reader.value(reader.scalar("I"))
    tensors = _tensors(path, reader, tensor_count, metadata)
    end = max((tensor.offset + tensor.size_bytes for tensor in tensors), default=reader.at)
    if end > size:
        raise UserError(
            f"{path.name} is cut off: it holds {size:,} of {end:,} bytes; export or download it "
            "again."
        )
    return GgufFile(path, version, metadata, tensors, size)


def _tensors(
    path: Path, reader: _Reader, count: int, metadata: dict[str, Any]
) -> tuple[GgufTensor, ...]:
    infos = [_tensor_info(reader) for _ in range(count)]
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0:
        raise _DamagedError
    data_start = -(-reader.at // alignment) * alignment
    tensors = []
    for name, shape, kind, offset in infos:
        if kind not in TENSOR_TYPES:
            raise UserError(
                f"{path.name} uses a tensor type ({kind}) unknown to this program; use a file with "
                "a common quantisation such as Q4_K_M."
            )
        type_name, block, block_bytes = TENSOR_TYPES[kind]
        size = _count(shape) // block * block_bytes
        tensors.append(GgufTensor(name, shape, type_name, data_start + offset, size))
    return tuple(tensors)


def _tensor_info(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    name = reader.text()
    dimensions = reader.scalar("I")
    if dimensions > MAX_DIMENSIONS:
        raise _DamagedError
    shape = tuple(reader.scalar("Q") for _ in range(dimensions))[::-1]
    return name, shape, reader.scalar("I"), reader.scalar("Q")


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
