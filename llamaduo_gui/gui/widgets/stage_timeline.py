"""The rounds of the loop as a grid: one row a round, one focusable cell a stage."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QFontMetrics, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QAbstractButton, QGridLayout, QSizePolicy, QVBoxLayout, QWidget

from llamaduo_gui.gui.theme.fonts import scaled, ui_font
from llamaduo_gui.gui.theme.theme import theme_notifier
from llamaduo_gui.gui.theme.tokens import SEMIBOLD
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.page import scroll_area
from llamaduo_gui.gui.widgets.stage_cell import (
    CELL_PADDING,
    CellState,
    RoundRow,
    StageCell,
    StageCellButton,
)

__all__ = ["CellState", "RoundRow", "StageCell", "StageTimeline"]

_COLUMN_GAP = 4


class StageTimeline(QWidget):
    """Rounds x stages; more rounds than `max_visible_rows` scroll under the fixed header."""

    cell_activated = Signal(int, str)

    def __init__(
        self,
        stages: Sequence[tuple[str, str]],
        *,
        max_visible_rows: int = 5,
        name: str = "Rounds and stages",
    ) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self._stages = list(stages)
        self._max_visible_rows = max_visible_rows
        self._rows: list[RoundRow] = []
        self._future: RoundRow | None = None
        self._cells: dict[tuple[int, str], StageCellButton] = {}
        self._grid_cells: list[list[StageCellButton]] = []
        self._tab_cell: StageCellButton | None = None
        self._header, self._header_grid = self._build_header()
        self._content = QWidget()
        self._grid = self._new_grid(self._content)
        self._scroll = scroll_area(self._content, name)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.verticalScrollBar().rangeChanged.connect(self._on_scroll_range)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self._header)
        column.addWidget(self._scroll, 1)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        theme_notifier().changed.connect(self._fit)

    def _new_grid(self, parent: QWidget) -> QGridLayout:
        grid = QGridLayout(parent)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(_COLUMN_GAP)
        grid.setVerticalSpacing(2)
        for column in range(1, len(self._stages) + 1):
            grid.setColumnStretch(column, 1)
        return grid

    def _build_header(self) -> tuple[QWidget, QGridLayout]:
        header = QWidget()
        grid = self._new_grid(header)
        grid.addWidget(Label(), 0, 0)  # an empty column would lose its gap to the next
        for column, (_key, text) in enumerate(self._stages, start=1):
            label = Label(text, "small", tone="text2")
            label.setContentsMargins(CELL_PADDING - 2, 0, 0, 0)
            policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            label.setSizePolicy(policy)
            grid.addWidget(label, 0, column)
        return header, grid

    def set_rows(self, rows: Sequence[RoundRow], future: RoundRow | None = None) -> None:
        """Show these rounds, and below them one row for the rounds that may still come.

        Cells are updated in place where the rounds are the same, so focus stays where it is.
        """
        is_same_shape = [row.number for row in rows] == [row.number for row in self._rows] and (
            future is None
        ) == (self._future is None)
        labels = [row.label for row in (*rows, *([future] if future else []))]
        old_labels = [row.label for row in (*self._rows, *([self._future] if self._future else []))]
        currents = [row.is_current for row in rows] == [row.is_current for row in self._rows]
        self._rows, self._future = list(rows), future
        if is_same_shape and labels == old_labels and currents:
            self._update_in_place()
        else:
            self._rebuild()

    def update_cell(self, round_number: int, stage: str, cell: StageCell) -> None:
        """Show a cell anew; a round or stage that is not shown is ignored."""
        shown = self._cells.get((round_number, stage))
        if shown is not None:
            shown.set_cell(cell)
            self._fit()

    def cell_button(self, round_number: int, stage: str) -> QAbstractButton:
        """The cell of a stage; KeyError if it is not shown."""
        return self._cells[(round_number, stage)]

    def _shown_rows(self) -> list[RoundRow]:
        return [*self._rows, *([self._future] if self._future else [])]

    def _update_in_place(self) -> None:
        for row, cells in zip(self._shown_rows(), self._grid_cells, strict=True):
            for cell, data in zip(cells, row.cells, strict=True):
                cell.set_cell(data)
        self._fit()

    def _rebuild(self) -> None:
        while item := self._grid.takeAt(0):
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self._cells.clear()
        self._grid_cells = []
        for line, row in enumerate(self._shown_rows()):
            is_future = self._future is not None and row is self._future
            label = Label(row.label, tone="text3" if is_future else "text")
            if row.is_current:
                label.set_role("heading")
            self._grid.addWidget(label, line, 0)
            self._grid_cells.append([])
            for column, (stage, data) in enumerate(zip(self._stages, row.cells, strict=True)):
                cell = self._make_cell(row, stage, data)
                self._grid.addWidget(cell, line, column + 1)
                self._grid_cells[-1].append(cell)
        self._set_tab_cell(self._first_tab_cell())
        self._fit()
        QTimer.singleShot(0, self, self._show_current)

    def _make_cell(self, row: RoundRow, stage: tuple[str, str], data: StageCell) -> StageCellButton:
        key, text = stage
        cell = StageCellButton(row.number, key, f"{row.label}, {text}", data)
        self._cells[(row.number, key)] = cell
        cell.clicked.connect(lambda: self._on_clicked(cell))
        cell.moved.connect(lambda rows, columns: self._move_from(cell, rows, columns))
        return cell

    def _first_tab_cell(self) -> StageCellButton | None:
        """The running cell, else the last one with a run, else the first of all."""
        cells = [cell for line in self._grid_cells for cell in line]
        running = [cell for cell in cells if cell.cell.state is CellState.RUN]
        opened = [cell for cell in cells if cell.opens_run()]
        return next(iter(running or opened[-1:] or cells[:1]), None)

    def _set_tab_cell(self, cell: StageCellButton | None) -> None:
        """One Tab stop for the whole grid: the arrow keys do the rest."""
        if self._tab_cell is not None and any(self._tab_cell in line for line in self._grid_cells):
            self._tab_cell.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self._tab_cell = cell
        if cell is not None:
            cell.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def _move_from(self, cell: StageCellButton, rows: int, columns: int) -> None:
        line = next(i for i, cells in enumerate(self._grid_cells) if cell in cells)
        column = self._grid_cells[line].index(cell) + columns
        line += rows
        if 0 <= line < len(self._grid_cells) and 0 <= column < len(self._stages):
            target = self._grid_cells[line][column]
            self._set_tab_cell(target)
            target.setFocus(Qt.FocusReason.TabFocusReason)
            self._scroll.ensureWidgetVisible(target, 0, 4)

    def _on_clicked(self, cell: StageCellButton) -> None:
        self._set_tab_cell(cell)
        if cell.opens_run():
            self.cell_activated.emit(cell.round_number, cell.stage)

    def _fit(self) -> None:
        """Size columns and rows from the texts.

        Columns are equal if all texts fit, else as wide as they need; where even that is too
        narrow, rows get more lines.
        """
        metrics = QFontMetrics(ui_font("body", SEMIBOLD))
        labels = [row.label for row in self._shown_rows()] or ["Round 0"]
        width = max(metrics.horizontalAdvance(label) for label in labels) + 10
        width = max(width, scaled(82))
        widths = self._column_widths(self.width() - width)
        for grid in (self._header_grid, self._grid):
            grid.setColumnMinimumWidth(0, width)
            for column, share in enumerate(widths, start=1):
                grid.setColumnStretch(column, max(1, share))
        height = self._row_height(widths)
        for cell in (cell for cells in self._grid_cells for cell in cells):
            cell.setFixedHeight(height)
        visible = min(len(self._grid_cells), self._max_visible_rows)
        self._scroll.setFixedHeight(visible * (height + 2))
        self.updateGeometry()

    def _column_widths(self, room: int) -> list[int]:
        """Width in px of each stage's column in `room` px beside the round's label."""
        count = len(self._stages)
        room -= count * _COLUMN_GAP
        if self._scroll.verticalScrollBar().maximum() > 0:
            room -= self._scroll.verticalScrollBar().sizeHint().width()
        needs = [0] * count
        for cells in self._grid_cells:
            for column, cell in enumerate(cells):
                needs[column] = max(needs[column], cell.text_width() + cell.side_width() + 1)
        if not any(needs) or max(needs) <= room // count:
            return [max(1, room // count)] * count
        return [max(1, room * need // sum(needs)) for need in needs]

    def _row_height(self, widths: list[int]) -> int:
        lines = [
            cell.lines_at(width)
            for cells in self._grid_cells
            for cell, width in zip(cells, widths, strict=True)
        ]
        text = max((pair[0] for pair in lines), default=1)
        detail = max((pair[1] for pair in lines), default=1)
        return StageCellButton.height_for(text, detail)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the texts to the new width."""
        super().resizeEvent(event)
        self._fit()

    def showEvent(self, event: QShowEvent) -> None:
        """Scroll to the current round once the cells have their places."""
        super().showEvent(event)
        QTimer.singleShot(0, self, self._show_current)

    def _show_current(self) -> None:
        current = next((row for row in self._rows if row.is_current), None)
        if current is not None:
            cell = self._cells[(current.number, self._stages[0][0])]
            self._grid.activate()
            self._scroll.ensureWidgetVisible(cell, 0, cell.height())

    def _on_scroll_range(self, _low: int, high: int) -> None:
        """Keep the header's columns over the cells when the scroll bar takes its room."""
        bar = self._scroll.verticalScrollBar().sizeHint().width() if high > 0 else 0
        self._header_grid.setContentsMargins(0, 0, bar, 0)
