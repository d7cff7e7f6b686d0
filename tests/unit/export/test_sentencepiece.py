"""Tests that SentencePiece's BPE is described so that llama.cpp reads text alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.export.sentencepiece import detect_space_prefix
from llamaduo_gui.export.tokenizer import describe_tokenizer, load_tokenizer
from tests import gguf_files
from tests.gguf_files import write_test_gguf
from tests.tiny_models import make_tiny_model
from tests.tiny_tokenizers import write_sentencepiece
from tests.unit.export.test_tensors import edit_config
from tests.unit.export.test_tokenizer import differing, edit_tokenizer
from tests.varied_texts import varied_texts

ROWS = 960
LONE_BLANK = next(text for text in varied_texts() if text.startswith("<s> </s>"))
CHAT = "<s>[INST] Hi there[/INST] Hello</s>[INST]\nand?[/INST]"


def make_model(folder: Path, model_type: str = "mistral", **settings: Any) -> Path:
    """A one-layer model with a SentencePiece tokeniser."""
    make_tiny_model(folder, layers=1, embedding_rows=ROWS)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    write_sentencepiece(folder, control=("[INST]", "[/INST]"), **settings)
    # transformers rebuilds the tokenisers of `llama`, and reads those of `mistral` as they are.
    return edit_config(folder, model_type=model_type)


def read_by_others(model: LlamaModel, text: str) -> list[int]:
    """What programs read that know nothing of this one's keys in the file."""
    return model._tokenize(text, adds_ends=False)


def spec_of(folder: Path) -> Any:
    return describe_tokenizer(load_tokenizer(folder), folder, ROWS)


@pytest.mark.parametrize(
    ("model_type", "settings", "prefix"),
    [
        ("mistral", {"prefix": "first"}, "first"),
        ("mistral", {"prefix": "never"}, "never"),
        ("mistral", {"prefix": "each"}, "each"),
        ("mistral", {"prefix": "always"}, "always"),
        ("llama", {"prefix": "each"}, "first"),
        ("llama", {"prefix": "each", "legacy": True}, "always"),
        ("llama", {"prefix": "each", "add_prefix_space": False}, "never"),
    ],
)
def test_blanks_go_where_the_loaded_tokeniser_puts_them(
    tmp_path: Path, model_type: str, settings: dict[str, Any], prefix: str
) -> None:
    folder = make_model(tmp_path / "model", model_type, **settings)
    spec = spec_of(folder)
    assert spec.space_prefix == prefix
    path = write_test_gguf(folder, tmp_path / "m.gguf")
    found = differing(path, folder)
    # A piece of text that is nothing but a blank cannot be told from one of two.
    assert found == ([" ", LONE_BLANK] if prefix == "always" else [])
    tokenizer = load_tokenizer(folder)
    with LlamaModel(path, vocab_only=True) as model:
        expected = tokenizer(CHAT, add_special_tokens=False)["input_ids"]
        assert model.tokenize(CHAT) == expected
        if prefix != "always":
            assert read_by_others(model, CHAT) == expected


def test_the_blank_that_add_prefix_space_asks_for_would_be_one_too_many(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", add_prefix_space=True)
    path = write_test_gguf(folder, tmp_path / "m.gguf")
    key = "tokenizer.ggml.add_space_prefix"
    assert check_gguf(path).metadata[key] is False
    data = path.read_bytes()
    at = data.index(key.encode()) + len(key) + 4
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(data[:at] + b"\x01" + data[at + 1 :])
    assert check_gguf(wrong).metadata[key] is True
    with LlamaModel(path, vocab_only=True) as model, LlamaModel(wrong, vocab_only=True) as other:
        assert len(read_by_others(other, CHAT)) > len(read_by_others(model, CHAT))


def test_scores_equal_those_in_tokenizer_model(tmp_path: Path) -> None:
    import sentencepiece

    folder = make_model(tmp_path / "model")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    spec = spec_of(folder)
    normal = [i for i, kind in enumerate(spec.token_types) if kind == gguf.TokenType.NORMAL]
    assert len(normal) > 500
    assert [spec.scores[i] for i in normal] == [pieces.GetScore(i) for i in normal]
    assert spec.token_types[5] == gguf.TokenType.BYTE
    assert spec.tokens[ROWS - 1] == f"[PAD{ROWS - 1}]"


def test_the_order_of_merges_is_not_lost_without_tokenizer_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "tokenizer.model").unlink()
    assert differing(write_test_gguf(folder, tmp_path / "m.gguf"), folder) == []


def test_user_defined_symbols_with_blanks_are_found_in_the_text_as_it_is(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", prefix="never", defined=("\u2581\u2581\u2581", "<b>"))
    spec = spec_of(folder)
    assert spec.token_types[spec.tokens.index("   ")] == gguf.TokenType.USER_DEFINED


def test_merges_that_sentencepiece_would_not_make_are_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    edit_tokenizer(folder, model={"merges": definition["model"]["merges"][1:]})
    with pytest.raises(UserError, match=r"does not merge the first two, as llama\.cpp would"):
        spec_of(folder)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"normalizer": {"type": "NFKC"}}, "prepares text by NFKC"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "by Prepend, Replace, Whitespace"),
        ({"normalizer": None}, "by nothing"),
    ],
)
def test_what_llama_cpp_cannot_do_to_text_is_refused(
    tmp_path: Path, parts: dict[str, Any], message: str
) -> None:
    folder = make_model(tmp_path / "model", prefix="each")
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    with pytest.raises(UserError, match=message):
        detect_space_prefix({**definition, **parts})


def test_tokens_that_swallow_white_space_are_named_in_the_file(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", special=("<|end|>",), strips=("<|end|>",))
    assert "keeps the spaces around <|end|>" in spec_of(folder).warnings[0]
    path = write_test_gguf(folder, tmp_path / "m.gguf")
    tokenizer = load_tokenizer(folder)
    with LlamaModel(path, vocab_only=True) as model:
        text = "<|end|> \n\u00a0a<|end|>\x1cb"
        assert model.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert model.tokenize(text) != read_by_others(model, text)


def test_the_files_name_makes_every_program_strip_as_phi3_does(tmp_path: Path) -> None:
    strips = ("</s>", "[INST]", "[/INST]", "<|end|>")
    special = ("<|endoftext|>", "<|end|>")
    folder = make_model(tmp_path / "model", special=special, strips=strips, prefix="each")
    assert spec_of(folder).warnings == ()
    path = write_test_gguf(folder, tmp_path / "m.gguf")
    assert check_gguf(path).metadata["general.name"] == "Test model (Phi-3)"
    with LlamaModel(path, vocab_only=True) as model:
        text = "<s>[INST]\nHi[/INST] \n<|end|>\n"
        assert model.tokenize(text) == read_by_others(model, text)


@pytest.mark.parametrize("name", ["my phi3 tickets", "Phi-3"])
def test_a_name_that_says_phi3_of_another_model_is_changed(
    tmp_path: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(gguf_files, "NAME", name)
    path = write_test_gguf(llama_folder, tmp_path / "m.gguf")
    assert check_gguf(path).metadata["general.name"] == name.replace("3", " 3").replace("- ", " ")
    with LlamaModel(path, vocab_only=True) as model:
        assert model.tokenize("Hello")


def test_a_tokeniser_without_its_tokenizer_json_names_what_is_missing(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    # Where protobuf is installed, transformers reads the file if it is whole.
    (folder / "tokenizer.model").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"only there as tokenizer\.model"):
        load_tokenizer(folder)
