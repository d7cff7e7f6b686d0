"""The Train page: settings kept in pipeline.yaml, what they need, and a training as it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.config import StudentConfig
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.dialogs.hub_models import HubModelsDialog
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.pages.train_page import TrainPage
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.pipeline.create import create_demo
from llamaduo_gui.store.project import Project
from tests.gui.checks import clipped_texts, unnamed_focusables
from tests.gui.projects import make_data_project

WAIT_MS = 90_000
Show = Callable[[Project], TrainPage]


@pytest.fixture
def workspace(app: QApplication) -> Iterator[Workspace]:
    found = Workspace()
    yield found
    found.close_project()


@pytest.fixture
def page(workspace: Workspace, qtbot: QtBot) -> TrainPage:
    found = TrainPage(workspace)
    qtbot.addWidget(found)
    found.resize(1084, 764)
    found.show()
    qtbot.waitExposed(found)
    return found


@pytest.fixture
def show(page: TrainPage, workspace: Workspace, qtbot: QtBot) -> Show:
    def open_project(project: Project) -> TrainPage:
        workspace.adopt(project)
        settle(page, qtbot)
        return page

    return open_project


def settle(page: TrainPage, qtbot: QtBot) -> None:
    qtbot.waitUntil(
        lambda: not (page._estimate_later.isActive() or page.background.is_busy), timeout=WAIT_MS
    )


def demo(folder: Path, **overrides: Any) -> Project:
    project = create_demo(folder)
    student = project.config.student
    project.set_student(
        student.model_copy(update={"overrides": {**student.overrides, **overrides}})
    )
    return project


def failed(project: Project, error: str, **failure: Any) -> None:
    run = project.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0)
    project.runs.start(run.id, {})
    project.runs.finish(run.id, RunStatus.FAILED, error=error, summary={"failure": failure})


def test_the_round_is_trained_with_settings_that_pipeline_yaml_keeps(
    show: Show, qtbot: QtBot, tmp_path: Path
) -> None:
    project = demo(tmp_path / "demo")
    path = project.paths.config
    path.write_text("# mine\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    page = show(project)
    assert page.train_button.text() == "Train round 0"

    page.form.fields["epochs"].setValue(0.5)
    settle(page, qtbot)
    assert page._view.config is not None
    qtbot.mouseClick(page.train_button, Qt.MouseButton.LeftButton)
    assert page.session is not None
    qtbot.waitUntil(page.stop_button.isVisible, timeout=WAIT_MS)
    assert not page.form.recipe.isEnabled()
    with qtbot.waitSignal(page.session.job_finished, timeout=WAIT_MS):
        pass
    settle(page, qtbot)

    assert path.read_text(encoding="utf-8").startswith("# mine\n")
    assert project.config.student.overrides["epochs"] == 0.5
    assert page.header.pill_text() == "Round 0: trained"
    assert page.chart.has_data()
    assert page.rounds.text().startswith("Round 0: validation loss")
    assert page.tiles["loss"].value_text() not in ("", "\N{EM DASH}")


def test_a_longer_batch_needs_more_memory(show: Show, qtbot: QtBot, tmp_path: Path) -> None:
    page = show(demo(tmp_path / "demo"))
    before = page.memory.bar._parts

    page.form.fields["batch_size"].setValue(page.form.fields["batch_size"].value() * 8)
    settle(page, qtbot)

    assert dict(page.memory.bar._parts)["Activations"] > 6 * dict(before)["Activations"]
    assert "free" in page.memory.bar.accessibleName()


def test_another_recipe_fills_its_numbers_in(show: Show, qtbot: QtBot, tmp_path: Path) -> None:
    page = show(demo(tmp_path / "demo", epochs=9))
    assert page.form.fields["epochs"].value() == 9

    page.form.recipe.setCurrentIndex(page.form.recipe.findData("full"))

    student = page.form.student()
    assert student is not None
    assert (student.recipe, student.overrides) == ("full", {})
    assert not page.form.fields["r"].isEnabled()


def test_exhausted_memory_offers_settings_that_fit(
    show: Show, qtbot: QtBot, tmp_path: Path
) -> None:
    project = demo(tmp_path / "demo", batch_size=16)
    offer = {"batch_size": 4, "gradient_accumulation": 4}
    failed(project, "Memory did not suffice.", kind="out_of_memory", overrides=offer)
    page = show(project)
    assert page.header.pill_text() == "Failed"
    assert page.banner.text() == "Memory did not suffice."

    qtbot.mouseClick(page.banner.action_button(), Qt.MouseButton.LeftButton)

    student = page.form.student()
    assert student is not None
    assert page.form.fields["batch_size"].value() == 4
    assert student.overrides["gradient_accumulation"] == 4


def test_changed_settings_offer_to_start_again(show: Show, tmp_path: Path) -> None:
    project = demo(tmp_path / "demo")
    failed(project, "The settings changed.", kind="plan_changed", changed=["seed"])

    page = show(project)

    assert page.banner.action_button().text() == "Start again"


def test_a_model_that_is_not_here_has_no_estimate_but_a_reason(show: Show, tmp_path: Path) -> None:
    project = demo(tmp_path / "demo")
    project.set_student(StudentConfig(base_model="somebody/model"))

    page = show(project)

    assert "download it" in page.memory.words.text()
    assert page.form.model.currentData() == "somebody/model"


def test_without_records_the_page_leads_to_data(
    page: TrainPage, show: Show, workspace: Workspace, qtbot: QtBot, tmp_path: Path
) -> None:
    project = Project.create(tmp_path / "none", demo(tmp_path / "demo").config)
    show(project)

    assert page.train_button.isHidden()
    with qtbot.waitSignal(workspace.page_requested) as asked:
        qtbot.mouseClick(page._empty.action_button(), Qt.MouseButton.LeftButton)
    assert asked.args == ["data"]


def test_the_hub_offers_what_is_on_this_machine(show: Show, qtbot: QtBot, tmp_path: Path) -> None:
    page = show(demo(tmp_path / "demo"))

    qtbot.mouseClick(page.form.hub_button, Qt.MouseButton.LeftButton)

    (dialog,) = page.findChildren(HubModelsDialog)
    qtbot.waitUntil(lambda: "on this machine" in dialog.disk.text(), timeout=WAIT_MS)
    assert unnamed_focusables(dialog) == []
    assert not dialog.use_button.isEnabled()
    dialog.reject()


def test_escape_asks_before_it_stops(show: Show, tmp_path: Path) -> None:
    page = show(demo(tmp_path / "demo"))

    page.escape()

    assert page.findChildren(ConfirmDialog) == []


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [1084, 964])
def test_no_text_is_clipped_and_all_controls_have_names(
    app: QApplication, show: Show, qtbot: QtBot, tmp_path: Path, mode: Any, width: int
) -> None:
    page = show(make_data_project(tmp_path / "coding-assistant"))
    apply_theme(app, mode)
    page.resize(width, 664)
    settle(page, qtbot)

    assert clipped_texts(page) == []
    assert unnamed_focusables(page) == []
    apply_theme(app, "light")


def test_it_stands_between_synthesise_and_migrate(workspace: Workspace, qtbot: QtBot) -> None:
    window = MainWindow(workspace)
    qtbot.addWidget(window)
    keys = window.page_keys()

    assert keys.index("synthesise") + 1 == keys.index("train") == keys.index("migrate") - 1
