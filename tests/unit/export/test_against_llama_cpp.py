"""Tests that the GGUF equals what llama.cpp's own converter makes, bit for bit.

Set LLAMADUO_LLAMA_CPP to a llama.cpp checkout, or to `vendor/llama.cpp` of the llama-cpp-python
source distribution, which has the converter (the installed wheel does not).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.core.paths import resources_dir
from tests.gguf_files import write_test_gguf
from tests.tiny_models import Architecture, make_tiny_model
from tests.unit.export.test_tensors import edit_config

CHECKOUT = os.environ.get("LLAMADUO_LLAMA_CPP", "")

pytestmark = pytest.mark.skipif(
    not (Path(CHECKOUT) / "convert_hf_to_gguf.py").is_file() or not CHECKOUT,
    reason="LLAMADUO_LLAMA_CPP names no llama.cpp checkout",
)

# The converter knows tokenisers by a hash of token ids: it is told the name instead.
PROGRAM = """
import sys
from pathlib import Path
checkout, folder, out, kind, pre = sys.argv[1:]
sys.path[:0] = [checkout, checkout + "/gguf-py"]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
import runpy
sys.argv = ["convert_hf_to_gguf.py", folder, "--outfile", out, "--outtype", kind]
runpy.run_path(checkout + "/convert_hf_to_gguf.py", run_name="__main__")
"""
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
MODELS: dict[str, tuple[Architecture, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied, padded, bf16": (
        "llama",
        {"tie": True, "embedding_rows": 512, "dtype": "bfloat16"},
    ),
    "llama, many heads": ("llama", {"heads": 8, "kv_heads": 1, "rope_theta": 1e6}),
    "qwen2": ("qwen2", {"dtype": "float16"}),
    "qwen2 tied": ("qwen2", {"tie": True}),
    "qwen3": ("qwen3", {"dtype": "bfloat16", "max_shard_size": "200KB"}),
}
# Known to differ: the converter reads model cards and names; these say more than it does.
OURS_ALONE = ("general.", "llamaduo.", "tokenizer.ggml.eo", "tokenizer.ggml.add_")


def compare(folder: Path, tmp_path: Path, quant: str) -> None:
    """Both files have the same tensors and the same metadata, as far as both have it."""
    ours = check_gguf(write_test_gguf(folder, tmp_path / "ours.gguf", quant))
    pre = ours.metadata["tokenizer.ggml.pre"]
    theirs_path = tmp_path / "theirs.gguf"
    arguments = [CHECKOUT, str(folder), str(theirs_path), quant.lower(), pre]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = check_gguf(theirs_path)
    expected = {tensor.name: tensor for tensor in theirs.tensors}
    assert {tensor.name for tensor in ours.tensors} == set(expected)
    our_bytes, their_bytes = ours.path.read_bytes(), theirs_path.read_bytes()
    for tensor in ours.tensors:
        other = expected[tensor.name]
        assert (tensor.shape, tensor.type) == (other.shape, other.type), tensor.name
        end, other_end = tensor.offset + tensor.size_bytes, other.offset + other.size_bytes
        assert our_bytes[tensor.offset : end] == their_bytes[other.offset : other_end], tensor.name
    for key, value in theirs.metadata.items():
        if not key.startswith(OURS_ALONE):
            assert ours.metadata.get(key) == value, key


@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("name", MODELS)
def test_tensors_and_vocabulary_equal_the_converters(tmp_path: Path, name: str, quant: str) -> None:
    architecture, shape = MODELS[name]
    compare(make_tiny_model(tmp_path / "model", architecture, **shape), tmp_path, quant)


def test_llama3_rope_factors_equal_the_converters(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", hidden=256)
    compare(edit_config(folder, rope_parameters=LLAMA3_ROPE), tmp_path, "F16")


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0},
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "rope_theta": 10_000.0,
            "original_max_position_embeddings": 128,
            "beta_fast": 16.0,
        },
    ],
    ids=lambda rope: str(rope["rope_type"]),
)
def test_scaled_rope_equals_the_converters(tmp_path: Path, rope: dict[str, Any]) -> None:
    folder = make_tiny_model(tmp_path / "model", "qwen2")
    compare(edit_config(folder, rope_parameters=rope), tmp_path, "F16")


def test_the_shipped_model_equals_the_converters(tmp_path: Path) -> None:
    compare(resources_dir() / "models" / "tiny", tmp_path, "Q8_0")
