"""Tests of the tokeniser in the GGUF: the same tokens as in training, or a refusal."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import pytest

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.core.paths import resource, resources_dir
from llamaduo_gui.export.tokenizer import (
    GPT2_PATTERN,
    describe_tokenizer,
    detect_pre_tokenizer,
    load_tokenizer,
)
from tests.gguf_files import write_test_gguf
from tests.tiny_models import QWEN2_PATTERN, make_tiny_model
from tests.varied_texts import is_beyond_llama_cpp, varied_texts

KNOWN = tomllib.loads(resource("gguf", "pre_tokenizers.toml").read_text("utf-8"))["pre_tokenizer"]
VOCABULARY = 1500


def differing(path: Path, folder: Path) -> list[str]:
    """Texts that llama.cpp and the tokeniser of the folder cut into other tokens."""
    tokenizer = load_tokenizer(folder)
    with LlamaModel(path, vocab_only=True) as model:
        return [
            text
            for text in varied_texts()
            if model.tokenize(text) != tokenizer(text, add_special_tokens=False)["input_ids"]
        ]


def edit_tokenizer(folder: Path, **parts: Any) -> Path:
    """Change parts of a folder's tokenizer.json."""
    path = folder / "tokenizer.json"
    definition = json.loads(path.read_text(encoding="utf-8"))
    for key, value in parts.items():
        if key == "model":
            definition["model"].update(value)
        else:
            definition[key] = value
    path.write_text(json.dumps(definition), encoding="utf-8")
    return folder


