"""The Try page with two models: one prompt for both, hidden names, and votes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.base_model import resolve_base_model
from llamaduo_gui.core.config import PipelineConfig, PriceConfig, ServiceConfig
from llamaduo_gui.core.types import ModelKind, Stage
from llamaduo_gui.evaluation.votes import vote_summary
from llamaduo_gui.gui.chat_model import ChatOptions, ChatState
from llamaduo_gui.gui.pages.try_page import TryPage
from llamaduo_gui.gui.panels.chat_pane import ChatPane
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.store.project import Project
from tests.adapters import make_test_adapter
from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI
from tests.gguf_files import write_test_gguf
from tests.gui.checks import clipped_texts, unnamed_focusables
from tests.gui.projects import make_data_project

WAIT_MS = 90_000
SHORT = ChatOptions(temperature=0.0, max_new_tokens=12)
ANSWER = "It is four, says the service."


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    base = resolve_base_model("builtin:tiny")
    make_test_adapter(base, folder / "adapter", lora_alpha=64, target_modules="all-linear")
    return folder / "adapter", write_test_gguf(base, folder / "tiny-Q8_0.gguf", "Q8_0")


@pytest.fixture
def service() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(answers=Answers([("How much is 2 + 2?", ANSWER)])) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, weights: tuple[Path, Path], service: FakeOpenAI) -> Project:
    teacher = ServiceConfig(
        provider="openai_compatible",
        model="fake-model",
        base_url=service.url,
        price=PriceConfig(input=1000.0, output=2000.0),
    )
    made = make_data_project(tmp_path / "project", config=PipelineConfig(teacher=teacher))
    gguf = made.paths.artifacts / "student-Q8_0.gguf"
    gguf.write_bytes(weights[1].read_bytes())
    adapter = made.paths.artifacts / "adapter"
    adapter.mkdir()
    for item in weights[0].iterdir():
        (adapter / item.name).write_bytes(item.read_bytes())
    tuned = made.runs.find_or_create("finetune:r1", Stage.FINETUNE)
    made.artifacts.add(tuned.id, "adapter", adapter, round_number=1)
    export = made.runs.find_or_create("export:Q8_0:r1", Stage.EXPORT)
    made.artifacts.add(export.id, "gguf", gguf, round_number=1, meta={"quant": "Q8_0"})
    return made


@pytest.fixture
def page(app: QApplication, project: Project, qtbot: QtBot) -> Iterator[TryPage]:
    workspace = Workspace()
    found = TryPage(workspace)
    qtbot.addWidget(found)
    found.resize(1084, 764)
    found.show()
    qtbot.waitExposed(found)
    workspace.adopt(project)
    qtbot.waitUntil(lambda: found.pane.target is not None)
    qtbot.mouseClick(found.mode.button("side"), Qt.MouseButton.LeftButton)
    found._set_options(SHORT)
    yield found
    jobs = [pane.model._job for pane in (found.pane, found.pair.second)]
    handles = [job.handle for job in jobs if job is not None]
    found.shutdown()
    workspace.close_project()
    qtbot.waitUntil(lambda: not any(item.is_running for item in handles), timeout=WAIT_MS)


def choose(pane: ChatPane, words: str) -> None:
    """Take a model from the pane's list."""
    texts = [pane.choice.itemText(index) for index in range(pane.choice.count())]
    index = next(i for i, text in enumerate(texts) if text.startswith(words))
    pane.choice.setCurrentIndex(index)
    pane.choice.activated.emit(index)


def load(page: TryPage, left: str, right: str, qtbot: QtBot) -> None:
    choose(page.pair.first, left)
    choose(page.pair.second, right)
    page.main_action()
    both = (page.pair.first, page.pair.second)
    qtbot.waitUntil(lambda: all(p.model.state is ChatState.READY for p in both), timeout=WAIT_MS)


