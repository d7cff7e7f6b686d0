"""Tests that a QLoRA adapter is merged onto what scores better, and exactly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from llamaduo_gui.core.causal_lm import load_causal_lm
from llamaduo_gui.core.config import PipelineConfig, validate_config
from llamaduo_gui.core.four_bit import is_rounded, quantized_dtype
from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, ModelKind, Record, RunStatus, Split, Stage
from llamaduo_gui.export.tensors import open_model
from llamaduo_gui.pipeline import merge_choice
from llamaduo_gui.pipeline.certify import Student, find_student
from llamaduo_gui.pipeline.execute import Executor
from llamaduo_gui.pipeline.merge_choice import choose_merge, measure_losses
from llamaduo_gui.pipeline.plan import Step, certify_step
from llamaduo_gui.store.project import Project
from tests.adapters import make_test_adapter
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model in bf16."""
    return make_tiny_model(tmp_path_factory.mktemp("base"), hidden=64, dtype="bfloat16")


@pytest.fixture
def project(base: Path, tmp_path: Path) -> Iterator[Project]:
    """A project whose round 0 made a QLoRA adapter."""
    config = validate_config({"student": {"base_model": str(base), "recipe": "qlora"}})
    with Project.create(tmp_path / "p", config) as made:
        adapter = made.paths.round_dir(0) / "adapter"
        make_test_adapter(base, adapter, r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
        note = {"method": "qlora", "dtype": "bfloat16"}
        (adapter / "training.json").write_text(json.dumps(note), encoding="utf-8")
        run = made.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0)
        made.runs.finish(run.id, RunStatus.SUCCEEDED)
        made.artifacts.add(run.id, "adapter", adapter, round_number=0)
        splits = (Split.VALIDATION, Split.TEST)
        made.records.add_coverage(
            [
                (
                    Record(
                        (Message("user", f"Q{i}?"), Message("assistant", f"A{i}")), "t", f"p{i}"
                    ),
                    splits[i % 2],
                    f"f:{i}",
                )
                for i in range(8)
            ]
        )
        yield made


def student_of(project: Project) -> Student:
    """The student of round 0."""
    return find_student(project, project.config, 0)


def with_merge(config: PipelineConfig, merge: str) -> PipelineConfig:
    """The settings with another `export.merge`."""
    return validate_config({**config.model_dump(mode="json"), "export": {"merge": merge}})


def test_the_rounded_weights_are_those_of_the_4_bit_layers(base: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = load_causal_lm(
        base, dtype=torch.bfloat16, quantization_config=settings, device_map={"": "cpu"}
    )
    modules = dict(model.named_modules())
    rounded = 0
    for tensor in open_model(base, quantized_from="bfloat16").tensors:
        name = getattr(tensor.source, "name", "")
        weight = modules[name.removesuffix(".weight")].weight if name else None
        if weight is None or not hasattr(weight, "quant_state"):
            assert not is_rounded(name, tensor.shape)
            continue
        rounded += 1
        expected = dequantize_4bit(weight.data, weight.quant_state).float().numpy()
        if tensor.row_order is not None:
            expected = expected[tensor.row_order]
        assert (tensor.read() == expected).all(), name
    assert rounded == 2 * 7


def test_the_choice_is_the_lower_validation_loss(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = JobContext(lambda event: None)
    student = student_of(project)
    found = choose_merge(project, project.config, student, context)
    assert found.losses is not None
    assert found.onto == min(found.losses, key=lambda name: found.losses[name])
    assert f"{found.losses[found.onto]:.4f}" in found.reason
    for better, worse in (("base", "dequantized"), ("dequantized", "base")):
        losses = {better: 1.0, worse: 2.0}
        monkeypatch.setattr(merge_choice, "measure_losses", lambda *_, losses=losses: losses)
        choice = choose_merge(project, project.config, student, context)
        assert choice.onto == better
        assert choice.quantized_from == ("bfloat16" if better == "dequantized" else None)


def test_the_losses_are_those_of_two_models(project: Project) -> None:
    student = student_of(project)
    records = [row.record for row in project.records.by_split(Split.VALIDATION)]
    context = JobContext(lambda event: None)
    losses = measure_losses(student, "bfloat16", records, context)
    assert losses["base"] != losses["dequantized"]
    assert measure_losses(student, "bfloat16", [], context) == {}


@pytest.mark.parametrize("merge", ["base", "dequantized"])
def test_the_file_says_what_it_was_merged_onto_and_is_certified(
    project: Project, merge: str
) -> None:
    config = with_merge(project.config, merge)
    executor = Executor(project, JobContext(lambda event: None), config, 0)
    run = executor.run(Step("export:F32:r0", Stage.EXPORT, 0, ModelKind.GGUF))
    assert run.summary["merge"]["onto"] == merge
    metadata = check_gguf(project.folder / run.summary["path"]).metadata
    expected = "nf4 from bfloat16" if merge == "dequantized" else "base"
    assert metadata["llamaduo.merged_onto"] == expected
    result = executor.run(certify_step(0, "F32")).summary
    assert result["causes"] == []


def test_other_adapters_leave_no_choice(project: Project) -> None:
    adapter = student_of(project).trained
    assert quantized_dtype(adapter) == "bfloat16"
    (adapter / "training.json").write_text('{"method": "lora"}', encoding="utf-8")
    found = choose_merge(
        project, project.config, student_of(project), JobContext(lambda event: None)
    )
    assert (found.onto, found.losses, found.reason) == ("base", None, "")