@cache
def merges_across_everything() -> dict[str, Any]:
    """A BPE with merges over digits, blanks, line ends and marks.

    It was trained without cutting text into words, so that where words are cut decides the tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(varied_texts() * 2, trainer)
    return json.loads(tokenizer.to_str())


def make_awkward_model(folder: Path, entry: dict[str, Any]) -> Path:
    """A model whose tokeniser cuts text as the entry of pre_tokenizers.toml says."""
    make_tiny_model(folder, layers=1, embedding_rows=VOCABULARY)
    definition = merges_across_everything()
    return edit_tokenizer(
        folder,
        model={**definition["model"], "ignore_merges": entry["ignore_merges"]},
        pre_tokenizer=to_json(entry["steps"]),
    )


def to_json(steps: list[str]) -> dict[str, Any]:
    """The pre-tokeniser of tokenizer.json that a short form in pre_tokenizers.toml stands for."""
    children: list[dict[str, Any]] = []
    for step in steps:
        if step.startswith("split "):
            pattern = {"Regex": step.removeprefix("split ")}
            children.append(
                {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
            )
        elif step == "digits":
            children.append({"type": "Digits", "individual_digits": True})
        else:
            children.append(
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": step == "gpt2",
                }
            )
    return {"type": "Sequence", "pretokenizers": children}


@pytest.mark.parametrize("entry", KNOWN, ids=lambda item: item["name"])
def test_every_known_pre_tokenizer_reads_200_texts_as_llama_cpp_does(
    tmp_path: Path, entry: dict[str, Any]
) -> None:
    folder = make_awkward_model(tmp_path / "model", entry)
    path = write_test_gguf(folder, tmp_path / "model.gguf")
    with LlamaModel(path, vocab_only=True) as model:
        assert model.file.metadata["tokenizer.ggml.pre"] == entry["name"]
    found = differing(path, folder)
    if "differs" in entry:
        assert [text for text in found if not is_beyond_llama_cpp(text)] == []
        assert len(found) < 60
    else:
        assert found == []


@pytest.mark.parametrize("name", [entry["name"] for entry in KNOWN if "differs" in entry])
def test_what_llama_cpp_cuts_otherwise_is_said(tmp_path: Path, name: str) -> None:
    entry = next(item for item in KNOWN if item["name"] == name)
    folder = make_awkward_model(tmp_path / "model", entry)
    spec = describe_tokenizer(load_tokenizer(folder), folder, VOCABULARY)
    assert f"llama.cpp cuts {entry['differs']}" in spec.warnings[0]


def test_the_shipped_model_reads_200_texts_as_its_tokeniser_does(tmp_path: Path) -> None:
    folder = resources_dir() / "models" / "tiny"
    path = write_test_gguf(folder, tmp_path / "tiny.gguf")
    assert len(varied_texts()) == 200
    assert differing(path, folder) == []


def test_a_wrong_pre_tokenizer_name_would_be_noticed(tmp_path: Path) -> None:
    entry = next(item for item in KNOWN if item["name"] == "qwen2")
    folder = make_awkward_model(tmp_path / "model", entry)
    path = write_test_gguf(folder, tmp_path / "model.gguf")
    data = path.read_bytes()
    wrong = tmp_path / "wrong.gguf"
    # `gpt-2` and `qwen2` have the same length, so only the name changes.
    assert data.count(b"qwen2") == 1
    wrong.write_bytes(data.replace(b"qwen2", b"gpt-2"))
    assert len(differing(wrong, folder)) > 20


def test_text_is_normalised_as_in_training_when_the_tokeniser_does_so(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", layers=1)
    edit_tokenizer(folder, normalizer={"type": "NFC"})
    path = write_test_gguf(folder, tmp_path / "model.gguf")
    assert differing(path, folder) == []
    with LlamaModel(path, vocab_only=True) as model:
        assert model.tokenize("e\u0301") == model.tokenize("\u00e9")


def test_a_tokeniser_that_puts_a_bos_first_says_so_in_the_file(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", layers=1)
    processor = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
        },
    }
    edit_tokenizer(folder, post_processor=processor)
    config = folder / "tokenizer_config.json"
    data = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**data, "bos_token": "<|endoftext|>"}), encoding="utf-8")
    spec = describe_tokenizer(load_tokenizer(folder), folder, 512)
    assert spec.add_bos
    assert not spec.add_eos
    assert spec.special_ids["bos"] == 0


def test_no_bos_is_added_to_a_tokeniser_without_one(llama_folder: Path) -> None:
    spec = describe_tokenizer(load_tokenizer(llama_folder), llama_folder, 487)
    assert (spec.add_bos, spec.add_eos) == (False, False)
    assert "bos" not in spec.special_ids


def test_turn_tokens_are_control_tokens_and_end_answers(llama_folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(llama_folder)
    spec = describe_tokenizer(tokenizer, llama_folder, len(tokenizer))
    for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        assert spec.token_types[spec.tokens.index(text)] == gguf.TokenType.CONTROL
    end = spec.tokens.index("<|im_end|>")
    assert spec.special_ids["eos"] == spec.special_ids["eot"] == end
    with LlamaModel(write_test_gguf(llama_folder, tmp_path / "m.gguf"), vocab_only=True) as model:
        assert [token for token in range(len(tokenizer)) if model.ends_answer(token)] == [0, end]
        assert model.piece(end) == b""


def test_added_tokens_that_are_not_special_stay_visible(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", layers=1, embedding_rows=512)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    path = write_test_gguf(folder, tmp_path / "m.gguf")
    assert differing(path, folder) == []
    with LlamaModel(path, vocab_only=True) as model:
        assert model.piece(len(tokenizer) - 1) == b"</think>"


def test_the_vocabulary_is_padded_to_the_rows_of_the_embedding(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", layers=1, embedding_rows=512)
    tokenizer = load_tokenizer(folder)
    spec = describe_tokenizer(tokenizer, folder, 512)
    assert len(spec.tokens) == len(spec.token_types) == 512
    assert spec.tokens[511] == "[PAD511]"
    assert set(spec.token_types[len(tokenizer) :]) == {gguf.TokenType.UNUSED}
    with LlamaModel(write_test_gguf(folder, tmp_path / "m.gguf")) as model:
        assert model.vocab_size == 512


def test_a_tokeniser_larger_than_the_embedding_is_refused(llama_folder: Path) -> None:
    tokenizer = load_tokenizer(llama_folder)
    with pytest.raises(UserError, match="do not belong together"):
        describe_tokenizer(tokenizer, llama_folder, len(tokenizer) - 1)


def split(pattern: str, behavior: str = "Isolated", *, invert: bool = False) -> dict[str, Any]:
    """A Split pre-tokeniser."""
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": behavior,
        "invert": invert,
    }


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


@pytest.mark.parametrize(
    ("children", "name"),
    [
        ([split(QWEN2_PATTERN), BYTES], "qwen2"),
        ([split(QWEN2_PATTERN, "Removed", invert=True), BYTES], "qwen2"),
        ([split(QWEN2_PATTERN.replace(r"\r", "\r").replace(r"\n", "\n")), BYTES], "qwen2"),
        ([split(GPT2_PATTERN), BYTES], "gpt-2"),
        ([{**BYTES, "use_regex": True}], "gpt-2"),
        ([{"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}], "smollm"),
    ],
)
def test_other_spellings_of_a_pre_tokenizer_are_recognised(
    children: list[dict[str, Any]], name: str
) -> None:
    definition = {
        "model": {"ignore_merges": False},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": children},
    }
    assert detect_pre_tokenizer(definition) == name


@pytest.mark.parametrize(
    "node",
    [
        None,
        {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
        {"type": "Sequence", "pretokenizers": [split(QWEN2_PATTERN + "|x"), BYTES]},
        {"type": "Sequence", "pretokenizers": [split(QWEN2_PATTERN, "Removed"), BYTES]},
        {"type": "Digits", "individual_digits": False},
    ],
)
def test_an_unknown_pre_tokenizer_is_refused(node: dict[str, Any] | None) -> None:
    with pytest.raises(UserError, match=r"no known equal in llama\.cpp.*qwen2"):
        detect_pre_tokenizer({"model": {}, "pre_tokenizer": node})


def test_a_name_also_fixes_whether_merges_are_ignored() -> None:
    node = {"type": "Sequence", "pretokenizers": [split(QWEN2_PATTERN), BYTES]}
    with pytest.raises(UserError, match="no known equal"):
        detect_pre_tokenizer({"model": {"ignore_merges": True}, "pre_tokenizer": node})


def test_a_name_fixes_nothing_where_merges_make_every_token(llama_folder: Path) -> None:
    tokenizer = load_tokenizer(llama_folder)
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    definition["model"]["ignore_merges"] = True
    assert detect_pre_tokenizer(definition) == "qwen2"
    # This token is made by no merge: whether it is taken whole changes what is read.
    definition["model"]["vocab"]["zqxj"] = 9999
    with pytest.raises(UserError, match="no known equal"):
        detect_pre_tokenizer(definition)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"model": {"byte_fallback": True}}, "neither a byte-level BPE"),
        ({"normalizer": {"type": "Lowercase"}}, "changes text by Lowercase"),
    ],
)
def test_tokenisers_llama_cpp_has_no_equal_of_are_refused(
    tmp_path: Path, parts: dict[str, Any], message: str
) -> None:
    folder = make_tiny_model(tmp_path / "model", layers=1)
    edit_tokenizer(folder, **parts)
    with pytest.raises(UserError, match=message):
        describe_tokenizer(load_tokenizer(folder), folder, 512)


def test_the_familys_template_arguments_become_the_templates_defaults(tmp_path: Path) -> None:
    template = (
        "\n{%- for m in messages %}{{ m['content'] }}{% endfor %}"
        "{%- if enable_thinking is defined and enable_thinking is false %}[no thinking]{% endif %}"
    )
    folder = make_tiny_model(tmp_path / "model", "qwen3", layers=1, chat_template=template)
    tokenizer = load_tokenizer(folder)
    spec = describe_tokenizer(tokenizer, folder, 512)
    assert spec.chat_template.endswith(template)
    messages = [{"role": "user", "content": "Hi"}]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, enable_thinking=False)
    assert expected.endswith("[no thinking]")
    tokenizer.chat_template = spec.chat_template
    assert tokenizer.apply_chat_template(messages, tokenize=False) == expected
    asked = tokenizer.apply_chat_template(messages, tokenize=False, enable_thinking=True)
    assert asked == expected.removesuffix("[no thinking]")


def test_a_folder_without_a_tokeniser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokeniser in .* cannot be loaded"):
        load_tokenizer(tmp_path)
