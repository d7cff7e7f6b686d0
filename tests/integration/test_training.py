"""Real fine-tuning on the CPU: it learns, reports, stops, and goes on exactly where it was."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llamaduo_gui.core.config import PipelineConfig, StudentConfig
from llamaduo_gui.core.errors import ConfigError, JobCancelledError, UserError
from llamaduo_gui.core.events import Event, Log, MetricLogged, Progress
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, Record, Split, Stage
from llamaduo_gui.store.project import Project
from llamaduo_gui.training.stage import run_finetune
from tests.tiny_models import Architecture, make_tiny_model

SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": 5e-3,
    "batch_size": 4,
    "gradient_accumulation": 1,
    "logging_steps": 2,
    "save_steps": 5,
    "max_length": 64,
    "dropout": 0.1,
}
STEPS = 18

CHILD = """
import sys
from pathlib import Path
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.store.project import Project
from llamaduo_gui.training.stage import run_finetune

context = JobContext(lambda event: None)
with Project.open(Path(sys.argv[1])) as project:
    run = project.runs.by_key("finetune:r0")
    run_finetune(project, run, context, round_number=0, config=project.config)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base"))


def make_config(base: Path, recipe: str = "lora", **overrides: Any) -> PipelineConfig:
    settings = SETTINGS | overrides
    if recipe == "full":
        settings.pop("dropout")
    return PipelineConfig(
        student=StudentConfig(base_model=str(base), recipe=recipe, overrides=settings)
    )


def make_project(folder: Path, config: PipelineConfig) -> Project:
    project = Project.create(folder, config)
    records = []
    for number in range(30):
        turns = (
            Message("user", f"How many metres are in {number} kilometres?"),
            Message("assistant", f"{number}000 metres" + " exactly" * (number % 3)),
        )
        split = Split.TRAIN if number < 24 else Split.VALIDATION
        records.append((Record(turns, "units", f"p{number}"), split, f"f:{number}"))
    project.records.add_coverage(records)
    project.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0, seed=11)
    return project


def finetune(
    project: Project, on_event: Callable[[Event], None] = lambda event: None, **context: Any
) -> dict[str, Any]:
    run = project.runs.by_key("finetune:r0")
    assert run is not None
    job = JobContext(emit=on_event, **context)
    return run_finetune(project, run, job, round_number=0, config=project.config)


def weights(project: Project) -> dict[str, torch.Tensor]:
    return load_file(project.paths.round_dir(0) / "adapter" / "adapter_model.safetensors")


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, Any]]:
    """A project after an uninterrupted training, and its summary."""
    project = make_project(tmp_path_factory.mktemp("whole") / "p", make_config(base))
    summary = finetune(project)
    project.close()
    return project, summary


def test_the_loss_falls_and_the_summary_counts(trained: tuple[Project, dict[str, Any]]) -> None:
    project, summary = trained
    run = project.runs.by_key("finetune:r0")
    assert run is not None
    losses = project.training.series(run.id, "loss")
    assert [step for step, _ in losses] == [1, *range(2, STEPS + 1, 2)]
    assert summary["train_loss"] < losses[0][1] / 2
    evals = project.training.series(run.id, "eval_loss")
    assert [step for step, _ in evals] == [6, 12, 18]
    assert summary["eval_loss"] == pytest.approx(evals[-1][1])
    assert evals[-1][1] < evals[0][1]
    assert (summary["steps"], summary["epochs"]) == (STEPS, 3)
    assert (summary["records_used"], summary["validation_records"]) == (24, 6)
    assert 0 < summary["learnt_tokens"] < summary["tokens"]
    assert 0 < summary["trainable_parameters"] < summary["parameters"]
    assert summary["peak_memory_mb"] > 100
    assert summary["recipe"]["training"]["epochs"] == 3
    assert run.config["recipe"]["lora"]["r"] == 16


def test_the_artifact_is_complete_and_names_no_path_of_this_machine(
    trained: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    project, summary = trained
    artifact = project.artifacts.latest("adapter", 0)
    assert artifact is not None
    assert artifact.path == "artifacts/round-0/adapter"
    folder = project.artifacts.absolute(artifact)
    names = {item.name for item in folder.iterdir()}
    assert names >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }
    assert sorted(item.name for item in folder.parent.iterdir()) == ["adapter"]
    assert "training_args.bin" not in names
    note = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert note["eval_loss"] == summary["eval_loss"]
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    # Here the reference is itself a path, as the user gave it.
    assert config["base_model_name_or_path"] == project.config.student.base_model


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    base: Path, trained: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    with make_project(tmp_path / "again", make_config(base)) as again:
        finetune(again)
        assert_equal(weights(trained[0]), weights(again))
    with make_project(tmp_path / "other", make_config(base)) as other:
        run = other.runs.find_or_create("finetune:other", Stage.FINETUNE, round_number=0, seed=12)
        run_finetune(
            other, run, JobContext(lambda event: None), round_number=0, config=other.config
        )
        pairs = zip(weights(trained[0]).values(), weights(other).values(), strict=True)
        assert any(not torch.equal(one, two) for one, two in pairs)


