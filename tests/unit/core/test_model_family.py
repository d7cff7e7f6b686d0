"""Families are told by `model_type`; stop tokens are those the tokeniser really has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamaduo_gui.core.model_family import detect_family, load_families, stop_token_ids


class Tokenizer:
    """The two things `stop_token_ids` asks a tokeniser for."""

    eos_token_id = 7

    def get_added_vocab(self) -> dict[str, int]:
        return {"<|im_end|>": 2, "<|im_start|>": 1}


def folder_of(tmp_path: Path, model_type: str) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_supported_families_can_be_exported(tmp_path: Path, name: str) -> None:
    family = detect_family(folder_of(tmp_path, name))
    assert family.name == name
    assert family.gguf_architecture == name
    assert "q_proj" in family.lora_targets


def test_another_model_type_is_a_family_that_cannot_be_exported(tmp_path: Path) -> None:
    family = detect_family(folder_of(tmp_path, "mamba"))
    assert (family.name, family.gguf_architecture) == ("mamba", None)


def test_no_model_type_belongs_to_two_families() -> None:
    types = [name for family in load_families() for name in family.model_types]
    assert len(types) == len(set(types))


@pytest.mark.parametrize("declared", [None, 9, [9, 2]])
def test_stop_tokens_join_family_tokeniser_and_model(
    tmp_path: Path, declared: int | list[int] | None
) -> None:
    family = detect_family(folder_of(tmp_path, "qwen2"))
    expected = (2, 7) if declared is None else (2, 7, 9)
    assert stop_token_ids(Tokenizer(), family, declared) == expected
