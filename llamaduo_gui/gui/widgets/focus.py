"""The focus ring that painted controls draw; styled ones get theirs from the sheet."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainter, QPen
from PySide6.QtWidgets import QWidget

from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import FOCUS_WIDTH, RADIUS_CONTROL


def paint_focus_ring(
    painter: QPainter, widget: QWidget, radius: float = RADIUS_CONTROL, token: str = "accent"
) -> None:
    """Draw a 2 px ring just inside `widget` if it has the keyboard focus."""
    if not widget.hasFocus():
        return
    inset = FOCUS_WIDTH / 2
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(color(token), FOCUS_WIDTH))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRoundedRect(
        QRectF(widget.rect()).adjusted(inset, inset, -inset, -inset), radius, radius
    )
