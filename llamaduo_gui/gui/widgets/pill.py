"""A pill: an icon and a word on a soft fill, so that no state is told by colour alone."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QLabel, QSizePolicy

from llamaduo_gui.gui.theme import icons
from llamaduo_gui.gui.theme.fonts import scaled, ui_font
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import MEDIUM

PillKind = Literal["ok", "warn", "bad", "run", "neutral"]
_LOOKS: dict[str, tuple[str, str, str]] = {
    "ok": ("ok", "ok_soft", "check"),
    "warn": ("warn", "warn_soft", "warning"),
    "bad": ("bad", "bad_soft", "x"),
    "run": ("accent", "accent_soft", "migrate"),
    "neutral": ("text2", "raised", "clock"),
}
_SIDE, _GAP, _ICON = 8, 4, 13


class Pill(QLabel):
    """State in a word, with the icon of its kind unless another is named."""

    def __init__(self, text: str, kind: PillKind = "neutral", icon: str = "") -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._kind: PillKind = kind
        self._icon = icon
        self.set(kind, text, icon)

    @property
    def kind(self) -> PillKind:
        """The kind shown."""
        return self._kind

    def set(self, kind: PillKind, text: str, icon: str = "") -> None:
        """Show another state."""
        self._kind, self._icon = kind, icon or _LOOKS[kind][2]
        self.setText(text)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Icon, word and the rounded ends."""
        metrics = QFontMetrics(ui_font("small", MEDIUM))
        width = 2 * scaled(_SIDE) + scaled(_ICON) + scaled(_GAP) + 2
        height = QFontMetrics(ui_font()).height() + 6
        return QSize(width + metrics.horizontalAdvance(self.text()), height)

    def minimumSizeHint(self) -> QSize:
        """Pills are never cut."""
        return self.sizeHint()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw fill, icon and word."""
        ink, fill, _default = _LOOKS[self._kind]
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(color(fill))
        radius = self.height() / 2
        painter.drawRoundedRect(QRectF(self.rect()), radius, radius)
        side = scaled(_ICON)
        image = icons.pixmap(self._icon, ink, side, self.devicePixelRatioF())
        painter.drawPixmap(QPointF(scaled(_SIDE), (self.height() - side) / 2), image)
        painter.setFont(ui_font("small", MEDIUM))
        painter.setPen(color(ink))
        left = scaled(_SIDE) + side + scaled(_GAP)
        room = QRectF(left, 0, self.width() - left, self.height())
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, self.text())
