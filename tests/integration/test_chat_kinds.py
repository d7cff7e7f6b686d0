"""Base, tuned, GGUF and service of one project, each in a chat process of its own."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.base_model import resolve_base_model
from llamaduo_gui.core.config import (
    BudgetConfig,
    PipelineConfig,
    PriceConfig,
    ServiceConfig,
    StudentConfig,
)
from llamaduo_gui.core.events import Chat, Event, Token
from llamaduo_gui.core.types import Stage
from llamaduo_gui.store.project import Project
from llamaduo_gui.worker.protocol import ASK, STOP, JobSpec
from llamaduo_gui.worker.supervisor import JobHandle, JobResult
from tests.adapters import make_test_adapter
from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI, Settings
from tests.gguf_files import write_test_gguf

WAIT_S = 90.0
KEY = "service-key-0815"
PROMPT = "Which queue does this ticket belong to?"
ANSWER = "The billing queue, says the service."
GREEDY = {"temperature": 0.0, "max_new_tokens": 16}


class Pane:
    """One chat process of a project."""

    def __init__(self, project: Path, kind: str, **options: Any) -> None:
        self.events: queue.Queue[Event | JobResult] = queue.Queue()
        self.handle = JobHandle(
            JobSpec("chat", str(project), {"kind": kind, **options}),
            {"openai_compatible": KEY},
            on_event=self.events.put,
            on_done=self.events.put,
        ).start()

    def wait(self, *kinds: str) -> tuple[dict[str, Any], str]:
        """Data of the next chat event of these kinds, and the text streamed before it."""
        text = ""
        while True:
            event = self.events.get(timeout=WAIT_S)
            assert not isinstance(event, JobResult), event.error
            if isinstance(event, Token):
                text += event.text
            elif isinstance(event, Chat) and event.kind in kinds:
                return event.data, text

    def ask(self, text: str = PROMPT, **settings: Any) -> tuple[dict[str, Any], str]:
        messages = [{"role": "user", "content": text}]
        self.handle.send(ASK, chat_id=1, messages=messages, settings={**GREEDY, **settings})
        return self.wait("answered", "failed")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An adapter on the shipped base, and both as one GGUF."""
    folder = tmp_path_factory.mktemp("weights")
    base = resolve_base_model("builtin:tiny")
    make_test_adapter(base, folder / "adapter", lora_alpha=64, target_modules="all-linear")
    gguf = write_test_gguf(base, folder / "tuned-F32.gguf", "F32", adapter=folder / "adapter")
    return folder / "adapter", gguf


@pytest.fixture
def service() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(key=KEY), Answers(known={PROMPT: ANSWER})) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, weights: tuple[Path, Path], service: FakeOpenAI) -> Path:
    return make_project(tmp_path / "project", weights, service.url)


def make_project(
    folder: Path, weights: tuple[Path, Path], url: str, budget: float | None = None
) -> Path:
    teacher = ServiceConfig(
        provider="openai_compatible",
        model="fake-model",
        base_url=url,
        price=PriceConfig(input=1000.0, output=2000.0),
    )
    config = PipelineConfig(
        teacher=teacher,
        student=StudentConfig(base_model="builtin:tiny"),
        budget=BudgetConfig(usd=budget),
    )
    with Project.create(folder, config) as project:
        for stage, kind, source in (
            (Stage.FINETUNE, "adapter", weights[0]),
            (Stage.EXPORT, "gguf", weights[1]),
        ):
            run = project.runs.find_or_create(f"{stage.value}:r0", stage)
            target = project.paths.artifacts / source.name
            _copy(source, target)
            project.artifacts.add(run.id, kind, target, round_number=0)
    return folder


def _copy(source: Path, target: Path) -> None:
    import shutil

    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Pane]]:
    started: list[Pane] = []

    def make(kind: str, project: Path = folder, **options: Any) -> Pane:
        started.append(Pane(project, kind, **options))
        return started[-1]

    yield make
    for pane in started:
        pane.handle.cancel()
    for pane in started:
        pane.handle.wait(WAIT_S)


