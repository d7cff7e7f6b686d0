"""Writes the student in transformers' formats: the adapter with its model card, or merged whole."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from llamaduo_gui.core.base_model import read_model_config
from llamaduo_gui.export.architectures import read_architecture
from llamaduo_gui.export.gguf_writer import Description
from llamaduo_gui.export.shards import Float32
from llamaduo_gui.export.tensors import OUTPUT, MergedTensor, merge_weights

_COPIED = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "generation_config.json",
)
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_SIZES = {"BF16": 2, "F16": 2, "F32": 4}
_ALIGNMENT = 8


def write_adapter_folder(adapter: Path, base: Path, target: Path, about: Description) -> Path:
    """Write adapter, tokeniser and a model card, as the Hub and peft expect them.

    Args:
        adapter: what training left.
        base: the base model, whose tokeniser files count where the adapter has none.
        target: folder to write; files of the same names are replaced.
        about: names, licence and data for the card.
    """
    target.mkdir(parents=True, exist_ok=True)
    _copy(base, target, _COPIED)
    _copy(adapter, target, (*_COPIED, *_ADAPTER_FILES))
    (target / "README.md").write_text(model_card(about, is_adapter=True), encoding="utf-8")
    return target


def write_merged_folder(
    base: Path,
    adapter: Path | None,
    target: Path,
    about: Description,
    on_tensor: Callable[[str], None],
    *,
    quantized_from: str | None = None,
) -> Path:
    """Write base and adapter merged as safetensors, a few rows at a time, in the base's format.

    Args:
        base: the base model, or the whole trained one.
        adapter: None for a whole trained model.
        target: folder to write; files of the same names are replaced.
        about: for the model card.
        on_tensor: called with each tensor's name after it was written; may raise to stop.
        quantized_from: see `open_model`.
    """
    target.mkdir(parents=True, exist_ok=True)
    config = read_model_config(base)
    dtype = _NAMES.get(str(config.get("dtype") or config.get("torch_dtype")), "F32")
    architecture = read_architecture(base)
    tensors = merge_weights(base, adapter, architecture, quantized_from=quantized_from)
    partial = target / "model.safetensors.part"
    try:
        _write_safetensors(partial, tensors, dtype, on_tensor)
        partial.replace(target / "model.safetensors")
    finally:
        partial.unlink(missing_ok=True)
    # An adapter that changes only one of two tied weights leaves them apart.
    config["tie_word_embeddings"] = not any(item.name == OUTPUT for item in tensors)
    (target / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    _copy(base, target, _COPIED)
    if adapter is not None:
        _copy(adapter, target, _COPIED)
    (target / "README.md").write_text(model_card(about, is_adapter=False), encoding="utf-8")
    return target


def model_card(about: Description, *, is_adapter: bool) -> str:
    """A README.md with the Hub's front matter: base model, licence, how it was made."""
    front = {
        "base_model": about.base_model,
        "license": about.license,
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in front.items() if value]
    kind = "A LoRA adapter for" if is_adapter else "A fine-tuned version of"
    facts = [f"- {key.replace('_', ' ')}: {value}" for key, value in about.extra.items()]
    data = f"Trained on: {', '.join(about.datasets)}." if about.datasets else ""
    parts = [
        "---\n" + "\n".join(lines) + "\n---",
        f"# {about.name}",
        f"{kind} {about.base_model or about.basename}, trained with LlamaDuo GUI. {data}".strip(),
        "\n".join(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _write_safetensors(
    path: Path, tensors: Sequence[MergedTensor], dtype: str, on_tensor: Callable[[str], None]
) -> None:
    """Format: https://huggingface.co/docs/safetensors (header length, JSON header, data)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        size = tensor.weights * _SIZES[dtype]
        header[tensor.name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for tensor in tensors:
            for block in tensor.blocks():
                file.write(_encode(block, dtype))
            on_tensor(tensor.name)


def _encode(block: Float32, dtype: str) -> bytes:
    if dtype == "BF16":
        flat = np.ascontiguousarray(block).reshape(1, -1)
        return gguf.quants.quantize(flat, gguf.GGMLQuantizationType.BF16).tobytes()
    return block.astype(np.float16 if dtype == "F16" else np.float32).tobytes()


def _copy(source: Path, target: Path, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for item in source.glob(pattern):
            if item.is_file():
                shutil.copyfile(item, target / item.name)
