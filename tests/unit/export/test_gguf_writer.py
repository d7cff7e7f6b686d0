"""Tests of the written file: types, sizes, metadata, K-quants, and that llama.cpp takes it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.export import gguf_writer
from llamaduo_gui.export.gguf_writer import estimate_bytes
from llamaduo_gui.export.provenance import file_name, read_license
from llamaduo_gui.export.quantize import fallback_types, quantize
from llamaduo_gui.export.tensors import open_model
from llamaduo_gui.export.tokenizer import describe_tokenizer, load_tokenizer
from tests.gguf_files import write_test_gguf
from tests.tiny_models import make_tiny_model


@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q8_0"])
def test_every_direct_type_is_written_as_asked(
    model_folder: Path, tmp_path: Path, quant: str
) -> None:
    file = check_gguf(write_test_gguf(model_folder, tmp_path / "m.gguf", quant))
    assert file.quant == quant
    assert file.architecture == model_folder.name
    for tensor in file.tensors:
        is_vector = len(tensor.shape) == 1
        assert tensor.type == ("F32" if is_vector else quant), tensor.name
    with LlamaModel(file.path) as model:
        assert model.vocab_size == next(t.shape[0] for t in file.tensors if "token_embd" in t.name)


@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q8_0"])
def test_the_values_in_the_file_are_the_merged_ones_in_that_type(
    llama_folder: Path, tmp_path: Path, quant: str
) -> None:
    path = write_test_gguf(llama_folder, tmp_path / "m.gguf", quant)
    expected = {item.name: item.read() for item in open_model(llama_folder).tensors}
    tolerance = {"F32": 0, "F16": 1e-3, "BF16": 8e-3, "Q8_0": 5e-3}[quant]
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        difference = np.abs(values.reshape(expected[tensor.name].shape) - expected[tensor.name])
        assert difference.max() <= tolerance * np.abs(expected[tensor.name]).max(), tensor.name


def test_the_blocks_rows_are_written_in_do_not_show_in_the_file(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_test_gguf(llama_folder, tmp_path / "whole.gguf", "Q8_0")
    blocks = gguf_writer.MergedTensor.blocks
    monkeypatch.setattr(gguf_writer.MergedTensor, "blocks", lambda tensor: blocks(tensor, 300))
    pieces = write_test_gguf(llama_folder, tmp_path / "pieces.gguf", "Q8_0")
    assert whole.read_bytes() == pieces.read_bytes()


def test_the_file_says_what_it_is_and_what_it_was_made_from(
    llama_folder: Path, tmp_path: Path
) -> None:
    values = check_gguf(write_test_gguf(llama_folder, tmp_path / "m.gguf")).metadata
    assert values["general.name"] == "Test model"
    assert values["general.type"] == "model"
    assert values["general.base_model.0.name"] == "test-base"
    assert values["general.base_model.0.repo_url"] == "https://huggingface.co/someone/test-base"
    assert values["llama.attention.head_count"] == 4
    assert values["llama.attention.head_count_kv"] == 2
    assert values["llama.context_length"] == 512
    assert values["llama.rope.freq_base"] == 10_000.0
    template = (llama_folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert values["tokenizer.chat_template"] == template


@pytest.mark.parametrize("quant", ["F32", "Q8_0"])
def test_the_size_is_foretold_within_two_percent(
    model_folder: Path, tmp_path: Path, quant: str
) -> None:
    model = open_model(model_folder)
    spec = describe_tokenizer(load_tokenizer(model_folder), model_folder, model.embedding_rows)
    size = write_test_gguf(model_folder, tmp_path / "m.gguf", quant).stat().st_size
    assert abs(estimate_bytes(model, quant, spec) - size) < 0.02 * size


def test_weights_too_large_for_f16_are_refused_and_bf16_takes_them(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", layers=1)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"ffn_up\.weight has values beyond.*BF16 or F32"):
        write_test_gguf(folder, tmp_path / "m.gguf", "F16")
    assert write_test_gguf(folder, tmp_path / "m.gguf", "BF16")


def test_rows_that_do_not_fit_q8_blocks_become_f16_and_are_reported(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", layers=1, hidden=48, intermediate=96)
    file = check_gguf(write_test_gguf(folder, tmp_path / "m.gguf", "Q8_0"))
    assert fallback_types(file, "Q8_0") == {"F16": file.tensor_types["F16"]}
    with LlamaModel(file.path) as model:
        assert model.vocab_size > 0


def test_q4_k_m_is_what_it_says_when_rows_fit(model_folder: Path, tmp_path: Path) -> None:
    file = check_gguf(write_test_gguf(model_folder, tmp_path / "m.gguf", "Q4_K_M"))
    assert file.quant == "Q4_K_M"
    assert set(file.tensor_types) == {"Q4_K", "Q6_K", "F32"}
    assert fallback_types(file, "Q4_K_M") == {}
    with LlamaModel(file.path) as model:
        assert model.tokenize("Hello")


def test_q4_k_m_that_became_something_else_is_reported(llama_folder: Path, tmp_path: Path) -> None:
    file = check_gguf(write_test_gguf(llama_folder, tmp_path / "m.gguf", "Q4_K_M"))
    assert file.quant == "Q4_K_M"
    assert set(fallback_types(file, "Q4_K_M")) == {"Q5_0", "Q8_0"}


def test_quantising_reports_every_tensor_and_leaves_standard_output_alone(
    llama_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wide = write_test_gguf(llama_folder, tmp_path / "wide.gguf")
    seen: list[int] = []
    quantize(wide, tmp_path / "m.gguf", "Q4_K_M", seen.append)
    assert seen == list(range(1, len(check_gguf(wide).tensors) + 1))
    assert capfd.readouterr().out == ""


def test_a_failed_quantisation_says_why(tmp_path: Path, llama_folder: Path) -> None:
    wide = write_test_gguf(llama_folder, tmp_path / "wide.gguf")
    with pytest.raises(LlamaDuoError, match=r"could not quantise to Q4_K_M: .*fail"):
        quantize(wide, tmp_path / "no such folder" / "m.gguf", "Q4_K_M", lambda _: None)


def test_a_gguf_that_llama_cpp_refuses_gets_one_sentence(
    llama_folder: Path, tmp_path: Path
) -> None:
    path = write_test_gguf(llama_folder, tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))
    with pytest.raises(UserError, match=r"cannot load m\.gguf: .*ffn_up"):
        LlamaModel(path)


def test_file_names_follow_the_convention_of_gguf() -> None:
    description = gguf_writer.Description("x", basename="SmolLM2 360M", finetune="support-tickets")
    name = file_name(description, 361_821_120, "Q4_K_M")
    assert name == "SmolLM2-360M-362M-support-tickets-Q4_K_M.gguf"


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# Model", "apache-2.0"),
        ("---\r\nlicense: mit\r\n---\r\n", "mit"),
        ("---\nlicense: [a, b]\n---\n", ""),
        ("---\n: : :\n---\n", ""),
        ("# No front matter\nlicense: mit", ""),
    ],
)
def test_the_licence_is_read_from_the_model_card(tmp_path: Path, card: str, expected: str) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert read_license(tmp_path) == expected


def test_no_card_means_no_licence(tmp_path: Path) -> None:
    assert read_license(tmp_path) == ""


def test_a_bf16_base_is_exported_without_loss_to_bf16(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", dtype="bfloat16")
    path = write_test_gguf(folder, tmp_path / "m.gguf", "BF16")
    stored = load_file(folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    data = next(t for t in gguf.GGUFReader(path).tensors if t.name == "blk.0.ffn_up.weight").data
    assert data.tobytes() == stored.view(torch.uint16).numpy().tobytes()
