"""Writes GGUF files for tests straight from a model folder."""

from __future__ import annotations

from pathlib import Path

from llamaduo_gui.export.gguf_writer import Description, write_gguf
from llamaduo_gui.export.quantize import K_QUANTS, quantize
from llamaduo_gui.export.tensors import open_model
from llamaduo_gui.export.tokenizer import describe_tokenizer, load_tokenizer

NAME = "Test model"


def write_test_gguf(
    base: Path, path: Path, quant: str = "F16", *, adapter: Path | None = None
) -> Path:
    """Export `base`, with `adapter` if one is given, to `path`."""
    model = open_model(base, adapter)
    spec = describe_tokenizer(load_tokenizer(base), base, model.embedding_rows)
    description = Description(NAME, base_model="someone/test-base")
    if quant not in K_QUANTS:
        write_gguf(path, model, spec, description, quant, lambda _name: None)
        return path
    wide = path.with_name(path.name + ".f16")
    write_gguf(wide, model, spec, description, "F16", lambda _name: None)
    quantize(wide, path, quant, lambda _number: None)
    wide.unlink()
    return path
