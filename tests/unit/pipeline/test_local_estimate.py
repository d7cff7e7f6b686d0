"""The forecast of fine-tuning and answering on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig, StudentConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.machine import Gpu, Machine
from llamaduo_gui.pipeline.create import create_demo
from llamaduo_gui.pipeline.local_estimate import (
    LocalEstimate,
    Workload,
    estimate_for,
    estimate_local,
    measure_workload,
    round_to_train,
    sentences,
)
from llamaduo_gui.training.keep_measured import keep_measured
from llamaduo_gui.training.measured import read_measurements
from llamaduo_gui.training.recipes import load_recipe

CPU = Machine("EPYC", 4, 64 * 10**9, 48 * 10**9, 10**12, 10**11)
GPU = Machine(
    "EPYC",
    16,
    10**11,
    10**11,
    10**12,
    10**11,
    (Gpu(0, "NVIDIA L4", "550", 24 * 10**9, 23 * 10**9),),
)
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
WORK = Workload(500_000, 900, 100, 200.0, 150.0)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_8B), encoding="utf-8")
    return folder


def estimate(folder: Path, recipe: str, machine: Machine, **overrides: Any) -> LocalEstimate:
    return estimate_for(folder, "llama", load_recipe(recipe, overrides), WORK, machine)


def test_qlora_of_8_billion_fits_a_24_gb_gpu_and_full_training_does_not(llama: Path) -> None:
    assert estimate(llama, "qlora", GPU).does_fit
    assert not estimate(llama, "full", GPU).does_fit
    assert "does not fit" in " ".join(sentences(estimate(llama, "full", GPU)))


def test_a_machine_without_a_gpu_is_told_what_is_realistic(llama: Path) -> None:
    (*_, advice) = sentences(estimate(llama, "qlora", CPU))

    assert "no NVIDIA GPU" in advice
    assert "4 processor cores" in advice
    assert "not realistic for 8.03 billion parameters" in advice


def test_time_grows_with_epochs_and_has_a_range(llama: Path) -> None:
    once, thrice = (estimate(llama, "qlora", GPU, epochs=n).training.seconds for n in (1, 3))

    assert thrice.expected == pytest.approx(3 * once.expected)
    assert once.low < once.expected < once.high


def test_a_finished_training_corrects_the_next_estimate(llama: Path) -> None:
    recipe = load_recipe("lora")
    before = estimate(llama, "lora", CPU)
    summary = {
        "resumed_from_step": None,
        "processes": 1,
        "seconds": 100.0,
        "tokens": 10_000,
        "device": "cpu",
        "longest_record": 900,
        "peak_memory_mb": before.training.memory.total * 1.5 / 2**20,
        "choices": {"dtype": "fp32", "gradient_checkpointing": False, "optimizer": "adamw"},
    }

    keep_measured(summary, recipe, "lora", base=llama, reference="llama")

    (row,) = read_measurements()
    here = Machine(row.device.rpartition(",")[0], _cores(row.device), 10**12, 10**12, 1, 1)
    after = estimate(llama, "lora", here)
    assert after.basis == "corrected by 1 run of this model on this machine"
    ratio = after.training.needed_bytes / after.training.memory.total
    assert ratio == pytest.approx(row.peak_bytes / row.estimated_bytes)
    per_token = after.training.seconds.expected / after.training.tokens
    assert per_token == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("change", [{"resumed_from_step": 5}, {"processes": 2}, {"seconds": 1.0}])
def test_a_training_that_says_little_is_not_kept(llama: Path, change: dict[str, Any]) -> None:
    summary = {"resumed_from_step": None, "processes": 1, "seconds": 100.0, "tokens": 1, **change}

    keep_measured(summary, load_recipe("lora"), "lora", base=llama, reference="llama")

    assert read_measurements() == []


def test_the_demo_is_estimated_from_its_records(tmp_path: Path) -> None:
    with create_demo(tmp_path / "demo") as project:
        found = estimate_local(project, project.config, machine=CPU)
        work = measure_workload(project, project.config)

        assert round_to_train(project) == 0
        assert found.does_fit
        assert found.training.tokens == work.tokens * load_recipe("demo").training.epochs
        later = measure_workload(project, project.config, 1)
        assert later.tokens > work.tokens
        assert json.dumps(found.to_dict())


def test_a_model_that_is_not_here_is_not_downloaded(tmp_path: Path) -> None:
    with create_demo(tmp_path / "demo") as project:
        config: PipelineConfig = project.config.model_copy(
            update={"student": StudentConfig(base_model="nobody/nothing")}
        )
        with pytest.raises(UserError, match="nobody/nothing is not on this machine"):
            estimate_local(project, config, machine=CPU)


def _cores(device: str) -> int:
    return int(device.rpartition(",")[2].split()[0])
