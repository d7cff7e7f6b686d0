"""A hash of what a model folder's weights are, whatever files hold them and wherever they lie."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PATTERN = "*.safetensors"
_ADAPTER_CONFIG = "adapter_config.json"
# What an adapter's tensors mean depends on these: the same factors with another alpha are another
# student.
_SCALE_KEYS = (
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
    "use_dora",
)
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor's bytes lie; `header` is what the hash says about it."""

    path: Path
    start: int
    size: int
    header: str


def has_weights(folder: Path) -> bool:
    """Whether a folder holds safetensors weights."""
    return folder.is_dir() and any(folder.glob(_PATTERN))


def hash_weights(folder: Path) -> str:
    """SHA-256 of a folder's tensors: names, number formats, shapes and bytes, in order of name.

    Neither the split into shards, nor the order in a file, nor notes beside the weights count. Of
    an adapter the settings that scale its update count as well.

    Raises:
        ValueError: a safetensors file is damaged.
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    settings = _scale_settings(folder / _ADAPTER_CONFIG)
    if settings:
        digest.update(json.dumps(settings, sort_keys=True).encode())
    places: dict[str, _Place] = {}
    for path in sorted(folder.glob(_PATTERN)):
        places.update(_tensors(path))
    for name in sorted(places):
        place = places[name]
        digest.update(place.header.encode())
        with place.path.open("rb") as file:
            file.seek(place.start)
            left = place.size
            while left and (block := file.read(min(left, _BLOCK_BYTES))):
                digest.update(block)
                left -= len(block)
        if left:
            raise ValueError(f"{place.path} is cut off")
    return digest.hexdigest()


def _scale_settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    config = json.loads(path.read_text(encoding="utf-8"))
    return {key: config[key] for key in _SCALE_KEYS if key in config}


def _tensors(path: Path) -> dict[str, _Place]:
    """The tensors of one file; format: https://huggingface.co/docs/safetensors."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        found = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            shown = json.dumps([name, entry["dtype"], entry["shape"]])
            found[name] = _Place(path, 8 + length + start, end - start, shown)
        return found
    except (KeyError, TypeError, AttributeError, struct.error, MemoryError) as error:
        raise ValueError(f"{path} is damaged") from error
