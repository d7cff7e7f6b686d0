"""Paints a number with its interval over a strip on an axis that a column's rows share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from llamaduo_gui.gui.theme.fonts import scaled, ui_font
from llamaduo_gui.gui.theme.series import paint_marker, series_style
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import SEMIBOLD
from llamaduo_gui.gui.widgets.wording import Interval, format_number, format_range

INTERVAL_ROLE = Qt.ItemDataRole.UserRole + 101
AXIS_ROLE = Qt.ItemDataRole.UserRole + 102
KIND_ROLE = Qt.ItemDataRole.UserRole + 103
HIGHLIGHT_ROLE = Qt.ItemDataRole.UserRole + 104

_Index = QModelIndex | QPersistentModelIndex
_SIDE = 10
_GAP = 5


@dataclass(frozen=True, slots=True)
class Axis:
    """The range a column's strips share, a value to reach, and the decimals shown."""

    low: float = 0.0
    high: float = 100.0
    reference: float | None = None
    decimals: int = 1

    def position(self, value: float) -> float:
        """Share of the axis (0..1) at which `value` lies, held inside it."""
        span = self.high - self.low
        return min(1.0, max(0.0, (value - self.low) / span)) if span > 0 else 0.0


def paint_row_background(painter: QPainter, option: QStyleOptionViewItem, *, strong: bool) -> None:
    """Fill a cell as selected, highlighted or pointed at, and draw the line above its row."""
    is_selected = bool(option.state & QStyle.StateFlag.State_Selected)
    if is_selected or strong:
        painter.fillRect(option.rect, color("accent_soft"))
    elif option.state & QStyle.StateFlag.State_MouseOver:
        painter.fillRect(option.rect, color("raised"))
    painter.setPen(color("border"))
    painter.drawLine(option.rect.bottomLeft(), option.rect.bottomRight())


