"""The Try page: load, ask, stop, eject, and every state before and after."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.types import Message, Record, Split, Stage
from llamaduo_gui.gui.chat_model import ChatOptions, ChatState
from llamaduo_gui.gui.dialogs.chat_options import ChatOptionsDialog
from llamaduo_gui.gui.dialogs.log_dialog import LogDialog
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.models.try_view import MAX_EXAMPLES, choose_examples, read_try
from llamaduo_gui.gui.pages.try_page import TryPage
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.store.project import Project
from tests.chat_models import make_endless_gguf
from tests.gui.checks import clipped_texts, unnamed_focusables
from tests.gui.projects import SYSTEM_TURN, make_data_project

WAIT_MS = 60_000
SHORT = ChatOptions(temperature=0.0, max_new_tokens=12)
ENDLESS = ChatOptions(temperature=0.0, max_new_tokens=100_000)


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_endless_gguf(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def workspace(app: QApplication) -> Iterator[Workspace]:
    found = Workspace()
    yield found
    found.close_project()


@pytest.fixture
def page(workspace: Workspace, qtbot: QtBot) -> Iterator[TryPage]:
    found = TryPage(workspace)
    qtbot.addWidget(found)
    found.resize(1084, 764)
    found.show()
    qtbot.waitExposed(found)
    yield found
    found.shutdown()


def make_project(folder: Path, gguf: Path | None = None, *, round_number: int = 1) -> Project:
    project = make_data_project(folder)
    if gguf is not None:
        add_export(project, gguf, "F16", round_number)
    return project


def add_export(project: Project, gguf: Path, quant: str, round_number: int = 1) -> Path:
    run = project.runs.find_or_create(f"export:{quant}:r{round_number}", Stage.EXPORT)
    target = project.paths.artifacts / f"model-{quant}.gguf"
    target.write_bytes(gguf.read_bytes())
    meta = {"quant": quant}
    project.artifacts.add(run.id, "gguf", target, round_number=round_number, meta=meta)
    return target


@pytest.fixture
def loaded(page: TryPage, gguf: Path, qtbot: QtBot) -> TryPage:
    page.open_file(gguf)
    wait_until_ready(page, qtbot)
    page._set_options(SHORT)
    return page


def wait_until_ready(page: TryPage, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: page.pane.model.state is ChatState.READY, timeout=WAIT_MS)


def wait_for_text(page: TryPage, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: bool(page.pane.chat.bubbles()[-1].text), timeout=WAIT_MS)


def ask(page: TryPage, text: str, qtbot: QtBot) -> None:
    page.prompt.field.setPlainText(text)
    qtbot.keyClick(page.prompt.field, Qt.Key.Key_Return)


def test_without_a_project_any_gguf_file_can_be_opened(page: TryPage) -> None:
    assert page.pane.empty.action_button().text() == "Open a GGUF file..."
    assert page.pane.empty.isVisible()
    assert not page.prompt.send.isEnabled()


def test_a_project_without_an_export_says_so_and_leads_to_migrate(
    page: TryPage, workspace: Workspace, tmp_path: Path, qtbot: QtBot
) -> None:
    workspace.adopt(make_project(tmp_path / "project"))
    qtbot.waitUntil(lambda: not page.background.is_busy)
    assert page.pane.empty.action_button().text() == "Go to Migrate"
    with qtbot.waitSignal(workspace.page_requested) as asked:
        page.pane.empty.action_button().click()
    assert asked.args == ["migrate"]


def test_an_exported_model_is_offered_with_file_and_size_but_not_loaded(
    page: TryPage, workspace: Workspace, tmp_path: Path, gguf: Path, qtbot: QtBot
) -> None:
    workspace.adopt(make_project(tmp_path / "project", gguf))
    qtbot.waitUntil(lambda: page.pane.target is not None)
    assert page.pane.empty.action_button().text() == "Load model"
    assert "model-F16.gguf, 19" in page.pane.empty._text.text()
    assert page.pane.pill.text() == "Not loaded"
    assert page.pane.model._job is None
    page.main_action()
    wait_until_ready(page, qtbot)
    sha = page.pane.model.info["sha256"][:8]
    assert page.pane.detail.text() == f"llama.cpp · 19\u00a0MB · weights {sha}"
    assert page.pane.pill.text() == "Loaded"


def test_an_export_that_was_deleted_is_told_and_found_again(
    page: TryPage, workspace: Workspace, tmp_path: Path, gguf: Path, qtbot: QtBot
) -> None:
    project = make_project(tmp_path / "project", gguf)
    target = project.paths.artifacts / "model-F16.gguf"
    target.rename(tmp_path / "elsewhere.gguf")
    workspace.adopt(project)
    qtbot.waitUntil(lambda: page.pane.target is not None)
    assert page.pane.empty._title.text() == "The file is not there any more"
    (tmp_path / "elsewhere.gguf").rename(target)
    page.pane.empty.action_button().click()
    qtbot.waitUntil(lambda: page.pane.empty.action_button().text() == "Load model")


def test_the_newest_export_comes_first_and_another_can_be_chosen(
    page: TryPage, workspace: Workspace, tmp_path: Path, gguf: Path, qtbot: QtBot
) -> None:
    project = make_project(tmp_path / "project", gguf)
    assert not page.choice.isVisible()
    add_export(project, gguf, "Q8_0", 2)
    workspace.adopt(project)
    qtbot.waitUntil(page.choice.isVisible)
    assert page.choice.currentText().startswith("Q8_0, round 2, 19")
    page.choice.setCurrentIndex(1)
    page.choice.activated.emit(1)
    assert page.pane.title.text() == "Exported GGUF F16"


def test_an_answer_is_streamed_and_ends_with_its_numbers(loaded: TryPage, qtbot: QtBot) -> None:
    assert loaded.prompt.field.hasFocus()
    ask(loaded, "Which queue is this?", qtbot)
    assert loaded.prompt.field.toPlainText() == ""
    assert loaded.prompt.stop.isEnabled()
    question, answer = loaded.pane.chat.bubbles()
    assert question.text == "Which queue is this?"
    wait_until_ready(loaded, qtbot)
    assert answer.text
    assert not answer.is_writing
    footer = answer.footer_text()
    assert "tokens/s · first token" in footer
    assert footer.endswith("12 tokens · cut off at the token limit")
    used = loaded.pane.model.context_used
    assert loaded.pane._foot_text.text() == f"Context: {used} of 4,096 tokens"
    assert [turn.role for turn in loaded.pane.model.turns] == ["user", "assistant"]


def test_shift_enter_adds_a_line_and_an_empty_prompt_is_not_sent(
    loaded: TryPage, qtbot: QtBot
) -> None:
    field = loaded.prompt.field
    qtbot.keyClick(field, Qt.Key.Key_Return)
    assert not loaded.pane.has_conversation
    qtbot.keyClicks(field, "a")
    one = field.sizeHint().height()
    for _ in range(3):
        qtbot.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    assert field.toPlainText() == "a\n\n\n"
    assert field.sizeHint().height() > one
    assert not loaded.pane.has_conversation


def test_stop_ends_the_answer_and_keeps_what_was_written(loaded: TryPage, qtbot: QtBot) -> None:
    loaded._set_options(ENDLESS)
    ask(loaded, "Go on", qtbot)
    wait_for_text(loaded, qtbot)
    loaded.prompt.stop.click()
    wait_until_ready(loaded, qtbot)
    answer = loaded.pane.chat.bubbles()[-1]
    assert answer.footer_text().endswith("stopped")
    assert answer.text == loaded.pane.model.turns[-1].content
    assert not loaded.prompt.stop.isEnabled()


def test_regenerate_writes_another_answer_in_the_same_place(loaded: TryPage, qtbot: QtBot) -> None:
    loaded._set_options(replace(SHORT, temperature=1.5, seed=3))
    ask(loaded, "Say anything", qtbot)
    wait_until_ready(loaded, qtbot)
    first = loaded.pane.chat.bubbles()[-1].text
    assert loaded.pane.again.isEnabled()
    loaded.pane.again.click()
    wait_until_ready(loaded, qtbot)
    assert len(loaded.pane.chat.bubbles()) == 2
    assert loaded.pane.chat.bubbles()[-1].text != first
    loaded._set_options(SHORT)
    assert not loaded.pane.again.isEnabled()
    assert loaded.pane.again.toolTip() == "At temperature 0 the answer would be the same"


def test_a_new_chat_forgets_the_answer_being_written(loaded: TryPage, qtbot: QtBot) -> None:
    loaded._set_options(ENDLESS)
    ask(loaded, "Go on", qtbot)
    wait_for_text(loaded, qtbot)
    loaded.new_button.click()
    assert not loaded.pane.has_conversation
    loaded._set_options(SHORT)
    ask(loaded, "Again", qtbot)
    wait_until_ready(loaded, qtbot)
    assert len(loaded.pane.chat.bubbles()) == 2
    assert loaded.pane.chat.bubbles()[-1].footer_text().count("12 tokens") == 1


def test_an_ejected_model_frees_its_process_and_the_conversation_can_go_on(
    loaded: TryPage, qtbot: QtBot
) -> None:
    ask(loaded, "First", qtbot)
    wait_until_ready(loaded, qtbot)
    handle = loaded.pane.model._job.handle  # type: ignore[union-attr]
    loaded.pane.eject.click()
    assert loaded.pane.pill.text() == "Not loaded"
    qtbot.waitUntil(lambda: not handle.is_running, timeout=WAIT_MS)
    assert len(loaded.pane.chat.bubbles()) == 2
    loaded.pane.load_button.click()
    wait_until_ready(loaded, qtbot)
    ask(loaded, "Second", qtbot)
    wait_until_ready(loaded, qtbot)
    assert [turn.content for turn in loaded.pane.model.turns[::2]] == ["First", "Second"]


def test_loading_can_be_stopped(page: TryPage, gguf: Path, qtbot: QtBot) -> None:
    page.open_file(gguf)
    handle = page.pane.model._job.handle  # type: ignore[union-attr]
    assert page.pane.loading.isVisible()
    page.escape()
    assert page.pane.model.state is ChatState.UNLOADED
    assert page.pane.empty.action_button().text() == "Load model"
    qtbot.waitUntil(lambda: not handle.is_running, timeout=WAIT_MS)


def test_a_file_that_is_no_gguf_is_told_in_a_banner_with_its_log(
    page: TryPage, tmp_path: Path, qtbot: QtBot
) -> None:
    bad = tmp_path / "notes.gguf"
    bad.write_text("not a model")
    page.open_file(bad)
    qtbot.waitUntil(page.pane.banner.isVisible, timeout=WAIT_MS)
    assert page.pane.banner.text().startswith("notes.gguf is not a GGUF file")
    assert page.pane.empty.action_button().text() == "Load again"
    page.pane.banner.action_button().click()
    (dialog,) = page.pane.findChildren(LogDialog)
    assert f"Loading {bad}" in dialog.view.text()
    dialog.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_process_that_dies_is_told_and_leaves_the_conversation(
    loaded: TryPage, qtbot: QtBot
) -> None:
    loaded._set_options(ENDLESS)
    ask(loaded, "Go on", qtbot)
    wait_for_text(loaded, qtbot)
    os.kill(loaded.pane.model._job.handle.pid, signal.SIGKILL)  # type: ignore[union-attr]
    qtbot.waitUntil(loaded.pane.banner.isVisible, timeout=WAIT_MS)
    assert "load the model again to go on" in loaded.pane.banner.text()
    assert loaded.pane.chat.bubbles()[-1].footer_text() == "The answer broke off."
    assert loaded.pane.model.turns == []
    assert loaded.pane.load_button.isVisible()


def test_an_example_of_the_test_split_is_asked_with_its_system_turn(
    page: TryPage, workspace: Workspace, tmp_path: Path, gguf: Path, qtbot: QtBot
) -> None:
    project = make_project(tmp_path / "project", gguf)
    turns = (Message("system", "Be brief."), Message("user", "How much is 2 + 2?"))
    record = Record((*turns, Message("assistant", "4")), "a first category", "id-1")
    project.records.add_coverage([(record, Split.TEST, "more.jsonl:1")])
    workspace.adopt(project)
    qtbot.waitUntil(lambda: page.pane.target is not None)
    page.main_action()
    wait_until_ready(page, qtbot)
    page._set_options(SHORT)
    chip = next(c for c in page.pane.start.chips if c.example.system)
    chip.click()
    assert page.pane.chat.bubbles()[0].text == "How much is 2 + 2?"
    assert page._options.system == "Be brief."
    assert page.prompt.settings.text().endswith("with a system prompt")
    wait_until_ready(page, qtbot)


def test_examples_are_single_turn_prompts_of_different_categories(tmp_path: Path) -> None:
    with make_project(tmp_path / "project") as project:
        view = read_try(project)
        categories = {row.record.category for row in project.records.by_split(Split.TEST)}
        records = {
            row.record.prompt_messages[-1].content: row.record
            for row in project.records.by_split(Split.TEST)
        }
    assert len(view.examples) == MAX_EXAMPLES
    shown = {records[example.prompt].category for example in view.examples}
    assert shown == categories
    assert all(len(records[example.prompt].prompt_messages) == 1 for example in view.examples)
    assert SYSTEM_TURN not in {example.system for example in view.examples}
    assert choose_examples([]) == ()


def test_the_settings_come_from_the_project_and_can_be_changed(
    page: TryPage, workspace: Workspace, tmp_path: Path, qtbot: QtBot
) -> None:
    workspace.adopt(make_project(tmp_path / "project"))
    qtbot.waitUntil(lambda: not page.background.is_busy)
    assert page.prompt.settings.text() == "Temperature 0.8 · up to 512 tokens · seed 42"
    page.prompt.change.click()
    (dialog,) = page.findChildren(ChatOptionsDialog)
    dialog.temperature.setValue(0.25)
    dialog.top_p.setValue(0.9)
    dialog.max_tokens.setValue(64)
    dialog.fresh_seed.setChecked(True)
    dialog.system.setPlainText(" Be brief. ")
    assert not dialog.seed.isEnabled()
    dialog.apply_button.click()
    assert page._options == ChatOptions("Be brief.", 0.25, 64, None, 0.9)
    assert page.prompt.settings.text() == (
        "Temperature 0.25 · top-p 0.9 · up to 64 tokens · a new seed each time · "
        "with a system prompt"
    )
    page.refresh()
    qtbot.waitUntil(lambda: not page.background.is_busy)
    assert page._options.max_new_tokens == 64


def test_closing_the_project_ends_its_model(
    page: TryPage, workspace: Workspace, tmp_path: Path, gguf: Path, qtbot: QtBot
) -> None:
    workspace.adopt(make_project(tmp_path / "project", gguf))
    qtbot.waitUntil(lambda: page.pane.target is not None)
    page.main_action()
    wait_until_ready(page, qtbot)
    handle = page.pane.model._job.handle  # type: ignore[union-attr]
    workspace.close_project()
    assert page.pane.target is None
    qtbot.waitUntil(lambda: not handle.is_running, timeout=WAIT_MS)


def test_closing_the_window_ends_the_model(
    app: QApplication, workspace: Workspace, gguf: Path, qtbot: QtBot
) -> None:
    window = MainWindow(workspace)
    qtbot.addWidget(window)
    window.show()
    page = window.show_page("try")
    assert isinstance(page, TryPage)
    page.open_file(gguf)
    wait_until_ready(page, qtbot)
    handle = page.pane.model._job.handle  # type: ignore[union-attr]
    window.close()
    qtbot.waitUntil(lambda: not handle.is_running, timeout=WAIT_MS)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(("width", "height", "scale"), [(1084, 764, 1.0), (964, 664, 1.3)])
def test_nothing_is_cut_off_or_without_a_name_in_any_state(
    app: QApplication,
    loaded: TryPage,
    tmp_path: Path,
    qtbot: QtBot,
    mode: str,
    width: int,
    height: int,
    scale: float,
) -> None:
    apply_theme(app, mode, scale)  # type: ignore[arg-type]
    loaded.resize(width, height)
    check = _checked(loaded, app)
    check()
    ask(loaded, "Merge two sorted lists into one. " * 8, qtbot)
    check()
    wait_until_ready(loaded, qtbot)
    check()
    loaded.pane.eject.click()
    check()
    bad = tmp_path / "a file with a rather long name that says nothing at all.gguf"
    bad.write_text("not a model")
    loaded.open_file(bad)
    check()
    qtbot.waitUntil(loaded.pane.banner.isVisible, timeout=WAIT_MS)
    check()
    dialog = ChatOptionsDialog(loaded, SHORT, max_tokens=4096)
    dialog.show()
    app.processEvents()
    assert clipped_texts(dialog) + unnamed_focusables(dialog) == []
    dialog.close()


def _checked(page: TryPage, app: QApplication) -> Callable[[], None]:
    def check() -> None:
        app.processEvents()
        assert clipped_texts(page) + unnamed_focusables(page) == []

    return check
