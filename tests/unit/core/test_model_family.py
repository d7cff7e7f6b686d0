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


def test_families_of_one_model_type_are_told_apart_by_a_token() -> None:
    markers: dict[str, list[str]] = {}
    for family in load_families():
        for model_type in family.model_types:
            markers.setdefault(model_type, []).append(family.marker_token)
    for model_type, found in markers.items():
        assert len(set(found)) == len(found), model_type
        assert "" in found, model_type


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("token", "name"), [("<|eot_id|>", "llama3"), ("<repo_name>", "smollm2"), ("<x>", "llama")]
)
def test_a_token_tells_a_family_from_others_of_its_model_type(
    tmp_path: Path, file: str, token: str, name: str
) -> None:
    folder = folder_of(tmp_path, "llama")
    (folder / file).write_text(json.dumps({"added_tokens": [{"content": token}]}), "utf-8")
    assert detect_family(folder).name == name


def test_every_family_names_its_licence_and_shapes() -> None:
    for family in load_families():
        assert family.title, family.name
        assert family.license, family.name
        assert family.template_note, family.name
        if family.name != "llama":
            assert family.tested_shapes, family.name
            assert family.response_marker, family.name


@pytest.mark.parametrize("declared", [None, 9, [9, 2]])
def test_stop_tokens_join_family_tokeniser_and_model(
    tmp_path: Path, declared: int | list[int] | None
) -> None:
    family = detect_family(folder_of(tmp_path, "qwen2"))
    expected = (2, 7) if declared is None else (2, 7, 9)
    assert stop_token_ids(Tokenizer(), family, declared) == expected