def test_a_killed_training_goes_on_to_the_same_weights(
    base: Path, trained: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    project = make_project(folder, make_config(base))
    marker = project.paths.round_dir(0) / "checkpoints" / "checkpoint-10" / "complete.json"
    repository = Path(__file__).resolve().parents[2]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], cwd=repository)
    deadline = time.monotonic() + 120
    while not marker.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (project.paths.round_dir(0) / "adapter").exists()
    # What a kill in the middle of the next save leaves behind.
    (marker.parent.with_name("checkpoint-15")).mkdir(exist_ok=True)
    summary = finetune(project)
    assert summary["resumed_from_step"] in (10, 15)
    assert summary["steps"] == STEPS
    assert_equal(weights(trained[0]), weights(project))
    assert summary["eval_loss"] == pytest.approx(trained[1]["eval_loss"], rel=1e-6)
    project.close()


@pytest.mark.slow
def test_the_shipped_base_killed_mid_epoch_leaves_the_same_file(tmp_path: Path) -> None:
    student = StudentConfig(
        base_model="builtin:tiny",
        recipe="lora",
        overrides={**SETTINGS, "epochs": 2, "save_steps": 2, "gradient_accumulation": 2},
    )
    config = PipelineConfig(student=student)
    whole = make_project(tmp_path / "whole", config)
    finetune(whole)
    killed = make_project(tmp_path / "killed", config)
    # Three steps an epoch: the fourth is in the middle of the second one.
    marker = killed.paths.round_dir(0) / "checkpoints" / "checkpoint-4" / "complete.json"
    repository = Path(__file__).resolve().parents[2]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(killed.folder)], cwd=repository)
    deadline = time.monotonic() + 240
    while not marker.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert finetune(killed)["resumed_from_step"] == 4
    files = [
        project.paths.round_dir(0) / "adapter" / "adapter_model.safetensors"
        for project in (whole, killed)
    ]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert len(digests) == 1
    whole.close()
    killed.close()


