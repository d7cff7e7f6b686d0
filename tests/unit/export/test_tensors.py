"""Tests of reading shards, of the architecture's numbers, and of what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.export.architectures import read_architecture, rope_frequency_factors
from llamaduo_gui.export.shards import open_safetensors, open_shards
from llamaduo_gui.export.tensors import open_model
from tests.tiny_models import make_tiny_model


def edit_config(folder: Path, **changes: Any) -> Path:
    """Change keys of config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")
    return folder


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_every_float_type_are_read_as_torch_reads_them(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    values = torch.randn(7, 12, dtype=torch.float32).to(dtype)
    save_file({"w": values}, tmp_path / "x.safetensors")
    tensor = open_safetensors(tmp_path / "x.safetensors")["w"]
    expected = values.float().numpy()
    np.testing.assert_array_equal(tensor.read(slice(2, 5)), expected[2:5])
    order = np.array([6, 0, 3])
    np.testing.assert_array_equal(tensor.read(order), expected[order])
    assert tensor.read(slice(None)).dtype == np.float32


def test_integer_weights_are_refused_with_the_way_out(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2, 2, dtype=torch.int8)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"stored as I8.*16-bit or"):
        open_safetensors(tmp_path / "x.safetensors")


def test_shards_are_found_through_their_index(tmp_path: Path) -> None:
    whole = make_tiny_model(tmp_path / "whole")
    cut = make_tiny_model(tmp_path / "cut", max_shard_size="200KB")
    assert len(list(cut.glob("model-*.safetensors"))) > 1
    one, many = open_shards(whole), open_shards(cut)
    assert set(one) == set(many)
    for name, tensor in one.items():
        np.testing.assert_array_equal(tensor.array, many[name].array)
    next(cut.glob("model-*.safetensors")).unlink()
    with pytest.raises(UserError, match="is missing; get the model again"):
        open_shards(cut)


@pytest.mark.parametrize("content", [b"", b"x" * 7, b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]"])
def test_a_file_that_is_not_safetensors_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        open_safetensors(path)


def test_a_folder_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(UserError, match="no safetensors weights"):
        open_shards(tmp_path)


def test_a_missing_layer_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"blk\.1\.ffn_up\.weight is\s+missing"):
        open_model(folder)


def test_a_weight_without_a_place_in_the_gguf_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.extra.weight"] = torch.zeros(2, 2)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"model\.layers\.0\.extra\.weight"):
        open_model(folder)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tensor = next(item for item in open_model(folder).tensors if item.name == "blk.1.ffn_up.weight")
    with pytest.raises(UserError, match=r"blk\.1\.ffn_up\.weight.*training diverged"):
        tensor.read()


def test_settings_of_the_rotary_embedding_are_read_in_both_spellings(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, rope_theta=500_000.0)
    assert read_architecture(folder).rope.theta == 500_000.0
    scaling = {"type": "linear", "factor": 4.0}
    edit_config(folder, rope_parameters=None, rope_theta=123.0, rope_scaling=scaling)
    rope = read_architecture(folder).rope
    assert (rope.theta, rope.kind, rope.parameters) == (123.0, "linear", {"factor": 4.0})


def test_llama3_frequencies_equal_those_of_transformers(tmp_path: Path) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    folder = make_tiny_model(tmp_path, hidden=256)
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 10_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    edit_config(folder, rope_parameters=scaling)
    factors = rope_frequency_factors(read_architecture(folder))
    assert factors is not None
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](LlamaConfig.from_pretrained(folder), "cpu")
    plain = 10_000.0 ** -(np.arange(0, 64, 2) / 64)
    np.testing.assert_allclose(plain / factors, scaled.numpy(), rtol=1e-6)
    assert len(set(factors.tolist())) > 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba2"}, "type mamba2 cannot be exported.*llama, .*qwen3"),
        ({"quantization_config": {"quant_method": "gptq"}}, "already quantised"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"hidden_act": "gelu"}, "activation gelu"),
        ({"partial_rotary_factor": 0.5}, "only part of each head"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "Only Phi models"),
        ({"rope_parameters": {"rope_type": "proportional"}}, "by proportional"),
        ({"num_hidden_layers": None}, "has no num_hidden_layers"),
    ],
)
def test_models_llama_cpp_would_run_wrongly_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = edit_config(make_tiny_model(tmp_path, layers=1), **changes)
    with pytest.raises(UserError, match=message):
        read_architecture(folder)
