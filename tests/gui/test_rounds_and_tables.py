"""The rounds grid, the table of scores and the keys that all tables share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QApplication, QTableView, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.theme.tokens import LIGHT
from llamaduo_gui.gui.widgets.interval_delegate import Axis
from llamaduo_gui.gui.widgets.score_table import ScoreColumn, ScoreRow, ScoreTable
from llamaduo_gui.gui.widgets.stage_timeline import CellState, RoundRow, StageCell, StageTimeline
from llamaduo_gui.gui.widgets.tables import selection_as_tsv, setup_table
from llamaduo_gui.gui.widgets.wording import Interval
from tests.gui.checks import picture, share_of_color, unnamed_focusables

Show = Callable[..., QWidget]
STAGES = [("synthesize", "Synthesise"), ("finetune", "Fine-tune"), ("judge", "Judge")]
WAITING = StageCell(CellState.WAIT, "\u2014")
COLUMNS = [
    ScoreColumn("mean", "Mean"),
    ScoreColumn("coverage_50", "Coverage@50"),
    ScoreColumn("p_match", "P-Match", (0, 110), 90.0),
]


def make_rows(count: int, *, running: int | None = None) -> list[RoundRow]:
    rows = []
    for number in range(count):
        cells = [
            StageCell(CellState.DONE, "1,742 of 2,000 kept", "$0.94 · 9 min"),
            StageCell(CellState.DONE, "Eval loss 0.94", "13 min"),
            StageCell(CellState.NOT_MATCHED, "78.6 (75.3\u201381.7)", "precision"),
        ]
        if number == running:
            cells[1:] = [StageCell(CellState.RUN, "Step 412 of 690", "", 412, 690), WAITING]
        rows.append(RoundRow(number, f"Round {number}", tuple(cells), number == running))
    return rows


@pytest.fixture
def timeline(app: QApplication, qtbot: QtBot) -> StageTimeline:
    grid = StageTimeline(STAGES)
    qtbot.addWidget(grid)
    future = RoundRow(3, "Rounds 3\u20135", (StageCell(CellState.WAIT, "If not matched"),) * 3)
    grid.set_rows(make_rows(3, running=2), future)
    return grid


def test_a_cell_says_round_stage_state_and_words(timeline: StageTimeline) -> None:
    names = [timeline.cell_button(2, key).accessibleName() for key, _text in STAGES]
    assert names == [
        "Round 2, Synthesise: done, 1,742 of 2,000 kept, $0.94 · 9 min",
        "Round 2, Fine-tune: running, Step 412 of 690",
        "Round 2, Judge: waiting",
    ]
    assert unnamed_focusables(timeline) == []


def test_enter_space_and_click_open_the_run_of_a_cell(
    timeline: StageTimeline, shown: Show, qtbot: QtBot
) -> None:
    shown(timeline, 900, 300)
    cell = timeline.cell_button(1, "judge")
    for press in (
        lambda: qtbot.keyClick(cell, Qt.Key.Key_Return),
        lambda: qtbot.keyClick(cell, Qt.Key.Key_Space),
        lambda: qtbot.mouseClick(cell, Qt.MouseButton.LeftButton),
    ):
        with qtbot.waitSignal(timeline.cell_activated) as heard:
            press()
        assert heard.args == [1, "judge"]


def test_a_cell_that_waits_opens_nothing(
    timeline: StageTimeline, shown: Show, qtbot: QtBot
) -> None:
    shown(timeline, 900, 300)
    cell = timeline.cell_button(2, "judge")
    with qtbot.assertNotEmitted(timeline.cell_activated):
        qtbot.keyClick(cell, Qt.Key.Key_Return)
        qtbot.mouseClick(cell, Qt.MouseButton.LeftButton)


def test_the_grid_is_one_tab_stop_at_the_running_cell_and_arrows_move_in_it(
    timeline: StageTimeline, shown: Show, qtbot: QtBot, app: QApplication
) -> None:
    shown(timeline, 900, 300)
    running = timeline.cell_button(2, "finetune")
    stops = [
        cell.accessibleName()
        for cells in timeline._grid_cells
        for cell in cells
        if cell.focusPolicy() & Qt.FocusPolicy.TabFocus
    ]
    assert stops == [running.accessibleName()]
    running.setFocus()
    qtbot.keyClick(running, Qt.Key.Key_Left)
    assert timeline.cell_button(2, "synthesize").hasFocus()
    qtbot.keyClick(timeline.cell_button(2, "synthesize"), Qt.Key.Key_Up)
    assert timeline.cell_button(1, "synthesize").hasFocus()
    qtbot.keyClick(timeline.cell_button(1, "synthesize"), Qt.Key.Key_Left)
    assert timeline.cell_button(1, "synthesize").hasFocus()


def test_new_numbers_leave_the_focus_where_it_is(timeline: StageTimeline, shown: Show) -> None:
    shown(timeline, 900, 300)
    cell = timeline.cell_button(2, "finetune")
    cell.setFocus()
    timeline.set_rows(make_rows(3, running=2), timeline._future)
    timeline.update_cell(2, "finetune", StageCell(CellState.RUN, "Step 500 of 690", "", 500, 690))
    assert timeline.cell_button(2, "finetune") is cell
    assert cell.hasFocus()
    assert "Step 500" in cell.accessibleName()


def test_a_running_cell_draws_its_progress(timeline: StageTimeline, shown: Show) -> None:
    shown(timeline, 900, 300)
    cell = timeline.cell_button(2, "finetune")
    early = picture(cell)
    timeline.update_cell(2, "finetune", StageCell(CellState.RUN, "Step 412 of 690", "", 690, 690))
    assert share_of_color(picture(cell), LIGHT.fill, 1) > share_of_color(early, LIGHT.fill, 1) > 0


def test_the_current_round_is_seen_among_many(app: QApplication, shown: Show, qtbot: QtBot) -> None:
    grid = StageTimeline(STAGES, max_visible_rows=4)
    shown(grid, 900, 300)
    grid.set_rows(make_rows(30, running=29))
    cell = grid.cell_button(29, "finetune")

    def is_seen() -> bool:
        top = cell.mapTo(grid, cell.rect().topLeft()).y()
        return 0 < top <= grid.height() - cell.height() + 2

    qtbot.waitUntil(is_seen, timeout=2000)
    assert grid.sizeHint().height() < 6 * cell.height()


@pytest.mark.parametrize("scale", [1.0, 1.3])
@pytest.mark.parametrize("width", [1014, 866, 700])
def test_narrow_cells_give_their_text_more_lines_and_cut_nothing(
    timeline: StageTimeline, shown: Show, app: QApplication, width: int, scale: float
) -> None:
    apply_theme(app, "light", scale)
    shown(timeline, width, 400)
    for cell in (cell for cells in timeline._grid_cells for cell in cells):
        lines, detail_lines = cell.lines_at(cell.width())
        detail = detail_lines if cell.cell.detail or cell.cell.total else 0
        assert cell.height() >= cell.height_for(lines, detail) - 8


def test_header_and_cells_stand_in_the_same_columns(
    timeline: StageTimeline, shown: Show, app: QApplication
) -> None:
    timeline.set_rows(make_rows(12, running=2))
    shown(timeline, 800, 300)
    app.processEvents()
    for column, (key, _text) in enumerate(STAGES, start=1):
        item = timeline._header_grid.itemAtPosition(0, column)
        label = item.widget() if item else None
        cell = timeline.cell_button(2, key)
        assert label is not None
        assert abs(label.x() - cell.mapTo(timeline, cell.rect().topLeft()).x()) <= 1


def make_scores() -> list[ScoreRow]:
    return [
        ScoreRow("service", "Service LLM", (Interval(84.5, 83.1, 85.9, 400), None, "reference")),
        ScoreRow("base", "Untuned base", (Interval(48.4, 45.7, 51.3), None, Interval(57.3))),
        ScoreRow(
            "gguf",
            "GGUF Q4_K_M",
            (Interval(79.1, 77.6, 80.8), None, Interval(93.7, 92.1, 95.2)),
            is_highlighted=True,
        ),
    ]


@pytest.fixture
def scores(app: QApplication, shown: Show) -> ScoreTable:
    table = ScoreTable()
    table.set_scores(COLUMNS, make_scores())
    shown(table, 700, 400)
    return table


def test_a_column_without_any_value_is_left_out(scores: ScoreTable) -> None:
    model = scores.model()
    headers = [model.headerData(i, Qt.Orientation.Horizontal) for i in range(model.columnCount())]
    assert headers == ["Model", "Mean", "P-Match"]


def test_a_score_is_read_out_with_model_interval_and_n(scores: ScoreTable) -> None:
    role = Qt.ItemDataRole.AccessibleTextRole
    model = scores.model()
    assert model.index(0, 1).data(role) == (
        "Service LLM, Mean: 84.5, 95 % interval 83.1 to 85.9, n 400"
    )
    assert model.index(0, 2).data(role) == "Service LLM, P-Match: reference"
    assert model.index(1, 2).data(role) == "Untuned base, P-Match: 57.3"


def test_sorting_keeps_cells_without_a_number_last(scores: ScoreTable) -> None:
    for order in (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder):
        scores.sortByColumn(2, order)
        assert scores.rows()[-1].name == "Service LLM"
    scores.sortByColumn(2, Qt.SortOrder.DescendingOrder)
    assert [row.kind for row in scores.rows()] == ["gguf", "base", "service"]
    scores.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    assert [row.kind for row in scores.rows()] == ["gguf", "service", "base"]


def test_the_copied_table_has_bounds_in_columns_of_their_own(
    scores: ScoreTable, app: QApplication
) -> None:
    scores.copy_tsv()
    lines = app.clipboard().text().split("\n")
    assert lines[0].split("\t")[:5] == ["Model", "Mean", "Mean low", "Mean high", "Mean n"]
    assert lines[1].split("\t") == [
        *("Service LLM", "84.5", "83.1", "85.9", "400"),
        *("reference", "", "", ""),
    ]


def test_all_cells_take_two_lines_where_the_widest_does_not_fit_on_one(
    scores: ScoreTable, app: QApplication
) -> None:
    one_line = scores.rowHeight(0)
    assert not scores._delegate.is_two_lines
    scores.resize(360, 400)
    app.processEvents()
    assert scores._delegate.is_two_lines
    assert scores.rowHeight(0) > one_line


def test_columns_are_never_narrower_than_their_numbers(
    scores: ScoreTable, app: QApplication
) -> None:
    apply_theme(app, "light", 1.3)
    scores.resize(250, 400)
    app.processEvents()
    texts = [("84.5", "(83.1\u201385.9)")]
    assert scores.columnWidth(1) >= scores._delegate.least_width(texts)
    assert scores.horizontalScrollBar().maximum() > 0


def test_the_table_is_as_high_as_its_rows(scores: ScoreTable, app: QApplication) -> None:
    assert scores.verticalScrollBar().maximum() == 0
    last = scores.visualRect(scores.model().index(2, 0))
    assert last.bottom() <= scores.viewport().height()
    assert scores.viewport().height() - last.bottom() < 12


def test_choosing_a_row_is_announced(scores: ScoreTable, qtbot: QtBot) -> None:
    with qtbot.waitSignal(scores.row_selected) as heard:
        scores.selectRow(2)
    assert heard.args == [2]


def test_each_model_is_drawn_in_its_own_colour(scores: ScoreTable) -> None:
    drawn = picture(scores)
    for ink in (LIGHT.service, LIGHT.base, LIGHT.gguf):
        assert share_of_color(drawn, ink, step=1) > 0.0001, ink


@pytest.mark.parametrize(
    ("value", "share"), [(0, 0.0), (50, 0.5), (100, 1.0), (-3, 0.0), (120, 1.0)]
)
def test_a_value_outside_the_axis_stays_on_its_end(value: float, share: float) -> None:
    assert Axis(0, 100).position(value) == share


@pytest.fixture
def table(app: QApplication, shown: Show) -> QTableView:
    model = QStandardItemModel(0, 2)
    model.setHorizontalHeaderLabels(["Prompt", "Precision"])
    for number in range(20):
        model.appendRow([QStandardItem(f"t-{number}\tx\ny"), QStandardItem(str(number))])
    view = QTableView()
    model.setParent(view)
    view.setModel(model)
    setup_table(view, "Responses")
    shown(view, 400, 300)
    return view


def test_j_and_k_move_through_a_table(table: QTableView, qtbot: QtBot) -> None:
    table.selectRow(0)
    for _ in range(2):
        qtbot.keyClick(table, Qt.Key.Key_J)
    assert table.currentIndex().row() == 2
    qtbot.keyClick(table, Qt.Key.Key_K)
    assert table.currentIndex().row() == 1


def test_the_selected_rows_are_copied_as_tsv_with_their_header(
    table: QTableView, qtbot: QtBot, app: QApplication
) -> None:
    table.selectRow(3)
    qtbot.keyClick(table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert app.clipboard().text() == "Prompt\tPrecision\nt-3 x y\t3"
    table.clearSelection()
    assert selection_as_tsv(table).count("\n") == 20


def test_rows_of_a_table_grow_with_the_text(table: QTableView, app: QApplication) -> None:
    before = table.rowHeight(0)
    apply_theme(app, "light", 1.3)
    assert table.rowHeight(0) > before