def test_a_cancelled_training_saves_first_and_repeats_no_step(
    base: Path, trained: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    project = make_project(tmp_path / "p", make_config(base, save_steps=1000))
    context = JobContext(emit=lambda event: None)

    def cancel_at_eight(event: Event) -> None:
        if isinstance(event, MetricLogged) and event.name == "loss" and event.step == 8:
            context.cancel_requested.set()

    context.emit = cancel_at_eight
    run = project.runs.by_key("finetune:r0")
    assert run is not None
    with pytest.raises(JobCancelledError):
        run_finetune(project, run, context, round_number=0, config=project.config)
    assert not (project.paths.round_dir(0) / "adapter").exists()
    progress: list[Progress] = []
    summary = finetune(
        project, lambda event: progress.append(event) if isinstance(event, Progress) else None
    )
    # The step after the one that was logged had begun when the request came.
    assert summary["resumed_from_step"] == 9
    assert (progress[0].done, progress[0].total) == (9, STEPS)
    assert progress[-1].done == STEPS
    assert_equal(weights(trained[0]), weights(project))
    project.close()


def test_a_crash_before_the_adapter_is_saved_repeats_no_step(
    base: Path,
    trained: tuple[Project, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with make_project(tmp_path / "p", make_config(base)) as project:
        with monkeypatch.context() as patch:
            patch.setattr("peft.PeftModel.save_pretrained", _fail_for("adapter.partial", crash))
            with pytest.raises(UserError, match="is full"):
                finetune(project)
        assert not (project.paths.round_dir(0) / "adapter").exists()
        summary = finetune(project)
        assert (summary["resumed_from_step"], summary["steps"]) == (STEPS, STEPS)
        assert summary["train_loss"] == pytest.approx(trained[1]["train_loss"])
        assert_equal(weights(trained[0]), weights(project))


def _fail_for(name: str, fail: Callable[..., None]) -> Callable[..., Any]:
    from peft import PeftModel

    save = PeftModel.save_pretrained

    def save_pretrained(self: Any, folder: Any, **settings: Any) -> Any:
        return fail() if Path(folder).name == name else save(self, folder, **settings)

    return save_pretrained


def test_a_finished_training_is_not_done_again_unless_its_recipe_changed(
    base: Path, tmp_path: Path
) -> None:
    with make_project(tmp_path / "p", make_config(base, epochs=1, eval="never")) as project:
        first = finetune(project)
        steps: list[Event] = []
        assert finetune(project, steps.append) == first
        assert not [event for event in steps if isinstance(event, MetricLogged)]
        project.save_config(make_config(base, epochs=2, eval="never"))
        assert finetune(project)["steps"] == 2 * first["steps"]
        assert first["eval_loss"] is None


def test_nothing_is_written_to_standard_output(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with make_project(tmp_path / "p", make_config(base, epochs=1)) as project:
        finetune(project)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("recipe", "arch", "overrides"),
    [
        ("full", "qwen2", {}),
        ("qlora", "qwen3", {}),
        ("lora", "llama", {"packing": True, "max_length": 64}),
        ("lora", "qwen2", {"dtype": "bf16", "gradient_checkpointing": True}),
        ("lora", "llama", {"modules_to_save": ["embed_tokens", "lm_head"]}),
        ("lora", "llama", {"eval": "end", "gradient_accumulation": 2, "group_by_length": False}),
    ],
)
def test_each_method_and_setting_learns(
    tmp_path: Path, recipe: str, arch: Architecture, overrides: dict[str, Any]
) -> None:
    base = make_tiny_model(tmp_path / "base", arch)
    config = make_config(base, recipe, epochs=2, logging_steps=1, **overrides)
    with make_project(tmp_path / "p", config) as project:
        summary = finetune(project)
        run = project.runs.by_key("finetune:r0")
        assert run is not None
        losses = project.training.series(run.id, "loss")
        kind = "model" if recipe == "full" else "adapter"
        assert project.artifacts.latest(kind, 0) is not None
    assert losses[-1][1] < losses[0][1]
    assert summary["eval_loss"] is not None
    assert summary["method"] == recipe


def test_modules_to_save_are_really_trained(base: Path, tmp_path: Path) -> None:
    config = make_config(base, modules_to_save=["lm_head"], epochs=1)
    with make_project(tmp_path / "p", config) as project:
        finetune(project)
        saved = weights(project)["base_model.model.lm_head.weight"]
    assert not torch.equal(saved, load_file(base / "model.safetensors")["lm_head.weight"])


def test_records_that_are_too_long_are_left_out_and_said(base: Path, tmp_path: Path) -> None:
    config = make_config(base, epochs=1, max_length=42)
    with make_project(tmp_path / "p", config) as project:
        events: list[Event] = []
        summary = finetune(project, events.append)
    assert 0 < summary["records_left_out"] < 24
    assert summary["records_used"] + summary["records_left_out"] == 24
    warnings = [e.text for e in events if isinstance(e, Log) and e.level == "warning"]
    assert any(f"{summary['records_left_out']} of 24 training records" in w for w in warnings)


def test_a_limit_that_leaves_nothing_names_the_setting(base: Path, tmp_path: Path) -> None:
    with (
        make_project(tmp_path / "p", make_config(base, max_length=16)) as project,
        pytest.raises(UserError, match="max_length"),
    ):
        finetune(project)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"base_model": "./absent"}, UserError, "does not exist"),
        ({"recipe": "lorra"}, ConfigError, "did you mean `lora`"),
        ({"overrides": {"epoch": 1}}, ConfigError, "did you mean `epochs`"),
    ],
)
def test_wrong_settings_are_found_before_anything_loads(
    base: Path, tmp_path: Path, change: dict[str, Any], error: type[UserError], text: str
) -> None:
    config = make_config(base)
    student = config.student.model_copy(update=change)
    with make_project(tmp_path / "p", config.model_copy(update={"student": student})) as project:
        started = time.monotonic()
        with pytest.raises(error, match=text):
            finetune(project)
        assert time.monotonic() - started < 1


def test_a_loss_that_is_no_number_ends_the_training_with_advice(base: Path, tmp_path: Path) -> None:
    config = make_config(base, learning_rate=0.99, max_grad_norm=0.0, warmup_ratio=0.0)
    broken = make_tiny_model(tmp_path / "base")
    data = load_file(broken / "model.safetensors")
    data["model.norm.weight"].fill_(torch.nan)
    from safetensors.torch import save_file

    save_file(data, broken / "model.safetensors", metadata={"format": "pt"})
    student = config.student.model_copy(update={"base_model": str(broken)})
    with (
        make_project(tmp_path / "p", config.model_copy(update={"student": student})) as project,
        pytest.raises(UserError, match="learning_rate"),
    ):
        finetune(project)


