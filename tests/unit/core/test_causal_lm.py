"""A model folder that is damaged or incomplete is refused in one sentence, never filled in."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from llamaduo_gui.core.causal_lm import load_causal_lm, load_tokenizer
from llamaduo_gui.core.errors import UserError
from tests.tiny_models import make_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model", tie=True)


def test_a_tied_model_loads_although_its_output_layer_is_not_stored(folder: Path) -> None:
    assert load_causal_lm(folder).config.tie_word_embeddings


def test_damaged_weights_are_one_sentence(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_causal_lm(folder)


def test_missing_weights_are_not_replaced_by_random_ones(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights \(model\.layers\.1\.mlp\.up_proj"):
        load_causal_lm(folder)


def test_an_architecture_nobody_knows_is_one_sentence(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "unheard-of"}', encoding="utf-8")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_causal_lm(folder)


def test_a_damaged_tokeniser_is_one_sentence(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="tokeniser"):
        load_tokenizer(folder)


def test_a_tokeniser_without_padding_pads_with_its_end(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    text = path.read_text(encoding="utf-8").replace('"pad_token"', '"unused"')
    path.write_text(text, encoding="utf-8")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
