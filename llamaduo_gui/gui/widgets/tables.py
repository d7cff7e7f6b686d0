"""What all tables share: looks, row height from the font, keys, and copying as TSV."""

from __future__ import annotations

from PySide6.QtCore import QAbstractItemModel, QEvent, QModelIndex, QObject, Qt
from PySide6.QtGui import QFontMetrics, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QTableView

from llamaduo_gui.gui.theme.fonts import ui_font
from llamaduo_gui.gui.theme.theme import theme_notifier


def setup_table(
    view: QTableView, name: str, *, stretch_column: int | None = 0, compact: bool = False
) -> None:
    """Give a table the window's looks and keys; `stretch_column` takes the spare width.

    Columns are never sized to their contents: with 100k rows that took 458 ms to open.
    J and K go down and up, Ctrl+C copies the selected rows as TSV. `compact` is for a list in
    a narrow card. Set the model first.
    """
    view.setAccessibleName(name)
    view.setProperty("density", "compact" if compact else "normal")
    view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    view.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    view.setShowGrid(False)
    view.setWordWrap(False)
    view.setTabKeyNavigation(False)
    view.setFrameShape(QTableView.Shape.NoFrame)
    view.verticalHeader().hide()
    header = view.horizontalHeader()
    header.setHighlightSections(False)
    header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
    header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    if stretch_column is not None and view.model() is not None:
        header.setSectionResizeMode(stretch_column, QHeaderView.ResizeMode.Stretch)
    _TableKeys(view)


class _TableKeys(QObject):
    """Keys and row height of one table; owned by the table."""

    def __init__(self, view: QTableView) -> None:
        super().__init__(view)
        self._view = view
        view.installEventFilter(self)
        theme_notifier().changed.connect(self._fit_rows)
        self._fit_rows()

    def _fit_rows(self) -> None:
        header = self._view.verticalHeader()
        header.setMinimumSectionSize(8)
        header.setDefaultSectionSize(QFontMetrics(ui_font()).height() + 10)

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
        if event.type() != QEvent.Type.KeyPress or not isinstance(event, QKeyEvent):
            return False
        if event.matches(QKeySequence.StandardKey.Copy):
            QApplication.clipboard().setText(selection_as_tsv(self._view))
            return True
        steps = {Qt.Key.Key_J: 1, Qt.Key.Key_K: -1}
        step = steps.get(Qt.Key(event.key()))
        if step is None or event.modifiers() != Qt.KeyboardModifier.NoModifier:
            return False
        self._move(step)
        return True

    def _move(self, step: int) -> None:
        current = self._view.currentIndex()
        row = current.row() + step if current.isValid() else 0
        if 0 <= row < self._view.model().rowCount():
            self._view.setCurrentIndex(self._view.model().index(row, max(0, current.column())))


def selection_as_tsv(view: QTableView) -> str:
    """The selected rows, or all rows if none is, as tab-separated text with a header line."""
    rows = sorted({index.row() for index in view.selectionModel().selectedIndexes()})
    return rows_as_tsv(view.model(), rows or list(range(view.model().rowCount())))


def rows_as_tsv(model: QAbstractItemModel, rows: list[int]) -> str:
    """Rows of a model as tab-separated text; tabs and line breaks inside cells become spaces."""
    columns = range(model.columnCount())
    horizontal = Qt.Orientation.Horizontal
    lines = [[model.headerData(column, horizontal) for column in columns]]
    lines += [[_cell_text(model.index(row, column)) for column in columns] for row in rows]
    return "\n".join("\t".join(_one_line(cell) for cell in line) for line in lines)


def _cell_text(index: QModelIndex) -> object:
    return index.data(Qt.ItemDataRole.DisplayRole)


def _one_line(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())
