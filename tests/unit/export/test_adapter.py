"""Tests of the LoRA merge: the tensors peft would merge, and refusals of what is not plain LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.export.adapter import is_adapter, load_adapter
from llamaduo_gui.export.tensors import MergedTensor, open_model
from tests.adapters import make_test_adapter
from tests.tiny_models import Architecture, make_tiny_model


def in_transformers_order(tensor: MergedTensor) -> np.ndarray:
    """The tensor's values with llama's row permutation undone."""
    values = tensor.read()
    if tensor.row_order is None:
        return values
    restored = np.empty_like(values)
    restored[tensor.row_order] = values
    return restored


def exported(base: Path, adapter: Path) -> dict[str, np.ndarray]:
    """All tensors of the merged model by their GGUF names."""
    return {item.name: in_transformers_order(item) for item in open_model(base, adapter).tensors}


def gguf_names(state: dict[str, torch.Tensor], architecture: str, layers: int) -> dict[str, Any]:
    """A transformers state by GGUF names."""
    import gguf

    kind = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(kind, layers)
    return {
        names.get_name(name, (".weight", ".bias")): value.float().numpy()
        for name, value in state.items()
    }


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: dict[str, dict[str, Any]] = {
    "plain": {"r": 8, "lora_alpha": 16, "target_modules": LINEAR},
    "rslora": {"r": 8, "lora_alpha": 16, "use_rslora": True, "target_modules": ["q_proj"]},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": LINEAR,
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 16},
        "alpha_pattern": {"layers.0.self_attn.k_proj": 64, "down_proj": 1},
    },
    "saved modules": {
        "r": 4,
        "target_modules": ["v_proj"],
        "modules_to_save": ["embed_tokens", "lm_head"],
    },
    "embedding and output": {"r": 4, "target_modules": ["embed_tokens", "lm_head", "o_proj"]},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_merged_tensors_equal_those_of_merge_and_unload(
    tmp_path: Path, architecture: Architecture, settings: dict[str, Any]
) -> None:
    base = make_tiny_model(tmp_path / "base", architecture)
    model = make_test_adapter(base, tmp_path / "adapter", **settings)
    expected = gguf_names(model.merge_and_unload().state_dict(), architecture, layers=2)
    found = exported(base, tmp_path / "adapter")
    assert set(found) == set(expected)
    plain = exported(base, base)
    assert any(not np.array_equal(found[name], plain[name]) for name in found)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=2e-6, err_msg=name)


def test_a_bf16_base_is_merged_in_float32(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base", dtype="bfloat16")
    model = make_test_adapter(base, tmp_path / "adapter", **CASES["plain"])
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    expected = layer.base_layer.weight.float() + layer.get_delta_weight("default").float()
    found = exported(base, tmp_path / "adapter")["blk.0.attn_q.weight"]
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("saved", [["embed_tokens"], ["embed_tokens", "lm_head"]])
def test_tied_models_are_untied_where_the_adapter_changes_only_one_side(
    tmp_path: Path, saved: list[str]
) -> None:
    base = make_tiny_model(tmp_path / "base", tie=True)
    assert "output.weight" not in exported(base, base)
    model = make_test_adapter(
        base, tmp_path / "adapter", r=4, target_modules=["v_proj"], modules_to_save=saved
    )
    found = exported(base, tmp_path / "adapter")
    # What generated in training: the trained copy of each saved module, the original otherwise.
    inner = model.base_model.model
    embedding = inner.model.embed_tokens.modules_to_save["default"].weight
    output = getattr(inner.lm_head, "modules_to_save", {"default": inner.lm_head})["default"].weight
    np.testing.assert_array_equal(found["token_embd.weight"], embedding.detach().numpy())
    np.testing.assert_array_equal(found["output.weight"], output.detach().numpy())


def test_blocks_of_any_size_give_the_same_tensor(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    make_test_adapter(base, tmp_path / "adapter", **CASES["plain"])
    for tensor in open_model(base, tmp_path / "adapter").tensors:
        pieces = list(tensor.blocks(block_weights=200))
        assert len(pieces) > 1 or len(tensor.shape) == 1
        np.testing.assert_allclose(np.concatenate(pieces), tensor.read(), rtol=0, atol=1e-7)


def test_a_full_model_folder_takes_the_place_of_the_base(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    tuned = make_tiny_model(tmp_path / "tuned", seed=1)
    assert not is_adapter(tuned)
    found, expected = exported(base, tuned), exported(tuned, tuned)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True, "bias": "none"}, "lora_bias"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
    ],
)
def test_variants_that_do_not_merge_this_way_are_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    base = make_tiny_model(tmp_path / "base", "qwen2")
    make_test_adapter(base, tmp_path / "adapter", target_modules=["q_proj"], **settings)
    with pytest.raises(UserError, match=message):
        load_adapter(tmp_path / "adapter")


def test_other_kinds_of_adapters_are_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(UserError, match="of type IA3; only LoRA"):
        load_adapter(tmp_path)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    make_test_adapter(base, tmp_path / "adapter", **CASES["plain"])
    wider = make_tiny_model(tmp_path / "wider", hidden=128)
    with pytest.raises(UserError, match="the base model it was trained on"):
        open_model(wider, tmp_path / "adapter")
    shorter = make_tiny_model(tmp_path / "shorter", layers=1)
    with pytest.raises(UserError, match=r"layers\.1.*the base model it was trained on"):
        open_model(shorter, tmp_path / "adapter")


def test_half_an_update_is_noticed(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    base = make_tiny_model(tmp_path / "base")
    make_test_adapter(base, tmp_path / "adapter", **CASES["plain"])
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(weights)
    lost = next(name for name in tensors if "lora_B" in name)
    save_file({name: value for name, value in tensors.items() if name != lost}, weights)
    with pytest.raises(UserError, match="only half of the update"):
        load_adapter(tmp_path / "adapter")


def test_a_damaged_adapter_is_named(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    make_test_adapter(base, tmp_path / "adapter", **CASES["plain"])
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors is damaged"):
        load_adapter(tmp_path / "adapter")
    weights.unlink()
    with pytest.raises(UserError, match=r"adapter_model\.safetensors is missing"):
        load_adapter(tmp_path / "adapter")
