"""Batch inference end to end: every prompt K times, once each, in local models and services."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.config import (
    InferenceConfig,
    PipelineConfig,
    ServiceConfig,
    SplitConfig,
    StudentConfig,
)
from llamaduo_gui.core.errors import FatalProviderError, JobCancelledError
from llamaduo_gui.core.events import Changed, Event, Log, Progress
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.seeds import derive_seed
from llamaduo_gui.core.types import Message, ModelKind, Record, Split, Stage
from llamaduo_gui.inference.stage import run_inference, run_service_inference
from llamaduo_gui.inference.transformers_backend import TransformersBackend
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RunRow
from llamaduo_gui.training.stage import run_finetune
from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI, Settings
from tests.tiny_models import make_tiny_model

PROMPTS = 6
SAMPLES = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"), context=128)


@pytest.fixture
def project(base: Path, tmp_path: Path) -> Iterator[Project]:
    overrides = {
        "epochs": 12,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "gradient_accumulation": 1,
        "eval": "never",
    }
    config = PipelineConfig(
        splits=SplitConfig(seed=5),
        student=StudentConfig(base_model=str(base), recipe="full", overrides=overrides),
        inference=InferenceConfig(samples=SAMPLES, temperature=0.7, max_new_tokens=16),
    )
    with Project.create(tmp_path / "p", config) as made:
        records = []
        for number in range(16 + PROMPTS):
            turns = (
                Message("user", f"Ticket {number}: which queue?"),
                Message("assistant", "billing"),
            )
            split = Split.TRAIN if number < 16 else Split.VALIDATION
            records.append((Record(turns, "tickets", f"p{number}"), split, f"f:{number}"))
        made.records.add_coverage(records)
        yield made


def new_run(project: Project, key: str = "infer:base:validation") -> RunRow:
    return project.runs.find_or_create(key, Stage.INFER, split=Split.VALIDATION, seed=1)


def infer(
    project: Project,
    run: RunRow,
    folder: Path,
    context: JobContext | None = None,
    *,
    adapter: Path | None = None,
    max_rows: int = 64,
    split: Split = Split.VALIDATION,
) -> dict[str, object]:
    backend = TransformersBackend.load(folder, adapter, max_rows=max_rows)
    try:
        return run_inference(
            project,
            run,
            context or JobContext(lambda event: None),
            backend=backend,
            split=split,
            kind=ModelKind.BASE,
            round_number=None,
            config=project.config,
        )
    finally:
        backend.close()


def impatient_context() -> JobContext:
    """A job whose user asks to stop before the fortieth token."""
    looks = iter(range(40))

    class Impatient(JobContext):
        def check_cancelled(self) -> None:
            if next(looks, None) is None:
                self.cancel_requested.set()
            JobContext.check_cancelled(self)

    return Impatient(emit=lambda event: None)


def texts(project: Project, run: RunRow) -> dict[tuple[int, int], str]:
    return {(c.record_id, c.sample): c.text for c in project.candidates.of_run(run.id)}


def test_every_prompt_is_answered_k_times_and_counted(project: Project, base: Path) -> None:
    run = new_run(project)
    events: list[Event] = []
    summary = infer(project, run, base, JobContext(events.append))
    candidates = project.candidates.of_run(run.id)
    rows = {row.id for row in project.records.by_split(Split.VALIDATION)}
    assert {(c.record_id, c.sample) for c in candidates} == {
        (row, sample) for row in rows for sample in range(SAMPLES)
    }
    assert len({c.seed for c in candidates}) == PROMPTS * SAMPLES
    assert summary["responses"] == PROMPTS * SAMPLES
    assert summary["errors"] == 0
    assert summary["completion_tokens"] == sum(c.completion_tokens for c in candidates) > 0
    progress = [event for event in events if isinstance(event, Progress)]
    assert (progress[-1].done, progress[-1].total) == (PROMPTS * SAMPLES, PROMPTS * SAMPLES)
    assert Changed(("candidates",)) in events


def test_a_stopped_run_goes_on_to_the_same_responses(project: Project, base: Path) -> None:
    whole = new_run(project, "infer:whole")
    infer(project, whole, base)
    run = new_run(project, "infer:stopped")
    with pytest.raises(JobCancelledError):
        # One response a batch, so that the stop finds the rest undone.
        infer(project, run, base, impatient_context(), max_rows=1)
    stored = texts(project, run)
    assert 0 < len(stored) < PROMPTS * SAMPLES
    summary = infer(project, run, base)
    assert summary["responses"] == PROMPTS * SAMPLES
    assert texts(project, run) == texts(project, whole)
    assert stored.items() <= texts(project, run).items()


def test_a_finished_run_generates_nothing_again(project: Project, base: Path) -> None:
    run = new_run(project)
    infer(project, run, base)
    before = project.candidates.of_run(run.id)
    events: list[Event] = []
    summary = infer(project, run, base, JobContext(events.append))
    assert project.candidates.of_run(run.id) == before
    assert summary["responses"] == PROMPTS * SAMPLES
    assert Changed(("candidates",)) not in events


def test_base_and_tuned_weights_answer_apart_under_the_same_seeds(
    project: Project, base: Path
) -> None:
    run = project.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0, seed=3)
    quiet = JobContext(lambda event: None)
    run_finetune(project, run, quiet, round_number=0, config=project.config)
    tuned, untuned = new_run(project, "infer:tuned"), new_run(project, "infer:base")
    infer(project, tuned, project.paths.round_dir(0) / "model")
    infer(project, untuned, base)
    right = [text == "billing" for text in texts(project, tuned).values()]
    assert sum(right) / len(right) > 0.8
    assert "billing" not in texts(project, untuned).values()
    seeds = [[c.seed for c in project.candidates.of_run(r.id)] for r in (tuned, untuned)]
    assert seeds[0] == seeds[1]


def test_an_adapter_changes_the_answers(project: Project, base: Path) -> None:
    config = project.config
    student = config.student.model_copy(update={"recipe": "lora"})
    project.save_config(config.model_copy(update={"student": student}))
    run = project.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0, seed=3)
    quiet = JobContext(lambda event: None)
    run_finetune(project, run, quiet, round_number=0, config=project.config)
    adapter = project.paths.round_dir(0) / "adapter"
    tuned, untuned = new_run(project, "infer:tuned"), new_run(project, "infer:base")
    infer(project, tuned, base, adapter=adapter)
    infer(project, untuned, base)
    assert texts(project, tuned) != texts(project, untuned)
    assert list(texts(project, tuned).values()).count("billing") > SAMPLES


def test_a_prompt_without_room_is_stored_as_an_error_and_said(base: Path, tmp_path: Path) -> None:
    config = PipelineConfig(inference=InferenceConfig(samples=2, max_new_tokens=8))
    with Project.create(tmp_path / "p", config) as project:
        turns = (
            (Message("user", "7 " * 300), Message("assistant", "no")),
            (Message("user", "Hello?"), Message("assistant", "yes")),
        )
        records = [(Record(t, "c", f"p{i}"), Split.TEST, f"f:{i}") for i, t in enumerate(turns)]
        project.records.add_coverage(records)
        run = new_run(project)
        events: list[Event] = []
        summary = infer(project, run, base, JobContext(events.append), split=Split.TEST)
        errors = [c.error for c in project.candidates.of_run(run.id)]
    assert (summary["responses"], summary["errors"]) == (4, 2)
    assert ["context" in error for error in errors] == [True, True, False, False]
    assert any(isinstance(e, Log) and e.level == "warning" and "2 of 4" in e.text for e in events)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    known = {f"Ticket {number}: which queue?": f" queue {number} \n" for number in range(30)}
    with FakeOpenAI(Settings(), Answers(known=known)) as running:
        yield running


def service(server: FakeOpenAI) -> ServiceConfig:
    return ServiceConfig(provider="openai_compatible", model="fake-model", base_url=server.url)


def ask(project: Project, run: RunRow, server: FakeOpenAI, **options: int) -> dict[str, object]:
    return run_service_inference(
        project,
        run,
        JobContext(lambda event: None),
        service=service(server),
        split=Split.VALIDATION,
        config=project.config,
        **options,
    )


def test_a_service_answers_k_times_and_is_not_asked_again(
    project: Project, server: FakeOpenAI
) -> None:
    run = new_run(project, "infer:service:validation")
    summary = ask(project, run, server)
    assert len(server.log) == PROMPTS * SAMPLES
    assert summary["responses"] == PROMPTS * SAMPLES
    assert set(texts(project, run).values()) == {f"queue {number}" for number in range(16, 22)}
    assert {entry.body["temperature"] for entry in server.log} == {0.7}
    ask(project, run, server)
    other = ask(project, new_run(project, "infer:service:copy"), server)
    assert len(server.log) == PROMPTS * SAMPLES
    assert other["from_store"] == PROMPTS * SAMPLES


def test_the_noise_ceiling_asks_the_service_anew(project: Project, server: FakeOpenAI) -> None:
    ask(project, new_run(project, "infer:service:validation"), server)
    ask(project, new_run(project, "infer:again:validation"), server, first_repeat=SAMPLES)
    assert len(server.log) == 2 * PROMPTS * SAMPLES


def test_an_endpoint_with_the_students_weights_gets_the_seeds_of_the_prompts_and_samples(
    project: Project, server: FakeOpenAI
) -> None:
    def bodies(kind: ModelKind, key: str) -> list[tuple[object, object]]:
        first = len(server.log)
        summary = run_service_inference(
            project,
            new_run(project, key),
            JobContext(lambda event: None),
            service=service(server),
            split=Split.VALIDATION,
            config=project.config,
            kind=kind,
        )
        assert summary["kind"] == kind.value
        found = [(item.body.get("seed"), item.body.get("top_p")) for item in server.log[first:]]
        return sorted(found, key=str)

    seeds = bodies(ModelKind.TUNED, "infer:tuned:r0:validation")
    assert len({seed for seed, _ in seeds}) == PROMPTS * SAMPLES
    assert {top_p for _, top_p in seeds} == {1.0}
    expected = {
        derive_seed(5, "answer", f"p{number}", sample)
        for number in range(16, 16 + PROMPTS)
        for sample in range(SAMPLES)
    }
    assert {seed for seed, _ in seeds} == expected
    assert set(bodies(ModelKind.SERVICE, "infer:service:validation")) == {(None, None)}


def test_a_rejected_request_is_a_counted_error_and_the_others_go_on(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.script = ["bad_request", "null_content"]
    run = new_run(project, "infer:service:validation")
    summary = ask(project, run, server)
    assert summary["responses"] == PROMPTS * SAMPLES
    wrong = [c for c in project.candidates.of_run(run.id) if c.error]
    assert summary["errors"] == len(wrong) >= 1
    assert all(candidate.text == "" for candidate in wrong)


def test_an_unusable_service_ends_the_run_with_one_sentence(
    project: Project, server: FakeOpenAI
) -> None:
    server.settings.key = "another"
    with pytest.raises(FatalProviderError):
        ask(project, new_run(project), server)
