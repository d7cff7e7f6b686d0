"""Several training processes through `accelerate launch` do what one process does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from llamaduo_gui.core.config import PipelineConfig, StudentConfig
from llamaduo_gui.core.errors import ConfigError, JobCancelledError
from llamaduo_gui.core.events import Event, MetricLogged
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, Record, Split, Stage
from llamaduo_gui.store.project import Project
from llamaduo_gui.training.options import TrainingOptions
from llamaduo_gui.training.plan import PlanChangedError
from llamaduo_gui.training.stage import run_finetune

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="gloo between processes is tried on Linux only"
)


def make_project(folder: Path) -> Project:
    overrides = {
        "epochs": 2,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "max_length": 64,
        "logging_steps": 1,
        "save_steps": 2,
    }
    student = StudentConfig(base_model="builtin:tiny", recipe="lora", overrides=overrides)
    project = Project.create(folder, PipelineConfig(student=student))
    records = []
    for number in range(20):
        turns = (Message("user", f"Double {number}?"), Message("assistant", f"It is {2 * number}."))
        split = Split.TRAIN if number < 16 else Split.VALIDATION
        records.append((Record(turns, "sums", f"p{number}"), split, f"f:{number}"))
    project.records.add_coverage(records)
    project.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0, seed=3)
    return project


@pytest.fixture
def two_processes(tmp_path: Path) -> TrainingOptions:
    path = tmp_path / "accelerate.yaml"
    # Without a GPU, accelerate's launcher for several GPUs starts processes that talk over gloo.
    content = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "num_machines": 1,
        "num_processes": 2,
        "machine_rank": 0,
        "mixed_precision": "no",
        "use_cpu": True,
        "main_process_ip": "127.0.0.1",
        "main_process_port": 0,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return TrainingOptions(accelerate_config=str(path))


@pytest.mark.extended
def test_two_processes_learn_the_same_steps_report_and_leave_one_adapter(
    tmp_path: Path, two_processes: TrainingOptions
) -> None:
    events: list[Event] = []
    with make_project(tmp_path / "p") as project:
        run = project.runs.by_key("finetune:r0")
        assert run is not None
        summary = run_finetune(
            project,
            run,
            JobContext(events.append),
            round_number=0,
            config=project.config,
            options=two_processes,
        )
        folder = project.paths.round_dir(0) / "adapter"
        assert load_file(folder / "adapter_model.safetensors")
        losses = project.training.series(run.id, "loss")
    # 16 records, 8 a step whether one process accumulates two batches or two have one each.
    assert (summary["processes"], summary["steps"]) == (2, 4)
    assert summary["choices"]["gradient_accumulation"] == 1
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert [event.step for event in events if isinstance(event, MetricLogged)]
    with make_project(tmp_path / "one") as project:
        run = project.runs.by_key("finetune:r0")
        assert run is not None
        alone = run_finetune(
            project, run, JobContext(lambda event: None), round_number=0, config=project.config
        )
        first = project.training.series(run.id, "loss")[0][1]
    assert losses[0][1] == pytest.approx(first, rel=0.02)
    assert summary["eval_loss"] == pytest.approx(alone["eval_loss"], rel=0.02)


@pytest.mark.extended
def test_a_stopped_launch_keeps_a_checkpoint_for_as_many_processes(
    tmp_path: Path, two_processes: TrainingOptions
) -> None:
    with make_project(tmp_path / "p") as project:
        run = project.runs.by_key("finetune:r0")
        assert run is not None
        context = JobContext(lambda event: None)

        def stop(event: Event) -> None:
            if isinstance(event, MetricLogged):
                context.cancel_requested.set()

        context.emit = stop
        with pytest.raises(JobCancelledError):
            run_finetune(
                project,
                run,
                context,
                round_number=0,
                config=project.config,
                options=two_processes,
            )
        with pytest.raises(PlanChangedError, match="number of training processes"):
            run_finetune(
                project, run, JobContext(lambda event: None), round_number=0, config=project.config
            )


def test_a_configuration_that_splits_the_model_is_refused(tmp_path: Path) -> None:
    from llamaduo_gui.training.distributed import plan_launch

    path = tmp_path / "fsdp.yaml"
    path.write_text("distributed_type: FSDP\nnum_processes: 4\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="FSDP"):
        plan_launch(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        plan_launch(str(tmp_path / "absent.yaml"))


def test_every_gpu_the_user_made_visible_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from llamaduo_gui.training.distributed import plan_launch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.delenv("LLAMADUO_CHOSE_GPU", raising=False)
    launch = plan_launch("")
    assert launch is not None
    assert (launch.processes, launch.gpus) == (2, ("2", "3"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert plan_launch("") is None


def test_all_gpus_are_used_where_the_user_chose_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from llamaduo_gui.core import machine
    from llamaduo_gui.training.distributed import plan_launch

    gpus = [machine.Gpu(index, "GPU", "570", 2**34, 2**33, None) for index in range(3)]
    monkeypatch.setattr(machine, "read_gpus", lambda: gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("LLAMADUO_CHOSE_GPU", "1")
    launch = plan_launch("")
    assert launch is not None
    assert launch.gpus == ("0", "1", "2")
