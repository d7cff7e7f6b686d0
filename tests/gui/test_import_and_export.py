"""Importing through the New project dialog and exporting from the Data page, with real workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.gui.dialogs.export_data import ExportDataDialog
from llamaduo_gui.gui.dialogs.new_project import NewProjectDialog
from llamaduo_gui.gui.panels.import_panel import ImportPanel
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.store.project import Project
from tests.gui.checks import clipped_texts, unnamed_focusables
from tests.gui.projects import add_synthetic, make_data_project

WAIT_MS = 60_000
Shown = Callable[..., QWidget]


@pytest.fixture
def dialog(shown: Shown) -> Iterator[NewProjectDialog]:
    found = NewProjectDialog(None)
    shown(found, 880, 700)
    yield found
    found.close()


def settle(panel: ImportPanel, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not panel.model.is_reading, timeout=WAIT_MS)


def write_table(path: Path, count: int = 40, *extra: str) -> Path:
    rows = [f"question {n};answer {n};kind {n % 2}" for n in range(count)]
    path.write_text("\n".join(["text;gold_label;topic", *rows, *extra]) + "\n", encoding="utf-8")
    return path


def cells(panel: ImportPanel, row: int) -> list[str]:
    return [str(panel.rows.index(row, place).data()) for place in range(4)]


def test_columns_are_chosen_and_the_first_rows_follow(
    dialog: NewProjectDialog, qtbot: QtBot, tmp_path: Path
) -> None:
    panel = dialog.data
    assert not dialog.next_button.isEnabled()
    dialog.set_files([write_table(tmp_path / "data.csv")])
    settle(panel, qtbot)
    assert "Say which columns" in panel.banner.text()
    assert cells(panel, 0) == ["", "text", "question 0", "text"]
    assert not dialog.next_button.isEnabled()

    qtbot.mouseClick(panel.banner.action_button(), Qt.MouseButton.LeftButton)
    settle(panel, qtbot)
    assert panel.model.mapping == {"prompt": "text", "response": "gold_label", "category": "topic"}
    assert cells(panel, 0) == ["2", "question 0", "answer 0", "kind 0"]
    assert panel._splits.text() == "Will be split into 32 train, 4 validation, 4 test."
    assert "2 categories" in panel._notes.text()
    assert dialog.next_button.isEnabled()

    box = panel.columns.boxes["category"]
    box.setCurrentIndex(0)
    box.activated.emit(0)
    settle(panel, qtbot)
    assert cells(panel, 0)[3] == "uncategorised"


def test_broken_rows_are_listed_and_left_out_only_when_asked(
    dialog: NewProjectDialog, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "data.jsonl"
    rows = [json.dumps({"prompt": f"p{n}", "response": "r"}) for n in range(30)]
    path.write_text("\n".join([*rows, "{", "[]"]) + "\n", encoding="utf-8")
    dialog.set_files([path])
    settle(dialog.data, qtbot)
    assert dialog.data.banner.text() == "2 rows are broken."
    assert "data.jsonl line 31 is not valid JSON" in dialog.data.banner.detail()
    assert not dialog.next_button.isEnabled()
    dialog.data.keep.click()
    assert dialog.next_button.isEnabled()

    dialog.next_button.click()
    dialog.form.set_config(
        PipelineConfig.model_validate({"teacher": {"provider": "offline", "model": "tutor"}})
    )
    with qtbot.waitSignal(dialog.created, timeout=WAIT_MS) as caught:
        dialog.create_button.click()
    created = caught.args[0]
    assert sum(created.splits.values()) == 30
    with Project.open(tmp_path / "data-project") as project:
        assert project.config.task == "data"
        assert project.get_setting("read_problem_count") == 2


def test_files_are_dropped_and_a_later_choice_wins(
    dialog: NewProjectDialog, qtbot: QtBot, tmp_path: Path
) -> None:
    first = write_table(tmp_path / "first.csv")
    second = tmp_path / "second.json"
    second.write_text(
        json.dumps([{"question": f"q{n}", "answer": "a"} for n in range(12)]), encoding="utf-8"
    )
    dialog.set_files([first])
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(second))])
    copy, none = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    dialog.data.dropEvent(QDropEvent(QPointF(5, 5), copy, data, Qt.MouseButton.LeftButton, none))
    settle(dialog.data, qtbot)
    assert dialog.data.model.sources == (str(second),)
    assert "JSON \u00b7 UTF-8 \u00b7 layout: prompt and response" in dialog.data._found.text()
    assert cells(dialog.data, 11)[1] == "q11"


def test_a_dataset_folder_is_read_as_from_the_hub(
    dialog: NewProjectDialog, qtbot: QtBot, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [json.dumps({"prompt": f"p{n}", "response": "r"}) for n in range(12)]
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    dialog.data._kind.button("hub").click()
    dialog.data.hub_name.setText(str(folder))
    qtbot.mouseClick(dialog.data.read_button, Qt.MouseButton.LeftButton)
    settle(dialog.data, qtbot)
    assert cells(dialog.data, 0)[1] == "p0"
    assert dialog.data.suggested_name() == "set"
    assert dialog.next_button.isEnabled()
    dialog.data.hub_name.setFocus()
    qtbot.keyClick(dialog.data.hub_name, Qt.Key.Key_Return)
    settle(dialog.data, qtbot)
    assert dialog.next_button.isVisible(), "Enter reads again and does not go on"


@pytest.mark.parametrize(("scale", "mode"), [(1.0, "light"), (1.3, "dark")])
def test_nothing_is_cut_off_and_everything_has_a_name(
    app: QApplication,
    dialog: NewProjectDialog,
    qtbot: QtBot,
    tmp_path: Path,
    scale: float,
    mode: str,
) -> None:
    apply_theme(app, mode, scale)  # type: ignore[arg-type]
    dialog.resize(round(880 * scale), round(700 * scale))
    dialog.set_files([write_table(tmp_path / "data.csv", 40, "broken")])
    settle(dialog.data, qtbot)
    dialog.data._take_suggestion()
    settle(dialog.data, qtbot)
    app.processEvents()
    app.processEvents()
    assert clipped_texts(dialog) == []
    assert unnamed_focusables(dialog) == []


def test_the_projects_data_is_exported_in_both_formats(
    app: QApplication, shown: Shown, qtbot: QtBot, tmp_path: Path
) -> None:
    with make_data_project(tmp_path / "project") as project:
        add_synthetic(project)
        dialog = ExportDataDialog(None, project)
        shown(dialog, 600, 420)
        dialog.folder.setText(str(tmp_path / "out"))
        dialog.boxes["parquet"].click()
        qtbot.mouseClick(dialog.export_button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: bool(dialog.banner.text()), timeout=WAIT_MS)
        assert dialog.banner.text() == "Written: 45 train, 12 validation, 12 test."
        app.processEvents()
        assert clipped_texts(dialog) == []
        assert unnamed_focusables(dialog) == []
        assert len(list((tmp_path / "out").iterdir())) == 7

        (tmp_path / "out" / "mine").touch()
        qtbot.mouseClick(dialog.export_button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: "other files" in dialog.banner.text(), timeout=WAIT_MS)
        dialog.boxes["parquet"].click()
        dialog.boxes["messages"].click()
        assert not dialog.export_button.isEnabled()
        dialog.close()
