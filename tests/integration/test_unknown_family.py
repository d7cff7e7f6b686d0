"""A model of an unknown family is trained with generic settings and exported by llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig, StudentConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.events import Event, Log
from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.model_family import detect_family, unknown_family_sentences
from llamaduo_gui.core.types import Message, Record, Split, Stage
from llamaduo_gui.export.stage import run_export
from llamaduo_gui.store.project import Project
from llamaduo_gui.training.stage import run_finetune
from tests.llama_cpp_oracle import CHECKOUT, needs_oracle
from tests.tiny_models import END_OF_TEXT, make_tokenizer

STEP = {"epochs": 1, "batch_size": 4, "max_length": 128, "eval": "never", "packing": False}
VARIABLE = "LLAMADUO_LLAMA_CPP"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Granite model, which is none of the shipped families, without a chat template."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, GraniteConfig

    folder = tmp_path_factory.mktemp("granite")
    tokenizer: object = make_tokenizer()
    tokenizer.chat_template = None  # type: ignore[attr-defined]
    config = GraniteConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    """A project after one LoRA step on it, and what was logged."""
    config = PipelineConfig(
        task="units",
        student=StudentConfig(base_model=str(base), recipe="lora", overrides=STEP),
    )
    project = Project.create(tmp_path_factory.mktemp("project") / "p", config)
    turns = (Message("user", "How many metres?"), Message("assistant", "3000 metres"))
    project.records.add_coverage(
        [(Record(turns, "units", f"p{i}"), Split.TRAIN, f"f:{i}") for i in range(4)]
    )
    run = project.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0, seed=1)
    lines: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Log):
            lines.append(event.text)

    run_finetune(project, run, JobContext(listen), round_number=0, config=config)
    return project, lines


def test_an_unknown_type_gets_generic_settings_and_a_sentence(base: Path) -> None:
    family = detect_family(base)
    assert (family.name, family.is_known, family.gguf_architecture) == ("granite", False, None)
    assert family.lora_targets == ()
    assert END_OF_TEXT in family.stop_tokens
    assert "granite are not among the families" in unknown_family_sentences(family)


def test_training_says_what_it_assumes_and_adapts_every_linear_layer(
    base: Path, trained: tuple[Project, list[str]]
) -> None:
    project, lines = trained
    assert unknown_family_sentences(detect_family(base)) in lines
    assert any("has no chat template" in line and "ChatML" in line for line in lines)
    adapter = project.paths.round_dir(0) / "adapter"
    targets = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    leaves = {name.rpartition(".")[2] for name in targets["target_modules"]}
    assert {"q_proj", "o_proj", "down_proj"} <= leaves
    assert "<|im_start|>" in (adapter / "chat_template.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("checkout", "words"),
    [("", f"set {VARIABLE} to the folder of a llama.cpp checkout"), ("empty", "has no convert_hf")],
)
def test_without_a_checkout_the_export_says_how_to_name_one(
    trained: tuple[Project, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkout: str,
    words: str,
) -> None:
    project, _ = trained
    monkeypatch.setenv(VARIABLE, str(tmp_path) if checkout else "")
    with pytest.raises(UserError, match=words):
        export(project, "F16")


@needs_oracle
@pytest.mark.parametrize("quant", ["F16", "Q4_K_M"])
def test_a_checkouts_converter_writes_the_file(
    trained: tuple[Project, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quant: str
) -> None:
    project, _ = trained
    monkeypatch.setenv(VARIABLE, str(patched_checkout(tmp_path)))
    summary = export(project, quant)
    file = check_gguf(project.folder / summary["path"])
    assert (file.architecture, file.quant) == ("granite", quant)
    assert "<|im_start|>" in file.metadata["tokenizer.chat_template"]
    assert summary["texts_differing"] == 0
    assert not list(project.paths.round_dir(0).glob("*.part*"))
    assert not list(project.paths.round_dir(0).glob(".merged-*"))


@needs_oracle
def test_a_converter_that_refuses_is_quoted(
    trained: tuple[Project, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real converter knows tokenisers by a hash and does not know this one."""
    project, _ = trained
    monkeypatch.setenv(VARIABLE, CHECKOUT)
    with pytest.raises(UserError, match="BPE pre-tokenizer was not recognized"):
        export(project, "F16")


def export(project: Project, quant: str) -> dict[str, str]:
    run = project.runs.find_or_create(f"export:{quant}", Stage.EXPORT, round_number=0)
    context = JobContext(lambda event: None)
    return run_export(project, run, context, round_number=0, quant=quant, config=project.config)


def patched_checkout(folder: Path) -> Path:
    """A folder whose converter is the checkout's, told the name of the tiny tokeniser."""
    program = (
        "import runpy, sys\n"
        f"checkout = {CHECKOUT!r}\n"
        "sys.path[:0] = [checkout, checkout + '/gguf-py']\n"
        "from conversion.base import TextModel\n"
        "TextModel.get_vocab_base_pre = lambda self, tokenizer: 'qwen2'\n"
        "runpy.run_path(checkout + '/convert_hf_to_gguf.py', run_name='__main__')\n"
    )
    (folder / "convert_hf_to_gguf.py").write_text(program, encoding="utf-8")
    return folder
