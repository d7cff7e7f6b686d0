"""Tests that the GGUF equals what llama.cpp's own converter makes, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.core.paths import resources_dir
from tests.gguf_files import write_test_gguf
from tests.llama_cpp_oracle import Oracle, needs_oracle
from tests.tiny_families import FAMILIES, make_family_model
from tests.tiny_models import Architecture, make_tiny_model
from tests.unit.export.test_tensors import edit_config

pytestmark = needs_oracle

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
# Known to differ: the converter reads model cards and names, and these say more than it does. It
# copies add_space_prefix from tokenizer_config.json, where Mistral's says what is wrong in a chat.
OURS_ALONE = ("general.", "llamaduo.", "tokenizer.ggml.eo", "tokenizer.ggml.add_")


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """The converter."""
    with Oracle(tmp_path_factory.mktemp("oracle") / "converter.log") as found:
        yield found


def compare(oracle: Oracle, folder: Path, tmp_path: Path, quant: str) -> None:
    """Both files have the same tensors and the same metadata, as far as both have it."""
    ours = check_gguf(write_test_gguf(folder, tmp_path / "ours.gguf", quant))
    pre = ours.metadata["tokenizer.ggml.pre"]
    theirs_path = oracle.convert(folder, tmp_path / "theirs.gguf", quant, pre)
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
        if key == "tokenizer.chat_template":
            # Ours may begin with defaults for the family's arguments.
            assert ours.metadata[key].endswith(value)
        elif not key.startswith(OURS_ALONE):
            assert ours.metadata.get(key) == value, key


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_equals_the_converters(oracle: Oracle, tmp_path: Path, name: str) -> None:
    folder = make_family_model(tmp_path / "model", name, dtype="bfloat16")
    for quant in ("F32", "F16", "BF16", "Q8_0"):
        compare(oracle, folder, tmp_path, quant)


@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("name", MODELS)
def test_tensors_and_vocabulary_equal_the_converters(
    oracle: Oracle, tmp_path: Path, name: str, quant: str
) -> None:
    architecture, shape = MODELS[name]
    compare(oracle, make_tiny_model(tmp_path / "model", architecture, **shape), tmp_path, quant)


def test_llama3_rope_factors_equal_the_converters(oracle: Oracle, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", hidden=256)
    compare(oracle, edit_config(folder, rope_parameters=LLAMA3_ROPE), tmp_path, "F16")


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
def test_scaled_rope_equals_the_converters(
    oracle: Oracle, tmp_path: Path, rope: dict[str, Any]
) -> None:
    folder = make_tiny_model(tmp_path / "model", "qwen2")
    compare(oracle, edit_config(folder, rope_parameters=rope), tmp_path, "F16")


def test_the_shipped_model_equals_the_converters(oracle: Oracle, tmp_path: Path) -> None:
    compare(oracle, resources_dir() / "models" / "tiny", tmp_path, "Q8_0")
