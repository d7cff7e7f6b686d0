"""The Data page: every record found, sorted, filtered and read in full, however many there are."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.types import RecordStatus, Split
from llamaduo_gui.gui.dialogs.new_project import NewProjectDialog
from llamaduo_gui.gui.models.record_model import MAX_PAGES, PAGE_ROWS, RecordModel
from llamaduo_gui.gui.pages.data import DataPage
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RecordFilter, RecordRow
from tests.gui import projects
from tests.gui.checks import clipped_texts, unnamed_focusables
from tests.gui.projects import SYSTEM_TURN, add_synthetic, make_data_project

WAIT_MS = 30_000
# One frame at 60 Hz is 16 ms; a page of texts must not cost three on a busy machine.
MOST_FETCH_S = 0.05
Show = Callable[[Project], DataPage]
PROMPT, RESPONSE, CATEGORY, SPLIT, ORIGIN, STATUS = range(6)


@pytest.fixture
def workspace(app: QApplication) -> Iterator[Workspace]:
    found = Workspace()
    yield found
    found.close_project()


@pytest.fixture
def page(workspace: Workspace, qtbot: QtBot) -> DataPage:
    found = DataPage(workspace)
    qtbot.addWidget(found)
    found.resize(1084, 764)
    found.show()
    qtbot.waitExposed(found)
    return found


@pytest.fixture
def show(page: DataPage, workspace: Workspace, qtbot: QtBot) -> Show:
    """Open a project on the page and wait until everything is read."""

    def open_project(project: Project) -> DataPage:
        workspace.adopt(project)
        settle(page, qtbot)
        return page

    return open_project


@pytest.fixture
def browsed(show: Show, tmp_path: Path) -> DataPage:
    """The page with 12 validation, 12 test and 30 training records, and 20 synthetic pairs."""
    project = make_data_project(tmp_path / "coding-assistant")
    add_synthetic(project)
    return show(project)


def settle(page: DataPage, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not page.background.is_busy, timeout=WAIT_MS)


def column(page: DataPage, number: int) -> list[str]:
    model = page.model
    return [str(model.index(row, number).data()) for row in range(model.rowCount())]


def toggle(page: DataPage, key: str, qtbot: QtBot) -> None:
    qtbot.mouseClick(page.filters.chip(key), Qt.MouseButton.LeftButton)
    settle(page, qtbot)


def search(page: DataPage, text: str, qtbot: QtBot) -> None:
    with qtbot.waitSignal(page.filters.changed):
        page.filters.search_field().setText(text)
    settle(page, qtbot)


def click_header(page: DataPage, number: int, qtbot: QtBot) -> None:
    header = page.table.horizontalHeader()
    place = QPoint(header.sectionViewportPosition(number) + 20, header.height() // 2)
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)
    settle(page, qtbot)


def test_all_records_are_listed_and_counted(browsed: DataPage) -> None:
    assert browsed.model.rowCount() == 74
    assert browsed.filters._count.text() == "74 of 74"
    counts = [tile.value_text() for tile in browsed._tiles.values()]
    assert counts == ["30", "12", "12"]
    assert browsed._kept.value_text() == "15"
    assert browsed._rejected.value_text() == "5"


def test_the_first_record_is_open_and_another_opens_with_a_click(
    browsed: DataPage, qtbot: QtBot
) -> None:
    assert browsed.panel.detail is not None
    first = browsed.panel.detail.row.id
    place = browsed.table.visualRect(browsed.model.index(3, PROMPT)).center()
    qtbot.mouseClick(browsed.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    settle(browsed, qtbot)

    detail = browsed.panel.detail
    assert detail is not None
    assert detail.row.id != first
    assert browsed.panel.texts() == [turn.content for turn in detail.row.record.messages]
    assert browsed.panel.texts()[0] == SYSTEM_TURN


def test_chips_of_one_kind_widen_and_of_different_kinds_narrow(
    browsed: DataPage, qtbot: QtBot
) -> None:
    toggle(browsed, "test", qtbot)
    assert set(column(browsed, SPLIT)) == {"Test"}
    toggle(browsed, "validation", qtbot)
    assert browsed.model.rowCount() == 24
    toggle(browsed, "test", qtbot)
    toggle(browsed, "validation", qtbot)
    toggle(browsed, "synthetic", qtbot)
    assert set(column(browsed, ORIGIN)) == {"Round 1"}
    toggle(browsed, "kept", qtbot)
    assert set(column(browsed, STATUS)) == {"Kept"}
    assert browsed.filters._count.text() == "15 of 74"


def test_a_rejected_pair_says_why_and_shows_its_seed(browsed: DataPage, qtbot: QtBot) -> None:
    toggle(browsed, "rejected", qtbot)
    search(browsed, "merge", qtbot)

    assert column(browsed, STATUS) == ["Too close to seed"]
    index = browsed.model.index(0, STATUS)
    assert index.data(Qt.ItemDataRole.ToolTipRole) == "Rejected: too close to seed"
    detail = browsed.panel.detail
    assert detail is not None
    assert detail.row.status is RecordStatus.REJECTED
    assert browsed.panel._status.text() == "Rejected: too close to seed"
    assert browsed.panel._why.text() == "Jaccard 0.91 with a training prompt"
    assert detail.seed is not None
    assert detail.seed.split is Split.TRAIN


def test_search_looks_into_prompts_and_responses_whatever_their_case(
    browsed: DataPage, qtbot: QtBot
) -> None:
    search(browsed, "iso 8601", qtbot)
    by_prompt = browsed.model.rowCount()
    assert 0 < by_prompt < 74
    search(browsed, "PATTERN.FULLMATCH", qtbot)
    assert browsed.model.rowCount() == by_prompt


def test_a_search_without_a_match_offers_to_clear_the_filters(
    browsed: DataPage, qtbot: QtBot
) -> None:
    search(browsed, "100% no such text", qtbot)
    assert browsed._nothing.isVisible()
    assert browsed.panel.detail is None

    qtbot.mouseClick(browsed._nothing.action_button(), Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)

    assert browsed.model.rowCount() == 74
    assert browsed.table.isVisible()
    assert browsed.panel.detail is not None


def test_the_database_sorts_by_the_clicked_header_up_and_down_and_not_at_all(
    browsed: DataPage, qtbot: QtBot
) -> None:
    unsorted = column(browsed, RESPONSE)
    click_header(browsed, RESPONSE, qtbot)
    rising = column(browsed, RESPONSE)
    click_header(browsed, RESPONSE, qtbot)
    falling = column(browsed, RESPONSE)
    click_header(browsed, RESPONSE, qtbot)

    assert rising == sorted(unsorted) != unsorted
    assert falling == rising[::-1]
    assert column(browsed, RESPONSE) == unsorted


def test_the_open_record_stays_open_and_selected_through_filters(
    browsed: DataPage, qtbot: QtBot
) -> None:
    browsed.table.selectRow(60)
    settle(browsed, qtbot)
    assert browsed.panel.detail is not None
    opened = browsed.panel.detail.row.id

    toggle(browsed, "synthetic", qtbot)

    assert browsed.model.record_id(browsed.table.currentIndex().row()) == opened
    toggle(browsed, "synthetic", qtbot)
    assert browsed.model.record_id(browsed.table.currentIndex().row()) == opened


def test_pairs_that_arrive_are_added_without_losing_the_place(
    browsed: DataPage, qtbot: QtBot
) -> None:
    browsed.table.selectRow(20)
    settle(browsed, qtbot)
    assert browsed.session is not None

    add_synthetic(browsed.session.project, 2, count=8)
    with qtbot.assertNotEmitted(browsed.model.modelReset):
        browsed._note_changed(frozenset({"records"}))
        qtbot.waitUntil(lambda: browsed.model.rowCount() == 82, timeout=WAIT_MS)
        settle(browsed, qtbot)

    assert browsed.table.currentIndex().row() == 20
    assert browsed.filters._count.text() == "82 of 82"
    assert browsed._kept.value_text() == "21"
    assert column(browsed, ORIGIN)[-1] == "Round 2"


def test_filters_are_kept_with_the_project(
    browsed: DataPage, show: Show, workspace: Workspace, tmp_path: Path, qtbot: QtBot
) -> None:
    toggle(browsed, "rejected", qtbot)
    assert browsed.session is not None
    folder = browsed.session.project.folder
    show(make_data_project(tmp_path / "other"))
    assert browsed.filters.state().is_empty

    show(Project.open(folder))
    qtbot.waitUntil(lambda: browsed.model.rowCount() == 5, timeout=WAIT_MS)

    assert browsed.filters.state().chips == {"rejected"}


def test_lines_left_out_at_reading_are_counted_and_the_first_are_shown(
    show: Show, tmp_path: Path
) -> None:
    project = make_data_project(tmp_path / "project")
    problems = [
        {"file": "pairs.jsonl", "line_number": 3 + i, "reason": "has no response"} for i in range(5)
    ]
    project.set_setting("read_problems", problems)
    page = show(project)

    assert page._banner.text() == "5 lines were left out when the data was read."
    assert page._banner.detail().startswith("pairs.jsonl line 3 has no response; ")
    assert page._banner.detail().endswith("and 2 more.")


def test_repetitions_and_prompts_that_share_a_passage_are_said(show: Show, tmp_path: Path) -> None:
    project = make_data_project(tmp_path / "project")
    assert show(project)._notes.isHidden()
    with Project.open(project.folder) as again:
        again.set_setting("read_copies", 2)
        notes = {"prompts": 54, "repeats": 1, "groups": 3, "grouped": 9, "near_duplicates": 4}
        again.set_setting("split_notes", notes)
    text = show(Project.open(project.folder))._notes.text()

    assert text.startswith("2 rows repeat others and were read once. 1 record has a prompt")
    assert "9 prompts share a passage or nearly all words (4 near-duplicates)" in text
    assert text.endswith("each of the 3 groups is in one split.")


def test_what_all_prompts_begin_with_is_left_out_of_the_table(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = projects.make_record

    def with_instruction(number: int) -> object:
        record = plain(number)
        turns = list(record.messages)
        task = "Answer in Python, with types and a docstring.\n\n"
        turns[-2] = type(turns[-2])("user", task + turns[-2].content)
        return type(record)(tuple(turns), record.category, record.prompt_id)

    monkeypatch.setattr(projects, "make_record", with_instruction)
    page = show(make_data_project(tmp_path / "project"))

    assert column(page, PROMPT)[0].startswith("Merge two sorted lists")
    assert not any("docstring" in text for text in column(page, PROMPT))
    assert any("docstring" in text for text in page.panel.texts())


def test_files_dropped_on_the_page_make_a_new_project(
    browsed: DataPage, qtbot: QtBot, tmp_path: Path
) -> None:
    file = tmp_path / "more.jsonl"
    file.write_text('{"prompt": "a", "response": "b"}\n', encoding="utf-8")
    drop(browsed, file)

    dialog = browsed.findChild(NewProjectDialog)
    assert dialog is not None
    assert dialog.isVisible()
    dialog.close()


def drop(page: DataPage, file: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(file))])
    common = (data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    copy = Qt.DropAction.CopyAction
    page.dragEnterEvent(QDragEnterEvent(QPoint(50, 50), copy, *common))
    page.dropEvent(QDropEvent(QPointF(50, 50), copy, *common))


def test_a_project_without_records_says_what_to_drop(
    show: Show, tmp_path: Path, qtbot: QtBot
) -> None:
    page = show(make_data_project(tmp_path / "project", prompts=0, train=1))
    assert page.table.isVisible()
    project = page.session.project if page.session else None
    assert project is not None
    with project._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM records")
    page._note_changed(frozenset({"records"}))
    qtbot.waitUntil(page._empty.isVisible, timeout=WAIT_MS)
    settle(page, qtbot)

    assert page._empty.action_button().text() == "New project..."
    assert not page.table.isVisible()
    assert page.panel.detail is None


def test_rows_are_fetched_a_page_at_a_time_and_only_some_pages_are_kept(
    tmp_path: Path,
) -> None:
    with make_data_project(tmp_path / "project") as project:
        sample = project.records.page(RecordFilter(), offset=0, limit=1)[0]
        asked: list[int] = []

        def fetch(ids: object) -> list[RecordRow]:
            wanted = list(ids)  # type: ignore[call-overload]
            asked.append(len(wanted))
            return [
                RecordRow(
                    number,
                    sample.record,
                    sample.split,
                    sample.origin,
                    sample.round,
                    sample.status,
                    None,
                    "",
                    "",
                )
                for number in wanted
            ]

        model = RecordModel()
        model.set_source(fetch)
        model.set_ids(array("q", range(PAGE_ROWS * (MAX_PAGES + 5))))
        for row in range(0, model.rowCount(), 50):
            assert model.index(row, PROMPT).data()

    assert asked == [PAGE_ROWS] * (MAX_PAGES + 5)
    assert len(model._pages) == MAX_PAGES


def test_a_long_table_is_browsed_without_holding_the_window_up(
    show: Show, tmp_path: Path, qtbot: QtBot
) -> None:
    page = show(make_data_project(tmp_path / "project", train=20_000))
    assert page.model.rowCount() == 20_024
    click_header(page, PROMPT, qtbot)
    page.table.scrollToBottom()

    took = []
    for row in range(0, 20_000, 997):
        page.model._pages.clear()
        before = time.perf_counter()
        assert page.model.index(row, PROMPT).data()
        took.append(time.perf_counter() - before)

    assert sorted(took)[len(took) // 2] < MOST_FETCH_S


@pytest.mark.parametrize(
    ("width", "height", "scale"), [(1084, 708, 1.0), (964, 608, 1.0), (964, 608, 1.3)]
)
def test_nothing_is_cut_off_and_everything_has_a_name(
    browsed: DataPage, app: QApplication, qtbot: QtBot, width: int, height: int, scale: float
) -> None:
    apply_theme(app, "dark", scale)
    browsed.resize(width, height)
    app.processEvents()
    app.processEvents()

    assert clipped_texts(browsed) == []
    assert unnamed_focusables(browsed) == []
    assert browsed.table.horizontalScrollBar().maximum() == 0
