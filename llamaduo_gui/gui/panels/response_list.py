"""The list of responses: search, order, and one line a response with its two scores."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, Qt, QTimer, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QPainter, QResizeEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.gui.models.response_model import ResponseModel
from llamaduo_gui.gui.models.response_view import Order, ResponseList
from llamaduo_gui.gui.theme.fonts import mono_font, scaled, ui_font
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import combo_box
from llamaduo_gui.gui.widgets.filter_bar import SEARCH_DELAY_MS, SearchField
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.tables import setup_table

ORDERS: Sequence[tuple[str, Order]] = (
    ("Lowest first", "lowest"),
    ("Highest first", "highest"),
    ("Unscored only", "unscored"),
)
_SIDE = 6
_SHOWN_ROWS = 3

_Index = QModelIndex | QPersistentModelIndex


class ResponsePicker(QWidget):
    """Search and order above the table; the owner fills it with `set_list`.

    Signals:
        wanted(): the search or the order changed.
        opened(int): the response of this candidate id is selected; 0 for none.
    """

    wanted = Signal()
    opened = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.search = SearchField("Search")
        self.search.setAccessibleName("Search responses and judges' words")
        self.order = combo_box(ORDERS, "Order of the responses")
        self.model = ResponseModel()
        self.table = _Table(self.model)
        self._nothing = Label("", tone="text2", wrap=True)
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._nothing.hide()
        top = QHBoxLayout()
        top.setSpacing(SPACE.s)
        top.addWidget(self.search, 1)
        top.addWidget(self.order)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.xs)
        column.addLayout(top)
        column.addWidget(self.table, 1)
        column.addWidget(self._nothing, 1)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SEARCH_DELAY_MS)
        self._timer.timeout.connect(self.wanted)
        self.search.textChanged.connect(lambda _: self._timer.start())
        self.order.currentIndexChanged.connect(lambda _: self.wanted.emit())
        self.table.selectionModel().currentRowChanged.connect(self._open)
        self._total = 0

    def search_text(self) -> str:
        """The words searched for."""
        return self.search.text().strip()

    def order_key(self) -> Order:
        """The chosen order."""
        key: Order = self.order.currentData()
        return key

    def set_list(self, found: ResponseList) -> None:
        """Show these rows; the response that was open stays open where it is still listed."""
        before = self.model.response(self.table.currentIndex().row())
        self._total = found.total
        self.model.set_list(found)
        self.table.setVisible(bool(found.rows))
        self._nothing.setVisible(not found.rows)
        self._nothing.setText(self._why_empty())
        if not found.rows:
            self.opened.emit(0)
            return
        row = self.model.row_of(before.candidate_id) if before else None
        self.table.setCurrentIndex(self.model.index(row or 0, 1))

    def place_text(self) -> str:
        """Which row of how many is open, as in `12 of 400`, or of those found."""
        rows = self.model.rowCount()
        row = self.table.currentIndex().row()
        place = f"{row + 1:,} of {rows:,}" if row >= 0 else f"{rows:,}"
        return place if rows == self._total else f"{place} found"

    def step(self, by: int) -> None:
        """Open the next (1) or previous (-1) response."""
        row = self.table.currentIndex().row() + by
        if 0 <= row < self.model.rowCount():
            self.table.setCurrentIndex(self.model.index(row, 1))

    def _why_empty(self) -> str:
        if self.search_text():
            return "No response matches the search."
        if self.order_key() == "unscored":
            return "Every response has its scores."
        return "No response of this model is judged yet."

    def _open(self, current: QModelIndex, _previous: QModelIndex) -> None:
        found = self.model.response(current.row()) if current.isValid() else None
        if found is not None:
            self.opened.emit(found.candidate_id)


class _Table(QTableView):
    """Fixed columns of numbers; the prompt takes the rest."""

    def __init__(self, model: ResponseModel) -> None:
        super().__init__()
        self.setModel(model)
        setup_table(self, "Responses", stretch_column=None, compact=True)
        self.setItemDelegate(_LineDelegate(self))
        self.setSelectionMode(QTableView.SelectionMode.SingleSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.horizontalHeader().setMinimumSectionSize(20)
        self.verticalScrollBar().rangeChanged.connect(self._fit_later)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the prompt the room that is left."""
        super().resizeEvent(event)
        self._fit_later()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Leave Enter to the page; arrows, J and K move."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            event.ignore()
        else:
            super().keyPressEvent(event)

    def _fit_later(self) -> None:
        QTimer.singleShot(0, self, self._fit)

    def _fit(self) -> None:
        rows = self.verticalHeader().defaultSectionSize() * _SHOWN_ROWS
        self.setMinimumHeight(self.horizontalHeader().sizeHint().height() + rows + 4)
        identifier = QFontMetrics(mono_font("caption")).horizontalAdvance("m" * 6)
        caption = QFontMetrics(ui_font("caption"))
        widths = [identifier, 0, *map(caption.horizontalAdvance, ("Precision", "Similarity"))]
        widths = [width + 2 * _SIDE + 4 for width in widths]
        widths[1] = max(scaled(60), self.viewport().width() - sum(widths) + widths[1])
        for column, width in enumerate(widths):
            self.setColumnWidth(column, width)


class _LineDelegate(QStyledItemDelegate):
    """Draws a cell in the model's own font and colour, which a style sheet would override."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: _Index) -> None:
        """Draw one cell."""
        painter.save()
        _paint_ground(painter, option)
        font = index.data(Qt.ItemDataRole.FontRole)
        painter.setFont(font)
        painter.setPen(index.data(Qt.ItemDataRole.ForegroundRole))
        room = QRect(option.rect).adjusted(_SIDE, 0, -_SIDE, 0)
        text = QFontMetrics(font).elidedText(
            str(index.data() or ""), Qt.TextElideMode.ElideRight, room.width()
        )
        painter.drawText(room, int(index.data(Qt.ItemDataRole.TextAlignmentRole)), text)
        painter.restore()


def _paint_ground(painter: QPainter, option: QStyleOptionViewItem) -> None:
    if option.state & QStyle.StateFlag.State_Selected:
        painter.fillRect(option.rect, color("accent_soft"))
    elif option.state & QStyle.StateFlag.State_MouseOver:
        painter.fillRect(option.rect, color("raised"))
