"""A small table of plain texts: as high as its rows, or scrolling through many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QEvent,
    QModelIndex,
    QPersistentModelIndex,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import QFontMetrics, QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QSizePolicy, QTableView

from llamaduo_gui.gui.theme.fonts import scaled, ui_font
from llamaduo_gui.gui.theme.theme import theme_notifier
from llamaduo_gui.gui.theme.tokens import MEDIUM
from llamaduo_gui.gui.widgets.tables import setup_table

_Index = QModelIndex | QPersistentModelIndex
_CELL_SIDES = 24
_LEAST_NAME = 160
_SHOWN = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole)


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column's header, and whether its cells are numbers, which stand at the right."""

    text: str
    is_number: bool = False


class _TextModel(QAbstractTableModel):
    def __init__(self, columns: Sequence[TextColumn]) -> None:
        super().__init__()
        self.columns = tuple(columns)
        self.rows: list[tuple[str, ...]] = []

    def set_rows(self, rows: Sequence[tuple[str, ...]]) -> None:
        self.beginResetModel()
        self.rows = list(rows)
        self.endResetModel()

    def rowCount(self, _parent: _Index | None = None) -> int:
        return len(self.rows)

    def columnCount(self, _parent: _Index | None = None) -> int:
        return len(self.columns)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._alignment(section)
        return self.columns[section].text if role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        cell = self.rows[index.row()][index.column()]
        if role in _SHOWN:
            return cell
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._alignment(index.column())
        if role == Qt.ItemDataRole.AccessibleTextRole:
            if index.column() == 0:
                return cell
            return f"{self.rows[index.row()][0]}, {self.columns[index.column()].text}: {cell}"
        return None

    def _alignment(self, column: int) -> Qt.AlignmentFlag:
        is_number = self.columns[column].is_number
        side = Qt.AlignmentFlag.AlignRight if is_number else Qt.AlignmentFlag.AlignLeft
        return side | Qt.AlignmentFlag.AlignVCenter


class TextTable(QTableView):
    """Rows of texts with one selected; the first column takes the width the others leave.

    Signals:
        row_selected(int): another row is selected; -1 when there are none.
        row_opened(int): Enter, or a double click.
    """

    row_selected = Signal(int)
    row_opened = Signal(int)

    def __init__(self, name: str, columns: Sequence[TextColumn], *, is_whole: bool = False) -> None:
        """Make an empty table; `is_whole` makes it as high as its rows."""
        super().__init__()
        self._model = _TextModel(columns)
        self._is_whole = is_whole
        self.setModel(self._model)
        setup_table(self, name, stretch_column=None)
        # Names of models differ at their ends.
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        if is_whole:
            self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.selectionModel().currentRowChanged.connect(
            lambda current, _: self.row_selected.emit(current.row())
        )
        self.activated.connect(lambda index: self.row_opened.emit(index.row()))
        self.verticalScrollBar().rangeChanged.connect(lambda *_: self._fit())
        theme_notifier().changed.connect(self._fit)

    def set_rows(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Show these; the selected row stays selected by its first cell, else it is the first."""
        chosen = self.selected_name()
        self._model.set_rows(rows)
        self._fit()
        names = [row[0] for row in rows]
        if names:
            self.select_row(names.index(chosen) if chosen in names else 0)
        else:
            self.row_selected.emit(-1)

    def rows(self) -> list[tuple[str, ...]]:
        """The rows as shown."""
        return list(self._model.rows)

    def select_row(self, row: int) -> None:
        """Select one row."""
        self.setCurrentIndex(self._model.index(row, 0))

    def selected_name(self) -> str:
        """The first cell of the selected row; empty if there is none."""
        row = self.currentIndex().row()
        return self._model.rows[row][0] if 0 <= row < len(self._model.rows) else ""

    def set_column_shown(self, column: int, is_shown: bool) -> None:
        """Show or hide a column; the first takes the room."""
        self.setColumnHidden(column, not is_shown)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the first column the room that is left."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        """Measure again with another font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit()

    def sizeHint(self) -> QSize:
        """Room for the header and every row where it is as high as they are."""
        return QSize(480, self.height()) if self._is_whole else super().sizeHint()

    def _fit(self) -> None:
        if not hasattr(self, "_model"):
            return
        metrics, header = QFontMetrics(ui_font()), QFontMetrics(ui_font("small", MEDIUM))
        room = self.viewport().width()
        shown = [n for n in range(1, len(self._model.columns)) if not self.isColumnHidden(n)]
        for column in shown:
            texts = [metrics.horizontalAdvance(row[column]) for row in self._model.rows]
            width = max(
                [header.horizontalAdvance(self._model.columns[column].text), *texts]
            ) + scaled(_CELL_SIDES)
            self.setColumnWidth(column, width)
            room -= width
        least = scaled(_LEAST_NAME)
        self.setColumnWidth(0, max(least, room))
        if self._is_whole:
            rows = len(self._model.rows) * self.verticalHeader().defaultSectionSize()
            bar = self.horizontalScrollBar().sizeHint().height() if room < least else 0
            height = self.horizontalHeader().sizeHint().height() + rows + bar
            self.setFixedHeight(height + 2 * self.frameWidth() + 4)
