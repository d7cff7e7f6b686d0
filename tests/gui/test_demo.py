"""The demo as a person does it: started, stopped, resumed, finished, read, and chatted with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.pages.home import HomePage
from llamaduo_gui.gui.pages.migrate import MigratePage
from llamaduo_gui.gui.session import ProjectSession
from llamaduo_gui.gui.workspace import Workspace
from tests.gui.demo_steps import ask_the_model, open_a_reason

WAIT_MS = 60_000
DEMO_MS = 900_000


@pytest.mark.slow
def test_the_demo_is_started_stopped_resumed_read_down_to_a_reason_and_chatted_with(
    app: QApplication, qtbot: QtBot
) -> None:
    window = MainWindow(Workspace())
    qtbot.addWidget(window)
    window.show()
    home = window.show_page("home")
    assert isinstance(home, HomePage)
    with qtbot.waitSignal(window.workspace.session_changed, timeout=WAIT_MS):
        QTest.mouseClick(home.demo_button, Qt.MouseButton.LeftButton)
    session = window.workspace.session
    assert session is not None
    folder = session.project.folder
    assert window.current_key == "migrate"
    stop_while_training(window, session, qtbot)
    resume_to_the_end(window, session, qtbot)
    check_that_it_learnt(session)
    open_a_reason(window, qtbot)
    ask_the_model(window, qtbot)
    window.close()
    app.processEvents()
    check_the_command_line_agrees(folder)


def check_the_command_line_agrees(folder: Path) -> None:
    """The same project by command: nothing is done twice, one JSON document says it all."""
    command = [sys.executable, "-m", "llamaduo_gui", "demo", "--project", str(folder)]
    done = subprocess.run(
        [*command, "--no-gui", "--json"], capture_output=True, text=True, timeout=60, check=True
    )
    found = json.loads(done.stdout)
    assert "Nothing left to do" in done.stderr
    assert found["verdict"]["word"] in ("Matched", "Not matched")
    assert len(found["rounds"]) >= 2
    assert Path(found["files"]["gguf"]).read_bytes()[:4] == b"GGUF"
    assert Path(found["files"]["html"]).is_file()


def migrate_page(window: MainWindow) -> MigratePage:
    page = window.show_page("migrate")
    assert isinstance(page, MigratePage)
    return page


def stop_while_training(window: MainWindow, session: ProjectSession, qtbot: QtBot) -> None:
    page = migrate_page(window)
    with qtbot.waitSignal(session.metrics, timeout=WAIT_MS * 3):
        pass
    QTest.mouseClick(page.stop_button, Qt.MouseButton.LeftButton)
    question = page.findChild(ConfirmDialog)
    assert question is not None
    with qtbot.waitSignal(session.job_finished, timeout=WAIT_MS) as ended:
        QTest.mouseClick(question.action_button, Qt.MouseButton.LeftButton)
    assert ended.args[0].status == "cancelled"
    qtbot.waitUntil(lambda: page.header.pill_text() == "Cancelled", timeout=WAIT_MS)
    assert page.start_button.text() == "Resume"


def resume_to_the_end(window: MainWindow, session: ProjectSession, qtbot: QtBot) -> None:
    page = migrate_page(window)
    with qtbot.waitSignal(session.job_finished, timeout=DEMO_MS) as ended:
        QTest.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    assert ended.args[0].status == "succeeded", ended.args[0].error
    qtbot.waitUntil(page.results_button.isVisible, timeout=WAIT_MS)
    assert page.header.pill_text() in ("Matched", "Not matched")
    QTest.mouseClick(page.results_button, Qt.MouseButton.LeftButton)
    assert window.current_key == "results"


def check_that_it_learnt(session: ProjectSession) -> None:
    """The tuned model beats the base, and round 1 beats round 0, with intervals apart."""
    project = session.project
    means = {
        run.key: run.summary["pooled"]["precision"]["mean"] for run in project.runs.all(Stage.JUDGE)
    }
    base, first, second = (
        means[f"judge:{key}:validation"] for key in ("base", "tuned:r0", "tuned:r1")
    )
    assert base["high"] < first["low"]
    assert first["high"] < second["low"]
    test_base, test_gguf = (
        means["judge:base:test"],
        next(value for key, value in means.items() if key.startswith("judge:gguf:")),
    )
    assert test_base["high"] < test_gguf["low"]
    assert all(run.status is RunStatus.SUCCEEDED for run in project.runs.all())
    report = json.loads(
        (project.paths.artifacts / "report" / "report.json").read_text(encoding="utf-8")
    )
    assert report["caveats"], "the tutor is named as not an LLM"
