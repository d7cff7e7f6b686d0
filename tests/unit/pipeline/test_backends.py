"""Which backend answers and why, and the GGUF that exists only while a round is answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from llamaduo_gui.core.config import (
    ConfigError,
    InferenceConfig,
    PipelineConfig,
    StudentConfig,
    validate_config,
)
from llamaduo_gui.core.errors import JobCancelledError, UserError
from llamaduo_gui.core.types import Message, ModelKind
from llamaduo_gui.inference.base import Backend, GenerationSettings, PromptJob
from llamaduo_gui.pipeline import backends
from llamaduo_gui.pipeline.backends import choose_backend, endpoint_service, make_backend
from llamaduo_gui.pipeline.temporary_gguf import TemporaryGgufBackend
from llamaduo_gui.store.project import Project
from tests.tiny_models import make_tiny_model

GREEDY = GenerationSettings(0.0, 1.0, 12)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base"), context=128)


@pytest.fixture
def project(base: Path, tmp_path: Path) -> Iterator[Project]:
    config = PipelineConfig(student=StudentConfig(base_model=str(base)))
    with Project.create(tmp_path / "p", config) as made:
        yield made


def with_inference(project: Project, **settings: object) -> PipelineConfig:
    inference = InferenceConfig.model_validate(settings)
    return project.config.model_copy(update={"inference": inference})


def answers(backend: Backend) -> list[str]:
    jobs = [
        PromptJob(number, 0, (Message("user", f"Question {number}?"),), number)
        for number in range(6)
    ]
    found: dict[int, str] = {}
    backend.generate(
        jobs, GREEDY, lambda job, got: found.__setitem__(job.record_id, got.text), lambda: None
    )
    backend.close()
    return [found[number] for number in sorted(found)]


def test_llama_cpp_answers_rounds_from_a_file_that_is_gone_afterwards(project: Project) -> None:
    config = with_inference(project, backend="llama_cpp", quant="F16")
    backend = make_backend(project, config, ModelKind.BASE, None)
    folder = project.paths.artifacts / "inference"
    assert [path.name for path in folder.iterdir()] == ["base-F16.gguf"]
    assert "F16" in backend.note
    assert "temporary GGUF" in backend.note
    through_llama_cpp = answers(backend)
    assert not list(folder.iterdir())
    plain = make_backend(
        project, with_inference(project, backend="transformers"), ModelKind.BASE, None
    )
    assert plain.name == "transformers"
    assert answers(plain) == through_llama_cpp


def test_a_stopped_writing_leaves_no_file(base: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise JobCancelledError

    with pytest.raises(JobCancelledError):
        TemporaryGgufBackend(tmp_path / "x.gguf", base, None, "F16", stop)
    assert not list(tmp_path.iterdir())


def test_a_round_without_a_student_names_the_step_that_makes_one(project: Project) -> None:
    for backend in ("transformers", "llama_cpp"):
        config = with_inference(project, backend=backend)
        with pytest.raises(UserError, match="Round 2 has no trained student yet; fine-tune first"):
            make_backend(project, config, ModelKind.TUNED, 2)


def test_auto_leaves_small_models_to_transformers_in_32_bits(project: Project) -> None:
    notes: list[str] = []
    backend = make_backend(project, project.config, ModelKind.BASE, None, on_note=notes.append)
    assert backend.name == "transformers"
    backend.close()
    if torch.cuda.is_available():
        assert "because there is a GPU" in notes[0]
    else:
        (note,) = notes
        assert note.startswith("Backend auto: transformers on the CPU in 32 bits")
        assert note.endswith("gains nothing from llama.cpp.")


@pytest.mark.skipif(torch.cuda.is_available(), reason="about computers without a GPU")
def test_auto_gives_large_models_on_the_cpu_to_llama_cpp(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_SMALL_MODEL_M", 0)
    choice, reason = choose_backend(InferenceConfig(), base)
    assert choice == "llama_cpp"
    assert "temporary F16 GGUF, because there is no GPU" in reason
    assert choose_backend(InferenceConfig(dtype="bfloat16"), base)[0] == "transformers"
    assert choose_backend(InferenceConfig(backend="transformers"), base) == ("transformers", "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="about computers without a GPU")
def test_auto_falls_back_to_transformers_where_no_gguf_can_be_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise UserError("The weight w has values beyond the range of F16.")

    monkeypatch.setattr(backends, "_SMALL_MODEL_M", 0)
    monkeypatch.setattr("llamaduo_gui.pipeline.temporary_gguf.write_gguf", refuse)
    notes: list[str] = []
    backend = make_backend(project, project.config, ModelKind.BASE, None, on_note=notes.append)
    assert backend.name == "transformers"
    backend.close()
    assert "instead of llama.cpp: The weight w" in notes[1]
    with pytest.raises(UserError, match="beyond the range"):
        make_backend(project, with_inference(project, backend="llama_cpp"), ModelKind.BASE, None)


def test_an_endpoint_tells_rounds_apart_by_the_models_name(project: Project) -> None:
    settings = {
        "backend": "endpoint",
        "base_url": "http://127.0.0.1:8000/v1",
        "model": "student-r{round}",
    }
    config = with_inference(project, **settings, max_new_tokens=99)
    service = endpoint_service(config, ModelKind.TUNED, 3)
    assert (service.name, service.max_tokens) == ("openai_compatible:student-r3", 99)
    assert config.providers() == {"openai_compatible"}
    with pytest.raises(ConfigError, match="base_name"):
        endpoint_service(config, ModelKind.BASE, None)
    for wrong in ({"backend": "endpoint"}, settings | {"model": "student"}):
        with pytest.raises(ConfigError, match=r"inference.*model"):
            validate_config({"inference": wrong})