class IntervalDelegate(QStyledItemDelegate):
    """Draws INTERVAL_ROLE on AXIS_ROLE in the colour of KIND_ROLE; other cells as words.

    Every cell of a table has the same layout: `choose_layout` decides for all of them whether
    the interval fits beside its estimate or goes below it.
    """

    def __init__(self, parent: object = None) -> None:
        super().__init__(parent)  # type: ignore[arg-type]
        self._two_lines = False

    def choose_layout(self, texts: Sequence[tuple[str, str]], column_width: int) -> None:
        """Take two lines if the widest (estimate, interval) does not fit `column_width` px."""
        bold, plain = self._metrics()
        widths = [
            bold.horizontalAdvance(estimate) + _GAP + plain.horizontalAdvance(interval)
            for estimate, interval in texts
        ]
        self._two_lines = max(widths, default=0) + 2 * _SIDE > column_width

    def least_width(self, texts: Sequence[tuple[str, str]]) -> int:
        """Width in px below which even two lines would be cut."""
        bold, plain = self._metrics()
        widths = [
            max(bold.horizontalAdvance(estimate), plain.horizontalAdvance(interval))
            for estimate, interval in texts
        ]
        return max(widths, default=0) + 2 * _SIDE + 2

    @property
    def is_two_lines(self) -> bool:
        """Whether estimate and interval stand on lines of their own."""
        return self._two_lines

    def row_height(self) -> int:
        """Height in px of a row in the layout chosen."""
        bold, plain = self._metrics()
        text = bold.height() + (plain.height() if self._two_lines else 0)
        return text + scaled(14) + 16

    def sizeHint(self, _option: QStyleOptionViewItem, _index: _Index) -> QSize:
        """A cell of the layout chosen."""
        return QSize(scaled(110), self.row_height())

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: _Index) -> None:
        """Draw one cell."""
        painter.save()
        paint_row_background(painter, option, strong=bool(index.data(HIGHLIGHT_ROLE)))
        interval = index.data(INTERVAL_ROLE)
        room = QRectF(option.rect).adjusted(_SIDE, 8, -_SIDE, -8)
        if isinstance(interval, Interval):
            axis = index.data(AXIS_ROLE) or Axis()
            top = self._paint_numbers(painter, room, interval, axis.decimals)
            strip = QRectF(room.left(), top, room.width(), room.bottom() - top)
            self._paint_strip(painter, strip, interval, axis, index.data(KIND_ROLE))
        else:
            painter.setFont(ui_font())
            painter.setPen(color("text2"))
            align = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(room, align, str(index.data(Qt.ItemDataRole.DisplayRole) or ""))
        painter.restore()

    def _paint_numbers(
        self, painter: QPainter, room: QRectF, interval: Interval, decimals: int
    ) -> float:
        """Draw estimate and interval, right-aligned; returns where the strip's room starts."""
        bold, plain = self._metrics()
        estimate = format_number(interval.estimate, decimals)
        bounds = format_range(interval, decimals)
        right, baseline = room.right(), room.top() + bold.ascent()
        bounds_left = right - plain.horizontalAdvance(bounds)
        estimate_right = right if self._two_lines or not bounds else bounds_left - _GAP
        painter.setFont(ui_font("body", SEMIBOLD))
        painter.setPen(color("text"))
        left = estimate_right - bold.horizontalAdvance(estimate)
        painter.drawText(QPointF(left, baseline), estimate)
        bottom = room.top() + bold.height()
        if self._two_lines:
            baseline += plain.height()
            bottom += plain.height()
        painter.setFont(ui_font())
        painter.setPen(color("text2"))
        painter.drawText(QPointF(bounds_left, baseline), bounds)
        return bottom

    @staticmethod
    def _paint_strip(
        painter: QPainter, room: QRectF, interval: Interval, axis: Axis, kind: str | None
    ) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        middle = room.bottom() - scaled(5)
        painter.setBrush(color("border"))
        painter.drawRoundedRect(QRectF(room.left(), middle - 1, room.width(), 2), 1, 1)
        ink = color(series_style(kind).token if kind else "accent")
        if interval.low is not None and interval.high is not None:
            low, high = (
                room.left() + room.width() * axis.position(value)
                for value in (interval.low, interval.high)
            )
            ink.setAlphaF(0.45)
            painter.setBrush(ink)
            painter.drawRoundedRect(QRectF(low, middle - 3, max(high - low, 3), 6), 3, 3)
            ink.setAlphaF(1.0)
        if axis.reference is not None:
            at = room.left() + room.width() * axis.position(axis.reference)
            painter.fillRect(QRectF(at - 0.75, middle - 5, 1.5, 10), color("text2"))
        at = room.left() + room.width() * axis.position(interval.estimate)
        painter.fillRect(QRectF(at - 1, middle - 5, 2, 10), ink)

    @staticmethod
    def _metrics() -> tuple[QFontMetrics, QFontMetrics]:
        return QFontMetrics(ui_font("body", SEMIBOLD)), QFontMetrics(ui_font())


class ModelNameDelegate(QStyledItemDelegate):
    """Draws a model's marker (KIND_ROLE) and name; highlighted rows are semibold."""

    def width_for(self, names: Sequence[str]) -> int:
        """Width in px that shows every name, within reason."""
        metrics = QFontMetrics(ui_font("body", SEMIBOLD))
        widest = max((metrics.horizontalAdvance(name) for name in names), default=0)
        return min(widest, scaled(190)) + scaled(28) + 14

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: _Index) -> None:
        """Draw one name."""
        painter.save()
        is_strong = bool(index.data(HIGHLIGHT_ROLE))
        paint_row_background(painter, option, strong=is_strong)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        center = QPointF(option.rect.left() + 14, option.rect.center().y() + 0.5)
        paint_marker(painter, index.data(KIND_ROLE), center, scaled(11))
        font = ui_font("body", SEMIBOLD if is_strong else 400)
        painter.setFont(font)
        painter.setPen(color("text"))
        room = option.rect.adjusted(scaled(28), 0, -6, 0)
        name = QFontMetrics(font).elidedText(
            str(index.data() or ""), Qt.TextElideMode.ElideRight, room.width()
        )
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, name)
        painter.restore()