def test_memory_that_runs_out_in_a_step_is_explained_with_a_smaller_batch(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama.modeling_llama import LlamaModel

    def exhaust(*_: Any, **__: Any) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 4294967296 bytes. Error code 12"
        )

    monkeypatch.setattr(LlamaModel, "forward", exhaust)
    with (
        make_project(tmp_path / "p", make_config(base)) as project,
        pytest.raises(UserError, match=r"batch of 4 records of up to \d+ tokens") as caught,
    ):
        finetune(project)
    assert "4.0 GB more was needed" in str(caught.value)
    assert caught.value.detail["overrides"] == {"batch_size": 2, "gradient_accumulation": 2}


def test_a_changed_recipe_refuses_to_go_on_and_a_restart_does_it(
    base: Path, tmp_path: Path
) -> None:
    from llamaduo_gui.training.options import TrainingOptions

    project = make_project(tmp_path / "p", make_config(base, save_steps=1000))
    run = project.runs.by_key("finetune:r0")
    assert run is not None
    context = JobContext(emit=lambda event: None)

    def cancel(event: Event) -> None:
        if isinstance(event, MetricLogged):
            context.cancel_requested.set()

    context.emit = cancel
    with pytest.raises(JobCancelledError):
        run_finetune(project, run, context, round_number=0, config=project.config)
    project.save_config(make_config(base, save_steps=1000, learning_rate=1e-3, epochs=1))
    changed = r"training.epochs \(3.0 then, 1.0 now\), training.learning_rate"
    with pytest.raises(UserError, match=changed):
        finetune(project)
    summary = run_finetune(
        project,
        run,
        JobContext(emit=lambda event: None),
        round_number=0,
        config=project.config,
        options=TrainingOptions(should_restart=True),
    )
    assert (summary["resumed_from_step"], summary["steps"]) == (None, STEPS // 3)
    project.close()


def test_training_ends_with_the_best_weights_when_it_no_longer_gets_better(
    base: Path, tmp_path: Path
) -> None:
    """A learning rate that rises far too high: the loss falls first and then grows."""
    overrides: dict[str, Any] = {
        "learning_rate": 0.6,
        "warmup_ratio": 0.9,
        "eval": "steps",
        "eval_steps": 1,
        "early_stopping_patience": 2,
        "max_grad_norm": 0,
    }
    with make_project(tmp_path / "p", make_config(base, **overrides)) as project:
        summary = finetune(project)
        run = project.runs.by_key("finetune:r0")
        assert run is not None
        evals = project.training.series(run.id, "eval_loss")
    best_step, best_loss = min(evals, key=lambda item: item[1])
    assert summary["steps"] == best_step + 2 < summary["total_steps"]
    assert summary["best_step"] == best_step
    assert summary["eval_loss"] == pytest.approx(best_loss)
    with make_project(
        tmp_path / "until", make_config(base, **{**overrides, "early_stopping_patience": 0})
    ) as whole:
        context = JobContext(emit=lambda event: None)
        saved = tmp_path / "until" / "artifacts" / "round-0" / "checkpoints"

        def stop(event: Event) -> None:
            is_eval = isinstance(event, MetricLogged) and event.name == "eval_loss"
            if is_eval and event.step == best_step - 1:
                context.cancel_requested.set()

        context.emit = stop
        run = whole.runs.by_key("finetune:r0")
        assert run is not None
        with pytest.raises(JobCancelledError):
            run_finetune(whole, run, context, round_number=0, config=whole.config)
        expected = load_file(saved / f"checkpoint-{best_step}" / "adapter_model.safetensors")
    assert_equal(expected, weights(project))


def test_speed_memory_and_rate_are_logged_beside_the_loss(
    trained: tuple[Project, dict[str, Any]],
) -> None:
    project, summary = trained
    run = project.runs.by_key("finetune:r0")
    assert run is not None
    for name in ("tokens_per_s", "memory_mb", "learning_rate", "grad_norm"):
        points = project.training.series(run.id, name)
        assert len(points) == STEPS // 2 + 1, name
        assert all(value >= 0 for _, value in points)
    assert run.config["choices"] == summary["choices"]
    assert summary["choices"]["attention"] == "sdpa"


def test_event_files_need_a_writer_and_are_written_with_one(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    from llamaduo_gui.training import event_files

    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            Path(folder).mkdir(parents=True)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            pass

    config = make_config(base, epochs=1, tensorboard=True)
    with make_project(tmp_path / "p", config) as project:
        monkeypatch.setattr(event_files, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match="pip install tensorboard"):
            finetune(project)
        monkeypatch.setattr(event_files, "find_spec", lambda name: name == "tensorboardX" or None)
        module = types.ModuleType("tensorboardX")
        vars(module)["SummaryWriter"] = SummaryWriter
        monkeypatch.setitem(sys.modules, "tensorboardX", module)
        finetune(project)
        assert (project.paths.round_dir(0) / "tensorboard").is_dir()
    names = {name for name, _, _ in written}
    assert {"train/loss", "train/learning_rate", "validation/loss"} <= names
