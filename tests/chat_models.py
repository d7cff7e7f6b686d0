"""A tiny GGUF that writes until it is stopped, for tests of chatting."""

from __future__ import annotations

from pathlib import Path

from tests.gguf_files import write_test_gguf
from tests.tiny_models import make_tiny_model

SPECIAL_TOKENS = 3  # the first ids of the tiny tokeniser: end of text, start and end of a turn


def make_endless_gguf(folder: Path, *, context: int = 8192) -> Path:
    """Write a random model whose greedy answers never end by themselves (10 million weights)."""
    from safetensors.numpy import load_file, save_file

    base = make_tiny_model(folder / "base", hidden=256, layers=16, context=context)
    weights = base / "model.safetensors"
    tensors = load_file(weights)
    # A logit of zero is never the largest of some hundred random ones.
    tensors["lm_head.weight"][:SPECIAL_TOKENS] = 0
    save_file(tensors, weights, metadata={"format": "pt"})
    return write_test_gguf(base, folder / "endless-F16.gguf")