def send(page: TryPage, text: str, qtbot: QtBot) -> None:
    page.prompt.field.setPlainText(text)
    qtbot.mouseClick(page.prompt.send, Qt.MouseButton.LeftButton)


def wait_until_done(page: TryPage, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not page.pair.is_writing, timeout=WAIT_MS)


def test_base_and_tuned_stand_side_by_side_with_weights_of_their_own(
    page: TryPage, qtbot: QtBot
) -> None:
    load(page, "Base", "Tuned", qtbot)
    first, second = page.pair.panes
    base, tuned = first.model.info, second.model.info
    assert base["sha256"] != tuned["sha256"]
    assert f"weights {base['sha256'][:8]}" in first.detail.text()
    assert f"weights {tuned['sha256'][:8]} on base {base['sha256'][:8]}" in second.detail.text()
    assert first.model._job.handle.pid != second.model._job.handle.pid  # type: ignore[union-attr]
    assert page.prompt.send.text() == "Send to both"
    send(page, "Which queue is this?", qtbot)
    assert page.prompt.stop.isEnabled()
    wait_until_done(page, qtbot)
    texts = [pane.chat.bubbles()[-1].text for pane in page.pair.panes]
    assert all(texts)
    assert texts[0] != texts[1]
    assert [pane.chat.bubbles()[0].text for pane in page.pair.panes] == ["Which queue is this?"] * 2


def test_the_service_answers_beside_the_file_and_says_what_it_cost(
    page: TryPage, qtbot: QtBot
) -> None:
    load(page, "Q8_0", "Service", qtbot)
    send(page, "How much is 2 + 2?", qtbot)
    wait_until_done(page, qtbot)
    bubble = page.pair.second.chat.bubbles()[-1]
    assert bubble.text == ANSWER
    assert "$" in bubble.footer_text()
    assert "about $0." in page.pair.second.detail.text()
    assert "$" not in page.pair.first.chat.bubbles()[-1].footer_text()
    page.pair.second.eject.click()
    assert page.pair.first.model.is_loaded
    assert not page.prompt.send.isEnabled()


def test_one_model_in_both_panes_is_told_and_nothing_can_be_sent(
    page: TryPage, qtbot: QtBot
) -> None:
    load(page, "Q8_0", "Q8_0", qtbot)
    assert page._banner.text().startswith("Both panes hold the same weights")
    page.prompt.field.setPlainText("Hello")
    assert not page.prompt.send.isEnabled()
    choose(page.pair.second, "Service")
    assert page._banner.text() == ""


def test_a_blind_vote_hides_names_and_numbers_until_it_is_cast_and_is_kept(
    page: TryPage, project: Project, qtbot: QtBot
) -> None:
    load(page, "Q8_0", "Service", qtbot)
    qtbot.mouseClick(page.hide_names, Qt.MouseButton.LeftButton)
    assert page.pair.bar.isVisible()
    orders = set()
    for number in range(6):
        send(page, f"Question {number}", qtbot)
        qtbot.waitUntil(lambda: page.pair.bar.is_open, timeout=WAIT_MS)
        panes = page.pair.panes
        orders.add(panes[0] is page.pair.first)
        assert [pane.title.text() for pane in panes] == ["Left", "Right"]
        assert panes[0].x() < panes[1].x() or number == 0
        for pane in panes:
            assert len(pane.chat.bubbles()) == 2, "each prompt is a conversation of its own"
            assert pane.chat.bubbles()[-1].text
            assert pane.chat.bubbles()[-1].footer_text() == ""
            assert not pane.detail.isVisible()
            assert not pane.choice.isVisible()
            assert not pane._marker.isVisible()
        key = (Qt.Key.Key_1, Qt.Key.Key_2, Qt.Key.Key_3)[number % 3]
        qtbot.keyClick(page.pair.bar.buttons["same"], key)
        assert not page.pair.bar.is_open
        assert "fake-model" in page.pair.bar.text.text()
        assert any("$" in pane.chat.bubbles()[-1].footer_text() for pane in panes)
        assert panes[0].detail.isVisible()
        qtbot.waitUntil(lambda: "So far" in page.pair.bar.text.text(), timeout=WAIT_MS)
    assert orders == {True, False}, "sides are drawn"
    votes = project.votes.all()
    assert [vote.choice for vote in votes] == ["left", "same", "right"] * 2
    assert [vote.prompt for vote in votes] == [f"Question {number}" for number in range(6)]
    gguf_sha = page.pair.first.model.info["sha256"]
    for vote in votes:
        sides = {side.kind: side for side in (vote.left, vote.right)}
        assert sides[ModelKind.GGUF].sha256 == gguf_sha
        assert sides[ModelKind.SERVICE].answer in (ANSWER, f"You said: {vote.prompt}")
    page._set_options(replace(SHORT, temperature=1.0))
    page.pair.first.again.click()
    wait_until_done(page, qtbot)
    assert not page.pair.bar.is_open, "an answer written again is no new vote"
    (pair,) = vote_summary(votes)
    assert pair["n"] == 6


