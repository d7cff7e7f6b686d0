"""The Export page: a student exported and certified, its files shown, copied and handed on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.gui.models.export_view import read_export
from llamaduo_gui.gui.pages.export_page import ExportPage
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.store.project import Project
from tests.gui.checks import clipped_texts, unnamed_focusables
from tests.gui.projects import LAST_ROUND, QUANT, make_data_project, make_judged_project

WAIT_MS = 60_000
CERTIFICATE: dict[str, Any] = {
    "is_certified": True,
    "verdict": "Certified",
    "causes": [],
    "checks": [
        {"name": "load", "title": "Loading", "state": "passed", "text": "llama.cpp loads it."},
        {"name": "scores", "title": "Judged answers", "state": "skipped", "text": "Not judged."},
    ],
    "divergence": {"mean_kl": 0.0021, "agreement": 0.969},
    "performance": {"generation_tokens_per_second": 1234.0},
}
Show = Callable[[Project], ExportPage]


@pytest.fixture
def workspace(app: QApplication) -> Iterator[Workspace]:
    found = Workspace()
    yield found
    found.close_project()


@pytest.fixture
def show(workspace: Workspace, qtbot: QtBot) -> Show:
    """Open a project on the page and wait until it is read."""

    def open_project(project: Project) -> ExportPage:
        page = ExportPage(workspace)
        qtbot.addWidget(page)
        page.resize(1084, 764)
        page.show()
        qtbot.waitExposed(page)
        workspace.adopt(project)
        qtbot.waitUntil(lambda: not page.background.is_busy)
        return page

    return open_project


def add_certificate(project: Project, **changes: Any) -> None:
    """Certify the file of the judged project."""
    row = project.artifacts.latest("gguf")
    assert row is not None
    key = f"certify:{QUANT}:r{LAST_ROUND}"
    run = project.runs.find_or_create(key, Stage.CERTIFY, round_number=LAST_ROUND)
    summary = {**CERTIFICATE, "sha256": row.sha256, **changes}
    project.runs.finish(run.id, RunStatus.SUCCEEDED, summary=summary)


def add_student(project: Project) -> None:
    """A trained student of 1.1 billion weights."""
    run = project.runs.find_or_create("finetune:r1", Stage.FINETUNE, round_number=1)
    project.runs.finish(run.id, RunStatus.SUCCEEDED, summary={"parameters": 1_100_000_000})


def test_without_a_student_the_page_leads_to_the_loop(
    show: Show, workspace: Workspace, tmp_path: Path, qtbot: QtBot
) -> None:
    page = show(make_data_project(tmp_path / "p"))
    assert not page.start_button.isEnabled()
    assert page.quants.isHidden() or not page.quants.isVisible()
    with qtbot.waitSignal(workspace.page_requested) as asked:
        qtbot.mouseClick(page._empty.action_button(), Qt.MouseButton.LeftButton)
    assert asked.args == ["migrate"]


def test_every_type_says_its_size_and_its_loss_before_the_click(show: Show, tmp_path: Path) -> None:
    project = make_judged_project(tmp_path / "p")
    add_student(project)
    page = show(project)
    texts = [page.quants.itemText(index) for index in range(page.quants.count())]
    assert any(text.startswith("Q4_K_M: about 672\u00a0MB") for text in texts)
    assert any(text.startswith("F16: about 2.2\u00a0GB, expected loss: none") for text in texts)
    assert page.quants.currentData() == project.config.export.quant


def test_a_certified_file_shows_its_numbers_and_checks(
    show: Show, tmp_path: Path, qtbot: QtBot
) -> None:
    project = make_judged_project(tmp_path / "p")
    add_student(project)
    add_certificate(project)
    page = show(project)
    row = read_export(project).files[0].row
    assert row[1:4] == ("Certified", "4\u00a0B", "2.1e-03")
    assert row[4:6] == ("96.9\u00a0%", "1,234")
    assert page.header.pill_text() == "Certified"
    assert page.verdict.text().startswith("Certified: ")
    assert page._checks.body.count() == 2
    assert unnamed_focusables(page) == []
    # What was read is laid out in the next turns of the event loop.
    qtbot.waitUntil(lambda: clipped_texts(page) == [])


def test_a_refused_file_says_why(show: Show, tmp_path: Path) -> None:
    project = make_judged_project(tmp_path / "p")
    add_student(project)
    cause = "The file prepends a BOS the tokeniser lacks."
    add_certificate(project, is_certified=False, verdict="Not certified", causes=[cause])
    page = show(project)
    assert page.header.pill_text() == "Not certified"
    assert page.verdict.text() == f"Not certified. {cause}"


def test_a_certificate_of_other_bytes_does_not_count(tmp_path: Path) -> None:
    with make_judged_project(tmp_path / "p") as project:
        add_certificate(project, sha256="another")
        assert read_export(project).files[0].is_certified is None


def test_a_file_is_copied_to_where_it_is_wanted(show: Show, tmp_path: Path, qtbot: QtBot) -> None:
    project = make_judged_project(tmp_path / "p")
    page = show(project)
    page.copy_to(tmp_path / "mine.gguf")
    qtbot.waitUntil(lambda: "Copied to" in page.banner.text())
    assert (tmp_path / "mine.gguf").read_bytes() == b"GGUF"
    page.copy_to(tmp_path / "nowhere" / "mine.gguf")
    qtbot.waitUntil(lambda: "cannot be written" in page.banner.text())


def test_the_button_asks_for_export_and_certification(
    show: Show, workspace: Workspace, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_judged_project(tmp_path / "p")
    add_student(project)
    page = show(project)
    session = workspace.session
    assert session is not None
    asked: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(session, "start_job", lambda kind, options: asked.append((kind, options)))
    page.quants.setCurrentIndex(page.quants.findData("Q6_K"))
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(page.certify_button, Qt.MouseButton.LeftButton)
    assert asked[0] == (
        "stage",
        {"stage": "export", "judge": False, "quant": "Q6_K", "certify": True},
    )
    assert asked[1][1]["stage"] == "certify"
    with qtbot.waitSignal(workspace.page_requested) as wanted:
        qtbot.mouseClick(page.try_button, Qt.MouseButton.LeftButton)
    assert wanted.args == ["try"]
