"""The table of scores: models by rows, each number over its interval on a shared axis."""

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
from PySide6.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QSizePolicy, QTableView

from llamaduo_gui.gui.theme.fonts import ui_font
from llamaduo_gui.gui.theme.theme import theme_notifier
from llamaduo_gui.gui.theme.tokens import MEDIUM
from llamaduo_gui.gui.widgets.interval_delegate import (
    AXIS_ROLE,
    HIGHLIGHT_ROLE,
    INTERVAL_ROLE,
    KIND_ROLE,
    Axis,
    IntervalDelegate,
    ModelNameDelegate,
)
from llamaduo_gui.gui.widgets.tables import setup_table
from llamaduo_gui.gui.widgets.wording import Interval, format_interval, format_number, format_range

_Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """One statistic: its name, the axis its strips share, and a line to reach, if any."""

    key: str
    text: str
    axis: tuple[float, float] = (0.0, 100.0)
    reference: float | None = None
    decimals: int = 1


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One model; a cell is an interval, a word such as "reference", or None if unknown."""

    kind: str
    name: str
    cells: tuple[Interval | str | None, ...]
    is_highlighted: bool = False


class _ScoreModel(QAbstractTableModel):
    def __init__(self) -> None:
        super().__init__()
        self.columns: list[ScoreColumn] = []
        self.rows: list[ScoreRow] = []

    def set_scores(self, columns: Sequence[ScoreColumn], rows: Sequence[ScoreRow]) -> None:
        """Take new scores; a column without any value is dropped."""
        self.beginResetModel()
        kept = [i for i in range(len(columns)) if any(row.cells[i] is not None for row in rows)]
        self.columns = [columns[i] for i in kept]
        self.rows = [
            ScoreRow(row.kind, row.name, tuple(row.cells[i] for i in kept), row.is_highlighted)
            for row in rows
        ]
        self.endResetModel()

    def rowCount(self, _parent: _Index | None = None) -> int:
        return len(self.rows)

    def columnCount(self, _parent: _Index | None = None) -> int:
        return len(self.columns) + 1

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if section else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.DisplayRole:
            return self.columns[section - 1].text if section else "Model"
        return None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = self.rows[index.row()]
        if role == KIND_ROLE:
            return row.kind
        if role == HIGHLIGHT_ROLE:
            return row.is_highlighted
        if index.column() == 0:
            wanted = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole)
            return row.name if role in wanted else None
        return self._score(row, index.column() - 1, role)

    def _score(self, row: ScoreRow, column: int, role: int) -> Any:
        cell, spec = row.cells[column], self.columns[column]
        if role == INTERVAL_ROLE:
            return cell if isinstance(cell, Interval) else None
        if role == AXIS_ROLE:
            return Axis(*spec.axis, spec.reference, spec.decimals)
        if role == Qt.ItemDataRole.DisplayRole:
            if isinstance(cell, Interval):
                return format_interval(cell, spec.decimals)
            return cell or "\u2014"
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{row.name}, {spec.text}: {_spoken(cell, spec)}"
        if role == Qt.ItemDataRole.ToolTipRole and isinstance(cell, Interval):
            return f"{row.name}, {spec.text}: {_spoken(cell, spec)}"
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Order the rows by name or by estimate, cells without a number last."""
        is_down = order == Qt.SortOrder.DescendingOrder
        self.layoutAboutToBeChanged.emit()
        if column == 0:
            self.rows.sort(key=lambda row: row.name.casefold(), reverse=is_down)
        else:
            sign = -1 if is_down else 1
            self.rows.sort(key=lambda row: _sort_key(row.cells[column - 1], sign))
        self.layoutChanged.emit()


def _sort_key(cell: Interval | str | None, sign: int) -> tuple[bool, float]:
    if isinstance(cell, Interval):
        return False, sign * cell.estimate
    return True, 0.0


def _spoken(cell: Interval | str | None, column: ScoreColumn) -> str:
    if not isinstance(cell, Interval):
        return cell or "not measured"
    words = format_number(cell.estimate, column.decimals)
    if cell.low is not None and cell.high is not None:
        low, high = (format_number(v, column.decimals) for v in (cell.low, cell.high))
        words += f", 95 % interval {low} to {high}"
    return words + (f", n {cell.n:,}" if cell.n is not None else "")


