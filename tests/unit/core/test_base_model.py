"""Base models are found by name, by folder or on the Hub, and each failure says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamaduo_gui.core.base_model import read_model_config, resolve_base_model
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.paths import resource


def make_folder(folder: Path, *, weights: bool = True, tokenizer: bool = True) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    if weights:
        (folder / "model.safetensors").write_bytes(b"x")
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def test_the_builtin_model_is_the_shipped_folder() -> None:
    assert resolve_base_model("builtin:tiny") == resource("models", "tiny")


def test_an_unknown_builtin_model_names_those_there_are() -> None:
    with pytest.raises(UserError, match="builtin:tiny"):
        resolve_base_model("builtin:huge")


def test_a_model_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    assert resolve_base_model(str(folder)) == folder.resolve()


@pytest.mark.parametrize("missing", ["weights", "tokenizer"])
def test_a_folder_that_lacks_a_part_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    folder = make_folder(tmp_path / "model", **{missing: False})
    with pytest.raises(
        UserError, match={"weights": "safetensors", "tokenizer": "tokeniser"}[missing]
    ):
        resolve_base_model(str(folder))


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        resolve_base_model(str(tmp_path))


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(UserError, match="is a file"):
        resolve_base_model(str(file))


def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        resolve_base_model(str(tmp_path / "absent"))


def test_a_hub_model_that_is_not_cached_says_so_when_offline() -> None:
    with pytest.raises(UserError, match="not on this machine"):
        resolve_base_model("some-organisation/some-model")


def test_a_name_the_hub_cannot_have_is_refused() -> None:
    with pytest.raises(UserError, match="neither a folder nor a model"):
        resolve_base_model("two words")


@pytest.mark.parametrize("text", ["not json", json.dumps([1])])
def test_a_broken_configuration_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.json"):
        read_model_config(tmp_path)
