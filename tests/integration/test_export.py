"""Tests of the export stage on real projects, models and files."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig, validate_config
from llamaduo_gui.core.errors import JobCancelledError, UserError
from llamaduo_gui.core.events import Event, Log, Progress
from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, Stage
from llamaduo_gui.export import stage as export_stage
from llamaduo_gui.export.stage import QUANTS, run_export
from llamaduo_gui.inference.base import Generation, GenerationSettings, PromptJob
from llamaduo_gui.inference.llama_cpp_backend import LlamaCppBackend
from llamaduo_gui.inference.transformers_backend import TransformersBackend
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RunRow
from tests.adapters import make_test_adapter
from tests.gguf_files import write_test_gguf
from tests.tiny_models import make_tiny_model

DiskUsage = namedtuple("DiskUsage", "total used free")


class Bench:
    """A project with a trained round 1, and what its export emits."""

    def __init__(self, folder: Path, config: PipelineConfig) -> None:
        self.project = Project.create(folder, config)
        self.config = config
        self.events: list[Event] = []
        self.cancelled = threading.Event()
        self.context = JobContext(self.events.append, self.cancelled)

    def run(self, quant: str) -> RunRow:
        """The run row of an export."""
        key = f"export:{quant}:r1"
        return self.project.runs.find_or_create(key, Stage.EXPORT, round_number=1)

    def add_student(self, folder: Path, kind: str = "adapter") -> None:
        """Register what training made."""
        run = self.project.runs.find_or_create("finetune:r1", Stage.FINETUNE, round_number=1)
        self.project.artifacts.add(run.id, kind, folder, round_number=1)

    def export(self, quant: str = "Q8_0", out: Path | None = None) -> dict[str, Any]:
        """Run the stage."""
        return run_export(
            self.project,
            self.run(quant),
            self.context,
            round_number=1,
            quant=quant,
            config=self.config,
            out=out,
        )

    @property
    def round_dir(self) -> Path:
        """Where exports go."""
        return self.project.paths.round_dir(1)

    def files(self) -> list[str]:
        """Names of the files in the round's folder, adapters aside."""
        return sorted(item.name for item in self.round_dir.glob("*") if item.is_file())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model with a model card."""
    folder = make_tiny_model(tmp_path_factory.mktemp("base") / "Tiny Base", hidden=256)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    return folder


@pytest.fixture
def bench(base: Path, tmp_path: Path) -> Iterator[Bench]:
    """A project whose round 1 trained a LoRA adapter."""
    config = validate_config({"task": "tickets", "student": {"base_model": str(base)}})
    found = Bench(tmp_path / "project", config)
    adapter = found.round_dir / "adapter"
    make_test_adapter(base, adapter, r=8, lora_alpha=16, target_modules=["q_proj", "down_proj"])
    found.add_student(adapter)
    yield found
    found.project.close()


@pytest.mark.parametrize("quant", QUANTS)
def test_a_trained_round_becomes_a_file_that_llama_cpp_answers_from(
    bench: Bench, quant: str
) -> None:
    summary = bench.export(quant)
    path = bench.project.folder / summary["path"]
    assert path.name == f"Tiny-Base-1.4M-tickets-{quant}.gguf"
    assert bench.files() == [path.name]
    file = check_gguf(path)
    assert file.quant == summary["quant"] == quant
    assert file.tensor_types == summary["tensor_types"]
    assert file.size_bytes == summary["size_bytes"] == path.stat().st_size
    assert (summary["texts_compared"], summary["texts_differing"]) == (20, 0)
    assert summary["warnings"] == []
    assert file.metadata["general.license"] == "apache-2.0"
    assert file.metadata["llamaduo.round"] == "1"
    stored = bench.project.artifacts.latest("gguf", 1)
    assert stored is not None
    assert stored.sha256 == summary["sha256"]
    assert stored.meta["quant"] == quant
    backend = LlamaCppBackend(path)
    assert answers(backend)[0].completion_tokens > 0
    backend.close()


def answers(backend: LlamaCppBackend | TransformersBackend) -> list[Generation]:
    """Greedy answers to three questions."""
    found: list[Generation] = []
    jobs = [PromptJob(i, 0, (Message("user", f"Question {i}?"),), seed=i) for i in range(3)]
    settings = GenerationSettings(temperature=0.0, max_new_tokens=10)
    backend.generate(jobs, settings, lambda _job, got: found.append(got), lambda: None)
    return sorted(found, key=lambda item: item.text)


def test_the_file_answers_as_the_adapter_did_on_its_base(bench: Bench, base: Path) -> None:
    path = bench.project.folder / bench.export("F32")["path"]
    tuned = TransformersBackend.load(base, bench.round_dir / "adapter")
    plain = TransformersBackend.load(base)
    exported = LlamaCppBackend(path)
    found = [item.text for item in answers(exported)]
    assert found == [item.text for item in answers(tuned)]
    assert found != [item.text for item in answers(plain)]
    for backend in (tuned, plain, exported):
        backend.close()


def test_a_fully_trained_model_is_exported_from_its_own_folder(
    bench: Bench, tmp_path: Path
) -> None:
    model = make_tiny_model(tmp_path / "project" / "artifacts" / "round-1" / "model", hidden=256)
    bench.add_student(model, kind="model")
    bench.config = validate_config({"student": {"base_model": "/nowhere/at/all"}})
    path = bench.project.folder / bench.export("F16")["path"]
    expected = write_test_gguf(model, tmp_path / "expected.gguf", "F16")
    names = {tensor.name: tensor for tensor in check_gguf(expected).tensors}
    data, wanted = path.read_bytes(), expected.read_bytes()
    for tensor in check_gguf(path).tensors:
        other = names[tensor.name]
        end, other_end = tensor.offset + tensor.size_bytes, other.offset + other.size_bytes
        assert data[tensor.offset : end] == wanted[other.offset : other_end], tensor.name


def test_progress_names_its_steps_and_reaches_its_end(bench: Bench) -> None:
    bench.export("Q4_K_M")
    progress = [item for item in bench.events if isinstance(item, Progress)]
    assert progress[-1].done == progress[-1].total
    assert {item.units for item in progress} == {"MB written"}
    wide = 2 * check_gguf(next(bench.round_dir.glob("*.gguf"))).parameters / 1e6
    assert wide < progress[-1].total < 1.5 * wide + 2
    assert [item.done for item in progress] == sorted(item.done for item in progress)
    messages = {item.message.split()[0] for item in progress if item.message}
    assert {"Quantising", "Checking", "Done"} <= messages


def test_exporting_again_replaces_the_file_and_keeps_one_artifact(bench: Bench) -> None:
    first, second = bench.export(), bench.export()
    assert first["sha256"] == second["sha256"]
    assert len(bench.project.artifacts.all("gguf")) == 1


def test_the_same_student_in_another_project_differs_in_the_projects_name_only(
    bench: Bench, base: Path, tmp_path: Path
) -> None:
    other = Bench(tmp_path / "other project", bench.config)
    adapter = other.round_dir / "adapter"
    shutil.copytree(bench.round_dir / "adapter", adapter)
    for folder, seconds in ((adapter, 3), (bench.round_dir / "adapter", 4)):
        note = {"method": "lora", "seconds": seconds, "folder": str(folder)}
        (folder / "training.json").write_text(json.dumps(note), encoding="utf-8")
    for found in (bench, other):
        found.add_student(found.round_dir / "adapter")
    files = [
        check_gguf(found.project.folder / found.export("F16")["path"]) for found in (bench, other)
    ]
    one, two = (file.metadata for file in files)
    assert {key for key in one if one[key] != two[key]} == {"llamaduo.project"}
    assert one["llamaduo.student_sha256"] == two["llamaduo.student_sha256"]
    first, second = (file.path.read_bytes()[file.tensors[0].offset :] for file in files)
    assert first == second
    other.project.close()


def test_another_place_can_be_named(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "my model.gguf"
    assert bench.export(out=out)["path"] == str(out)
    assert check_gguf(out).quant == "Q8_0"


def test_types_that_could_not_be_had_are_said(base: Path, bench: Bench) -> None:
    narrow = make_tiny_model(bench.round_dir / "model", hidden=64)
    bench.add_student(narrow, kind="model")
    summary = bench.export("Q4_K_M")
    assert summary["fallbacks"]
    assert "could not be stored as Q4_K_M" in summary["warnings"][0]
    logged = [item.text for item in bench.events if isinstance(item, Log)]
    assert summary["warnings"][0] in logged


def test_too_little_room_is_noticed_before_anything_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**12, 10**12, 20_000_000))
    written: list[str] = []
    monkeypatch.setattr(export_stage, "write_gguf", lambda *_: written.append("x"))
    with pytest.raises(UserError, match=r"needs 0\.04 GB in .* and 0\.02 GB are free") as caught:
        bench.export("Q4_K_M")
    assert "\n" not in str(caught.value)
    assert written == []
    assert bench.files() == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files the Linux way")
@pytest.mark.parametrize("quant", ["F16", "Q4_K_M"])
def test_a_disk_that_fills_up_midway_leaves_nothing_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, quant: str
) -> None:
    import resource

    # The kernel refuses to let a file grow beyond the limit, as it does on a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write = export_stage.write_gguf

    def write_limited(*args: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        write(*args)

    monkeypatch.setattr(export_stage, "write_gguf", write_limited)
    try:
        with pytest.raises(UserError, match="GB are free; make room"):
            bench.export(quant)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert bench.files() == []
    assert bench.project.artifacts.all("gguf") == []


def test_a_disk_that_fills_up_while_quantising_is_explained(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([10**12])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**12, 0, next(free, 1_000_000)))
    real = export_stage.quantize
    target = Path("/dev/full")
    if not target.exists():
        pytest.skip("no /dev/full on this system")
    monkeypatch.setattr(
        export_stage, "quantize", lambda source, _, *rest: real(source, target, *rest)
    )
    with pytest.raises(UserError, match=r"0\.00 GB are free; make room"):
        bench.export("Q4_K_M")
    assert bench.files() == []


def test_a_folder_that_cannot_be_written_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(export_stage, "write_gguf", refuse)
    with pytest.raises(UserError, match=r"cannot be written \(Read-only file system\)"):
        bench.export()


def test_cancelling_leaves_nothing_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = export_stage.write_gguf

    def cancel_after_three(*args: Any) -> None:
        *rest, on_tensor = args
        seen: list[str] = []

        def count(name: str) -> None:
            seen.append(name)
            if len(seen) == 3:
                bench.cancelled.set()
            on_tensor(name)

        write(*rest, count)

    monkeypatch.setattr(export_stage, "write_gguf", cancel_after_three)
    with pytest.raises(JobCancelledError):
        bench.export()
    assert bench.files() == []


def test_what_cannot_be_exported_is_said_in_one_sentence(bench: Bench) -> None:
    with pytest.raises(UserError, match=r"type Q9 is unknown; choose one of F32, .*Q4_K_M"):
        bench.export("Q9")
    with pytest.raises(UserError, match="Round 2 has no trained student yet"):
        run_export(
            bench.project,
            bench.run("Q8_0"),
            bench.context,
            round_number=2,
            quant="Q8_0",
            config=bench.config,
        )
    shutil.rmtree(bench.round_dir / "adapter")
    with pytest.raises(UserError, match="student of round 1 is missing"):
        bench.export()


def test_an_export_says_nothing_on_standard_output(bench: Bench) -> None:
    program = f"""
import json, sys
from pathlib import Path
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Stage
from llamaduo_gui.export.stage import run_export
from llamaduo_gui.store.project import Project
with Project.open(Path({str(bench.project.folder)!r})) as project:
    run = project.runs.find_or_create("export:Q4_K_M:r1", Stage.EXPORT, round_number=1)
    context = JobContext(lambda event: None)
    run_export(project, run, context, round_number=1, quant="Q4_K_M", config=project.config)
print(json.dumps(sorted(name for name in sys.modules if name in ("torch", "trl", "peft"))))
"""
    bench.project.close()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert "trl" not in loaded
    assert "peft" not in loaded
