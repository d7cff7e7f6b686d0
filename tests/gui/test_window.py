"""The window as a whole: opening, moving between pages, making a project, settings, closing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.gui import recents
from llamaduo_gui.gui.dialogs.new_project import NewProjectDialog
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.pages.home import HomePage
from llamaduo_gui.gui.pages.settings import SettingsPage
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.store.project import Project
from tests.gui.checks import unnamed_focusables

WAIT_MS = 20_000


@pytest.fixture
def window(app: QApplication, qtbot: QtBot) -> MainWindow:
    made = MainWindow(Workspace())
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    return made


def write_pairs(path: Path, count: int = 30) -> Path:
    rows = [{"prompt": f"{n} plus 1?", "response": str(n + 1)} for n in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def open_project(window: MainWindow, qtbot: QtBot, folder: Path) -> None:
    with qtbot.waitSignal(window.workspace.session_changed, timeout=WAIT_MS):
        window.workspace.open_project(folder)


def test_the_window_opens_at_home_and_project_pages_wait_for_a_project(
    window: MainWindow,
) -> None:
    assert window.current_key == "home"
    assert window.is_available("settings")
    assert not window.is_available("migrate")
    QTest.keyClick(window, Qt.Key.Key_3, Qt.KeyboardModifier.ControlModifier)
    assert window.current_key == "home"


def test_opening_the_window_needs_no_database_and_no_numeric_library(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from llamaduo_gui.gui.app import make_application\n"
        "from llamaduo_gui.gui.main_window import MainWindow\n"
        "from llamaduo_gui.gui.workspace import Workspace\n"
        "app = make_application()\n"
        "window = MainWindow(Workspace())\n"
        "window.show()\n"
        "slow = {'sqlalchemy', 'pydantic', 'numpy', 'matplotlib', 'keyring', 'yaml'}\n"
        "print(sorted(slow & set(sys.modules)), flush=True)\n"
        "import os\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_project_is_made_from_a_file_and_opened(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    home = window.show_page("home")
    assert isinstance(home, HomePage)
    home.make_project([write_pairs(tmp_path / "sums.jsonl")])
    dialog = home.findChild(NewProjectDialog)
    assert dialog is not None
    dialog.create_button.click()
    assert dialog.isVisible(), "a missing teacher is said and the form stays"
    dialog.form.set_config(
        PipelineConfig.model_validate({"teacher": {"provider": "offline", "model": "tutor"}})
    )
    with qtbot.waitSignal(window.workspace.session_changed, timeout=WAIT_MS):
        dialog.create_button.click()
    assert window.current_key == "data"
    assert (tmp_path / "sums-project" / "project.db").is_file()
    assert [item.folder for item in recents.load_recents()] == [str(tmp_path / "sums-project")]


def test_a_file_that_is_not_fit_keeps_the_form_open_with_a_sentence(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "half', encoding="utf-8")
    dialog = NewProjectDialog(window, [bad])
    qtbot.addWidget(dialog)
    dialog.form.set_config(
        PipelineConfig.model_validate({"teacher": {"provider": "offline", "model": "tutor"}})
    )
    dialog.open()
    dialog.create_button.click()
    qtbot.waitUntil(dialog.create_button.isEnabled, timeout=WAIT_MS)
    assert "JSON" in dialog.message()
    assert dialog.isVisible()
    assert not (tmp_path / "bad-project").exists()


def test_a_folder_that_is_no_project_is_said_in_the_window(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    with qtbot.waitSignal(window.workspace.failed, timeout=WAIT_MS) as caught:
        window.workspace.open_project(tmp_path)
    assert "not a LlamaDuo project" in caught.args[0]


def test_every_page_of_a_fresh_project_shows_and_names_its_controls(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    Project.create(tmp_path / "p", PipelineConfig()).close()
    open_project(window, qtbot, tmp_path / "p")
    for key in window.page_keys():
        page = window.show_page(key)
        qtbot.waitUntil(lambda page=page: not page.background.is_busy, timeout=WAIT_MS)
        assert unnamed_focusables(page) == [], key


def test_a_key_without_a_keyring_is_kept_for_the_session_and_says_so(
    window: MainWindow, qtbot: QtBot
) -> None:
    page = window.show_page("settings")
    assert isinstance(page, SettingsPage)
    qtbot.waitUntil(lambda: not page.background.is_busy, timeout=WAIT_MS)
    field = page.key_field("openai")
    QTest.keyClicks(field.field(), "sk-marked-5511")
    QTest.keyClick(field.field(), Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "session" in field.source_text(), timeout=WAIT_MS)
    assert window.workspace.secrets.get("openai") == "sk-marked-5511"
    assert field.field().text() == ""


def test_the_theme_changes_the_pixels_at_once(window: MainWindow, app: QApplication) -> None:
    page = window.show_page("settings")
    assert isinstance(page, SettingsPage)
    colours = {}
    for mode in ("light", "dark"):
        page.choose_theme(mode)
        app.processEvents()
        colours[mode] = QColor(window.grab().toImage().pixel(640, window.height() - 60)).lightness()
    assert colours["light"] > 200
    assert colours["dark"] < 60


def test_the_window_remembers_its_size(window: MainWindow, qtbot: QtBot) -> None:
    window.resize(1024, 750)
    window.close()
    again = MainWindow(Workspace())
    qtbot.addWidget(again)
    assert (again.width(), again.height()) == (1024, 750)


def test_home_knows_the_verdict_of_a_project_that_was_finished_without_the_window(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    folder = tmp_path / "finished"
    with Project.create(folder, PipelineConfig()) as project:
        for key, word in (("decide:r0", "Matched"), ("report", "Not matched")):
            stage = Stage.REPORT if key == "report" else Stage.DECIDE
            run = project.runs.find_or_create(key, stage)
            project.runs.start(run.id, {})
            verdict = {"word": word, "is_matched": word == "Matched"}
            project.runs.finish(run.id, RunStatus.SUCCEEDED, summary={"verdict": verdict})
    open_project(window, qtbot, folder)
    qtbot.waitUntil(lambda: recents.load_recents()[0].verdict == "Not matched", timeout=WAIT_MS)
    assert recents.load_recents()[0].is_matched is False
