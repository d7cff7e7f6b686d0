"""Parameter counts from the configurations of published models."""

from __future__ import annotations

from typing import Any

import pytest

from llamaduo_gui.core.model_shape import ModelShape, read_shape

Published = tuple[dict[str, Any], int]


def config(kind: str, sizes: tuple[int, ...], **rest: Any) -> dict[str, Any]:
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "vocab_size",
    )
    return {"model_type": kind, **dict(zip(names, sizes, strict=True)), **rest}


# Configuration values and parameter counts (safetensors totals) as published on the Hub.
PUBLISHED: dict[str, Published] = {
    "gemma-2b": (
        config("gemma", (2048, 18, 8, 1, 16384, 256000), head_dim=256),
        2_506_172_416,
    ),
    "gemma-7b": (
        config("gemma", (3072, 28, 16, 16, 24576, 256000), head_dim=256),
        8_537_680_896,
    ),
    "gemma-2-2b": (
        config("gemma2", (2304, 26, 8, 4, 9216, 256000), head_dim=256),
        2_614_341_888,
    ),
    "gemma-3-1b": (
        config("gemma3_text", (1152, 26, 4, 1, 6912, 262144), head_dim=256),
        999_885_952,
    ),
    "mistral-7b-v0.3": (
        config("mistral", (4096, 32, 32, 8, 14336, 32768), tie_word_embeddings=False),
        7_248_023_552,
    ),
    "llama-3-8b": (
        config("llama", (4096, 32, 32, 8, 14336, 128256), tie_word_embeddings=False),
        8_030_261_248,
    ),
    "llama-3.2-1b": (
        config("llama", (2048, 16, 32, 8, 8192, 128256), head_dim=64, tie_word_embeddings=True),
        1_235_814_400,
    ),
    "qwen2.5-0.5b": (
        config("qwen2", (896, 24, 14, 2, 4864, 151936), tie_word_embeddings=True),
        494_032_768,
    ),
    "qwen2.5-7b": (
        config("qwen2", (3584, 28, 28, 4, 18944, 152064), tie_word_embeddings=False),
        7_615_616_512,
    ),
    "qwen3-0.6b": (
        config("qwen3", (1024, 28, 16, 8, 3072, 151936), head_dim=128, tie_word_embeddings=True),
        596_049_920,
    ),
    "phi-3-mini": (
        config("phi3", (3072, 32, 32, 32, 8192, 32064), tie_word_embeddings=False),
        3_821_079_552,
    ),
    "smollm2-135m": (
        config("llama", (576, 30, 9, 3, 1536, 49152), tie_word_embeddings=True),
        134_515_008,
    ),
}


def shape_of(name: str) -> ModelShape:
    shape = read_shape(PUBLISHED[name][0])
    assert shape is not None
    return shape


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameters_of_published_models_are_counted_exactly(name: str) -> None:
    shape = shape_of(name)

    assert shape.parameters == PUBLISHED[name][1]
    assert shape.is_exact


def test_a_lora_adapter_on_all_layers_of_llama_has_the_known_count() -> None:
    # peft's print_trainable_parameters: 41,943,040 with r 16 on all linear layers.
    assert shape_of("llama-3-8b").adapter_parameters(16) == 41_943_040


def test_a_lora_adapter_on_two_layers_counts_only_them() -> None:
    # 3,407,872 with r 8 on q_proj and v_proj of Llama 3 8B.
    assert shape_of("llama-3-8b").adapter_parameters(8, ("q_proj", "v_proj")) == 3_407_872


def test_fused_layers_have_one_adapter_where_others_have_three() -> None:
    shape = shape_of("phi-3-mini")

    assert shape.adapter_parameters(1) == 32 * (
        (3072 + 9216) + (3072 + 16384) + (3072 + 3072) + (8192 + 3072)
    )


def test_grouped_queries_make_the_cache_small() -> None:
    # 32 layers, 8 heads of 128, keys and values in 16 bits: 128 KiB a token.
    assert shape_of("llama-3-8b").cache_bytes(1) == 131_072


def test_a_text_model_inside_a_multimodal_one_is_read() -> None:
    inner = PUBLISHED["gemma-3-1b"][0]

    shape = read_shape({"model_type": "gemma3", "text_config": inner})

    assert shape is not None
    assert shape.parameters == PUBLISHED["gemma-3-1b"][1]


@pytest.mark.parametrize(
    "broken", [{}, {"hidden_size": "wide"}, {**PUBLISHED["gemma-2b"][0], "vocab_size": 0}]
)
def test_a_configuration_without_sizes_has_no_shape(broken: dict[str, Any]) -> None:
    assert read_shape(broken) is None


def test_an_unknown_family_is_counted_like_llama_and_says_so() -> None:
    shape = read_shape({**PUBLISHED["llama-3-8b"][0], "model_type": "novel"})

    assert shape is not None
    assert not shape.is_exact
    assert shape.parameters == PUBLISHED["llama-3-8b"][1]
