"""A segmented control: a few exclusive choices side by side."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QHBoxLayout, QSizePolicy, QWidget

from llamaduo_gui.gui.theme.fonts import ui_font
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import RADIUS_CARD, REGULAR, SEMIBOLD
from llamaduo_gui.gui.widgets.focus import paint_focus_ring


class _Segment(QAbstractButton):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.setText(text)
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        # Measured in the bold face, so that choosing a segment moves nothing.
        metrics = QFontMetrics(ui_font("body", SEMIBOLD))
        return QSize(metrics.horizontalAdvance(self.text()) + 24, metrics.height() + 8)

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.isChecked():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(color("surface"))
            painter.drawRoundedRect(QRectF(self.rect()), 5, 5)
        is_strong = self.isChecked() or self.underMouse()
        painter.setPen(color("text" if is_strong and self.isEnabled() else "text2"))
        painter.setFont(ui_font("body", SEMIBOLD if self.isChecked() else REGULAR))
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self.text())
        paint_focus_ring(painter, self, 5)


class SegmentedControl(QWidget):
    """Exclusive choices given as (key, text); one Tab stop, arrow keys move the choice."""

    changed = Signal(str)

    def __init__(self, options: Sequence[tuple[str, str]], name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._group = QButtonGroup(self)
        self._keys = [key for key, _text in options]
        row = QHBoxLayout(self)
        row.setContentsMargins(3, 3, 3, 3)
        row.setSpacing(1)
        for index, (_key, text) in enumerate(options):
            segment = _Segment(text)
            segment.setAccessibleName(f"{name}: {text}")
            self._group.addButton(segment, index)
            row.addWidget(segment)
        self._group.button(0).setChecked(True)
        self._group.idToggled.connect(self._on_toggled)

    def current(self) -> str:
        """Key of the chosen segment."""
        return self._keys[self._group.checkedId()]

    def set_current(self, key: str) -> None:
        """Choose a segment without emitting `changed`; ValueError for an unknown key."""
        blocked = self._group.blockSignals(True)
        self._group.button(self._keys.index(key)).setChecked(True)
        self._group.blockSignals(blocked)
        self.update()

    def button(self, key: str) -> QAbstractButton:
        """The segment of that key."""
        return self._group.button(self._keys.index(key))

    def _on_toggled(self, index: int, is_on: bool) -> None:
        if is_on:
            self.changed.emit(self._keys[index])

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the trough the segments lie in."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(color("border"), 1))
        painter.setBrush(color("raised"))
        room = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.drawRoundedRect(room, RADIUS_CARD - 1, RADIUS_CARD - 1)