def test_base_and_tuned_are_different_weights_and_the_gguf_is_the_tuned_one(
    start: Callable[..., Pane], weights: tuple[Path, Path]
) -> None:
    infos, texts = {}, {}
    for kind in ("base", "tuned", "gguf"):
        pane = start(kind)
        infos[kind] = pane.wait("loaded")[0]
        data, streamed = pane.ask()
        assert data["text"] == streamed
        texts[kind] = streamed.strip()
        pane.handle.cancel()
    assert len({info["sha256"] for info in infos.values()}) == 3
    assert infos["tuned"]["base_sha256"] == infos["base"]["sha256"]
    assert infos["tuned"]["size_bytes"] > infos["base"]["size_bytes"]
    assert [infos[kind]["kind"] for kind in infos] == ["base", "tuned", "gguf"]
    assert texts["base"] != texts["tuned"]
    # Two programs that compute the same: the same weights, template and stop tokens.
    assert texts["tuned"] == texts["gguf"]


def test_a_base_model_from_the_hub_is_not_downloaded_for_a_try(
    start: Callable[..., Pane], tmp_path: Path
) -> None:
    config = PipelineConfig(student=StudentConfig(base_model="someone/no-such-model"))
    with Project.create(tmp_path / "hub", config) as project:
        pane = start("base", project.folder)
    result = pane.handle.wait(WAIT_S)
    assert result.is_user_error
    assert result.error.startswith("The base model someone/no-such-model is not on this computer")


def test_an_adapter_that_changes_nothing_is_told(start: Callable[..., Pane], folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "artifacts" / "adapter" / "adapter_model.safetensors"
    factors = load_file(path)
    for name, factor in factors.items():
        if "lora_B" in name:
            factor[:] = 0
    save_file(factors, path, metadata={"format": "pt"})
    info, _ = start("tuned").wait("loaded")
    assert info["note"] == "The adapter changes nothing: it answers as the base does."


def test_a_trained_model_writes_streamed_text_and_stops(start: Callable[..., Pane]) -> None:
    pane = start("base")
    pane.wait("loaded")
    data, streamed = pane.ask("Écris: naïve ☃", temperature=1.5, seed=3, max_new_tokens=40)
    again, _ = pane.ask("Écris: naïve ☃", temperature=1.5, seed=3, max_new_tokens=40)
    assert data["text"] == streamed == again["text"]
    assert data["context_length"] >= data["context_used"] > data["prompt_tokens"]
    messages = [{"role": "user", "content": "Go on"}]
    pane.handle.send(ASK, chat_id=2, messages=messages, settings={"max_new_tokens": 400})
    pane.handle.send(STOP, chat_id=2)
    assert pane.wait("answered")[0]["finish_reason"] in ("stopped", "stop")


def test_the_service_streams_and_its_cost_is_kept(start: Callable[..., Pane], folder: Path) -> None:
    pane = start("service")
    info, _ = pane.wait("loaded")
    assert info["name"] == "openai_compatible:fake-model"
    data, streamed = pane.ask()
    assert streamed == data["text"] == ANSWER
    assert data["cost_usd"] > 0
    again, _ = pane.ask()
    with Project.open(folder) as project:
        assert project.replies.usage().by_purpose == {"chat": 2}
        spent = project.costs.spent_usd()
    assert spent == pytest.approx(data["cost_usd"] + again["cost_usd"])


def test_a_service_that_fails_leaves_the_pane_ready(
    start: Callable[..., Pane], service: FakeOpenAI
) -> None:
    service.settings.script = ["server_error"]
    pane = start("service")
    pane.wait("loaded")
    failed, _ = pane.ask()
    assert "fake-model" in failed["error"]
    assert KEY not in failed["error"]
    assert pane.ask()[1] == ANSWER


def test_the_budget_holds_for_chatting_too(
    start: Callable[..., Pane],
    tmp_path: Path,
    weights: tuple[Path, Path],
    service: FakeOpenAI,
) -> None:
    project = make_project(tmp_path / "poor", weights, service.url, budget=0.001)
    pane = start("service", project)
    pane.wait("loaded")
    failed, _ = pane.ask()
    assert failed["error"].startswith("The budget of")
    assert service.log == []