def test_digits_are_text_while_a_prompt_is_written(page: TryPage, qtbot: QtBot) -> None:
    load(page, "Q8_0", "Service", qtbot)
    page.hide_names.setChecked(True)
    send(page, "Question", qtbot)
    qtbot.waitUntil(lambda: page.pair.bar.is_open, timeout=WAIT_MS)
    page.prompt.field.setFocus()
    qtbot.keyClicks(page.prompt.field, "13")
    assert page.prompt.field.toPlainText() == "13"
    assert page.pair.bar.is_open
    qtbot.mouseClick(page.pair.bar.buttons["left"], Qt.MouseButton.LeftButton)
    assert not page.pair.bar.is_open


def test_a_side_without_an_answer_means_no_vote(
    page: TryPage, project: Project, service: FakeOpenAI, qtbot: QtBot
) -> None:
    load(page, "Q8_0", "Service", qtbot)
    page.hide_names.setChecked(True)
    service.settings.script = ["server_error"]
    send(page, "Question", qtbot)
    qtbot.waitUntil(lambda: "No vote" in page.pair.bar.text.text(), timeout=WAIT_MS)
    assert not page.pair.bar.is_open
    assert project.votes.all() == []


def test_one_model_again_ends_the_second_process(page: TryPage, qtbot: QtBot) -> None:
    load(page, "Q8_0", "Service", qtbot)
    handle = page.pair.second.model._job.handle  # type: ignore[union-attr]
    qtbot.mouseClick(page.mode.button("one"), Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not handle.is_running, timeout=WAIT_MS)
    assert not page.pair.second.isVisible()
    assert not page.hide_names.isVisible()
    assert page.prompt.send.text() == "Send"
    assert page.pane.model.is_loaded


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(("width", "height", "scale"), [(1084, 764, 1.0), (964, 664, 1.3)])
def test_nothing_is_cut_off_side_by_side(
    app: QApplication,
    page: TryPage,
    qtbot: QtBot,
    mode: str,
    width: int,
    height: int,
    scale: float,
) -> None:
    apply_theme(app, mode, scale)  # type: ignore[arg-type]
    page.resize(width, height)

    def check() -> None:
        app.processEvents()
        assert clipped_texts(page) + unnamed_focusables(page) == []

    check()
    load(page, "Q8_0", "Service", qtbot)
    check()
    page.hide_names.setChecked(True)
    check()
    send(page, "Merge two sorted lists into one. " * 8, qtbot)
    qtbot.waitUntil(lambda: page.pair.bar.is_open, timeout=WAIT_MS)
    check()
    page.pair.vote("left")
    qtbot.waitUntil(lambda: "So far" in page.pair.bar.text.text(), timeout=WAIT_MS)
    check()
