"""What a recipe leaves to `auto` is decided by machine and model alone, and with a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.training.hardware import Choices, Hardware, resolve
from llamaduo_gui.training.memory import read_sizes
from llamaduo_gui.training.recipes import load_recipe

TINY = read_sizes(
    {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "vocab_size": 1000,
        "num_attention_heads": 4,
    }
)
LLAMA_8B = read_sizes(
    {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    }
)
CPU = Hardware("cpu", has_bitsandbytes=True, free_bytes=16 * 2**30)
GPU = Hardware("cuda", has_bf16=True, has_bitsandbytes=True, free_bytes=24 * 2**30)
FLASH = replace(GPU, has_flash_attention=True)


@pytest.mark.parametrize(
    ("recipe", "hardware", "expected"),
    [
        ("lora", CPU, ("fp32", "sdpa", False, True, "adamw_torch_fused")),
        ("qlora", CPU, ("bf16", "sdpa", False, True, "adamw_torch_fused")),
        ("lora", GPU, ("bf16", "sdpa", False, True, "adamw_torch_fused")),
        ("qlora", GPU, ("bf16", "sdpa", False, True, "paged_adamw_8bit")),
        ("qlora", FLASH, ("bf16", "flash_attention_2", True, False, "paged_adamw_8bit")),
        ("lora", replace(FLASH, has_bf16=False), ("fp16", "flash_attention_2", True, False, "")),
    ],
)
def test_each_machine_gets_what_suits_it(
    recipe: str, hardware: Hardware, expected: tuple[str, str, bool, bool, str]
) -> None:
    found = resolve(load_recipe(recipe), hardware, TINY)
    dtype, attention, packing, grouping, optimizer = expected
    assert (found.dtype, found.attention) == (dtype, attention)
    assert (found.packing, found.group_by_length) == (packing, grouping)
    assert found.optimizer == (optimizer or "adamw_torch_fused")
    assert "attention" in found.reasons
    assert attention in found.sentence


def test_what_the_recipe_says_is_kept_and_needs_no_reason() -> None:
    said = {"packing": True, "dtype": "fp32", "attention": "eager", "optimizer": "adafactor"}
    found = resolve(load_recipe("lora", {**said, "gradient_checkpointing": False}), FLASH, TINY)
    assert (found.packing, found.group_by_length, found.dtype) == (True, False, "fp32")
    assert (found.attention, found.optimizer) == ("eager", "adafactor")
    assert found.reasons == {}
    assert found.sentence == ""


def test_a_model_that_caps_its_scores_never_gets_sdpa() -> None:
    capped = replace(TINY, has_softcapping=True)
    assert resolve(load_recipe("lora"), GPU, capped).attention == "eager"
    assert resolve(load_recipe("lora"), FLASH, capped).attention == "flash_attention_2"
    with pytest.raises(ConfigError, match="caps its attention scores"):
        resolve(load_recipe("lora", {"attention": "sdpa"}), GPU, capped)


@pytest.mark.parametrize(
    ("overrides", "hardware", "text"),
    [
        ({"attention": "flash_attention_2"}, GPU, "flash-attn"),
        ({"dtype": "fp16"}, CPU, "needs a GPU"),
        ({"dtype": "bf16"}, replace(GPU, has_bf16=False), "no bf16"),
        ({"optimizer": "paged_adamw_8bit"}, Hardware("cpu"), "bitsandbytes"),
    ],
)
def test_what_the_machine_lacks_is_refused(
    overrides: dict[str, str], hardware: Hardware, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        resolve(load_recipe("lora", overrides), hardware, TINY)


def test_activations_are_recomputed_when_they_would_not_fit() -> None:
    recipe = load_recipe("lora")
    short = resolve(recipe, GPU, LLAMA_8B)
    assert short.gradient_checkpointing
    assert "GB free" in short.reasons["gradient_checkpointing"]
    assert not resolve(recipe, GPU, TINY).gradient_checkpointing
    assert not resolve(
        recipe, replace(GPU, free_bytes=200 * 2**30), LLAMA_8B
    ).gradient_checkpointing


@pytest.mark.parametrize(("processes", "each"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_a_step_stays_as_many_records_with_several_processes(processes: int, each: int) -> None:
    found = resolve(load_recipe("qlora"), replace(GPU, processes=processes), TINY)
    assert found.gradient_accumulation == each


def test_choices_survive_being_saved() -> None:
    found = resolve(load_recipe("qlora"), FLASH, LLAMA_8B)
    assert Choices.from_dict(found.to_dict()) == found
