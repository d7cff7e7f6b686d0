"""What sets Gemma apart is read from its config.json, or refused where llama.cpp differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.export.architectures import read_architecture
from tests.gguf_files import write_test_gguf
from tests.tiny_families import make_family_model

# As published; keys that say nothing here are left out.
GEMMA_7B = {
    "model_type": "gemma",
    "hidden_act": "gelu",
    "hidden_activation": None,
    "head_dim": 256,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "max_position_embeddings": 8192,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 16,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}
GEMMA2_27B = {
    "model_type": "gemma2",
    "hidden_activation": "gelu_pytorch_tanh",
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "head_dim": 128,
    "hidden_size": 4608,
    "intermediate_size": 36864,
    "max_position_embeddings": 8192,
    "num_attention_heads": 32,
    "num_hidden_layers": 46,
    "num_key_value_heads": 16,
    "query_pre_attn_scalar": 144,
    "rms_norm_eps": 1e-6,
    "sliding_window": 4096,
}
GEMMA3_1B = {
    "model_type": "gemma3_text",
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
}


def folder_with(tmp_path: Path, config: dict[str, Any], **changes: Any) -> Path:
    text = json.dumps({**config, **changes})
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_published_configurations_are_read(tmp_path: Path) -> None:
    first = read_architecture(folder_with(tmp_path, GEMMA_7B))
    assert (first.name, first.head_dim, first.is_tied, first.rope.theta) == (
        "gemma",
        256,
        True,
        10_000,
    )
    assert first.gemma is not None
    assert (first.gemma.window, first.gemma.attention_cap, first.gemma.final_cap) == (None,) * 3
    second = read_architecture(folder_with(tmp_path, GEMMA2_27B))
    assert second.gemma is not None
    assert (second.gemma.window, second.gemma.has_window) == (4096, ())
    assert (second.gemma.attention_cap, second.gemma.final_cap) == (50, 30)
    third = read_architecture(folder_with(tmp_path, GEMMA3_1B))
    assert third.gemma is not None
    assert (third.rope.theta, third.gemma.local_theta, third.gemma.window) == (1e6, 1e4, 512)


@pytest.mark.parametrize(
    ("config", "changes", "words"),
    [
        (GEMMA_7B, {"hidden_activation": "relu"}, "activation relu"),
        (GEMMA_7B, {"use_bidirectional_attention": True}, "both directions"),
        (GEMMA_7B, {"attn_logit_softcapping": 50.0}, "caps the attention"),
        (GEMMA_7B, {"final_logit_softcapping": 30.0}, "caps the attention"),
        (GEMMA_7B, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "context by yarn"),
        (GEMMA2_27B, {"attn_logit_softcapping": None}, "caps the attention"),
        (GEMMA2_27B, {"query_pre_attn_scalar": 256}, "root of 256 and llama.cpp by that of 144"),
        (GEMMA2_27B, {"num_hidden_layers": 45}, "root of 144 and llama.cpp by that of 128"),
        (GEMMA3_1B, {"query_pre_attn_scalar": 100}, "root of 100"),
        (
            GEMMA3_1B,
            {"rope_parameters": {"full_attention": {}, "sliding_attention": {"rope_type": "yarn"}}},
            "sliding window",
        ),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(
    tmp_path: Path, config: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        read_architecture(folder_with(tmp_path, config, **changes))


def test_another_order_of_windows_is_written_layer_by_layer(tmp_path: Path) -> None:
    kinds = ["full_attention", *["sliding_attention"] * 6]
    folder = make_family_model(tmp_path / "model", "gemma3-1b", layer_types=kinds)
    metadata = check_gguf(write_test_gguf(folder, tmp_path / "m.gguf")).metadata
    assert metadata["gemma3.attention.sliding_window_pattern"] == [False, *[True] * 6]


def test_a_tokens_row_that_the_embedding_lacks_is_left_out(tmp_path: Path) -> None:
    folder = make_family_model(tmp_path / "model", "gemma3-1b")
    metadata = check_gguf(write_test_gguf(folder, tmp_path / "m.gguf")).metadata
    assert "<image_soft_token>" not in metadata["tokenizer.ggml.tokens"]
    assert len(metadata["tokenizer.ggml.tokens"]) == metadata["gemma3.vocab_size"]