class ScoreTable(QTableView):
    """Scores with their intervals; as high as its rows, and one layout for all cells."""

    row_selected = Signal(int)

    def __init__(self, name: str = "Scores") -> None:
        super().__init__()
        self._model = _ScoreModel()
        self.setModel(self._model)
        self._delegate = IntervalDelegate(self)
        self.setItemDelegate(self._delegate)
        self._names = ModelNameDelegate(self)
        self.setItemDelegateForColumn(0, self._names)
        setup_table(self, name, stretch_column=None)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWordWrap(False)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.setSortingEnabled(True)
        self.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.DescendingOrder)
        self.horizontalHeader().setSortIndicatorClearable(True)
        self.selectionModel().currentRowChanged.connect(self._on_row)
        theme_notifier().changed.connect(self._fit)

    def set_scores(self, columns: Sequence[ScoreColumn], rows: Sequence[ScoreRow]) -> None:
        """Show these scores."""
        self._model.set_scores(columns, rows)
        self._fit()

    def rows(self) -> list[ScoreRow]:
        """The rows in the order shown."""
        return list(self._model.rows)

    def tsv(self) -> str:
        """All rows as tab-separated text; estimate and bounds are columns of their own."""
        lines = [["Model", *self._tsv_headers()]]
        lines += [[row.name, *self._tsv_cells(row)] for row in self._model.rows]
        return "\n".join("\t".join(cells) for cells in lines)

    def copy_tsv(self) -> None:
        """Put `tsv()` on the clipboard."""
        QApplication.clipboard().setText(self.tsv())

    def _tsv_headers(self) -> list[str]:
        parts = ("", " low", " high", " n")
        return [f"{column.text}{part}" for column in self._model.columns for part in parts]

    def _tsv_cells(self, row: ScoreRow) -> list[str]:
        out: list[str] = []
        for cell in row.cells:
            if isinstance(cell, Interval):
                numbers = (cell.estimate, cell.low, cell.high, cell.n)
                out += ["" if number is None else f"{number:.6g}" for number in numbers]
            else:
                out += [cell or "", "", "", ""]
        return out

    def _on_row(self, current: QModelIndex, _previous: QModelIndex) -> None:
        if current.isValid():
            self.row_selected.emit(current.row())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose one line or two for the numbers of every cell."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        """Measure again with another font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit()

    def _fit(self) -> None:
        if not hasattr(self, "_delegate"):
            return
        name_width = self._names.width_for([row.name for row in self._model.rows])
        header = self.horizontalHeader()
        header.resizeSection(0, name_width)
        room = self.viewport().width() - name_width
        total = self._fit_columns(room)
        self.verticalHeader().setDefaultSectionSize(self._delegate.row_height())
        height = header.sizeHint().height() + len(self._model.rows) * self._delegate.row_height()
        if total > room:
            height += self.horizontalScrollBar().sizeHint().height()
        self.setFixedHeight(height + 2 * self.frameWidth() + 4)

    def _fit_columns(self, room: int) -> int:
        """Share `room` px among the score columns so that nothing is cut; returns what it took.

        Equal widths if all fit, else by need; more than `room` scrolls.
        """
        texts = [
            (format_number(cell.estimate, spec.decimals), format_range(cell, spec.decimals))
            for row in self._model.rows
            for cell, spec in zip(row.cells, self._model.columns, strict=True)
            if isinstance(cell, Interval)
        ]
        count = max(1, len(self._model.columns))
        metrics = QFontMetrics(ui_font("small", MEDIUM))
        number = self._delegate.least_width(texts)
        needs = [
            max(number, metrics.horizontalAdvance(spec.text) + 20) for spec in self._model.columns
        ]
        spare = room - sum(needs)
        if max(needs, default=0) <= room // count:
            widths = [room // count] * len(needs)
        else:
            widths = [need + max(0, spare) // count for need in needs]
        self._delegate.choose_layout(texts, min(widths, default=0))
        for column, width in enumerate(widths, start=1):
            self.horizontalHeader().resizeSection(column, width)
        return sum(widths)

    def sizeHint(self) -> QSize:
        """Room for the header and every row."""
        return QSize(480, self.height())
