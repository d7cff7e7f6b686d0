"""How each model is told apart: colour, marker shape and line dash, always all three."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPolygonF

from llamaduo_gui.core.types import ModelKind
from llamaduo_gui.gui.theme.theme import color

Marker = Literal["square", "triangle", "circle", "diamond", "none"]


@dataclass(frozen=True, slots=True)
class SeriesStyle:
    """Looks of one model in tables and charts.

    `dash` is a matplotlib line style: a name or (offset, on-off lengths in line widths).
    """

    token: str
    marker: Marker
    dash: str | tuple[int, tuple[float, ...]]
    line_width: float = 1.8


_STYLES: dict[str, SeriesStyle] = {
    ModelKind.SERVICE: SeriesStyle("service", "square", "solid"),
    ModelKind.BASE: SeriesStyle("base", "triangle", (0, (1.0, 1.6))),
    ModelKind.TUNED: SeriesStyle("tuned", "circle", "solid"),
    ModelKind.GGUF: SeriesStyle("gguf", "diamond", (0, (4.5, 2.0))),
    ModelKind.CEILING: SeriesStyle("text", "none", (0, (6.0, 2.0, 1.0, 2.0)), 1.0),
}


def series_style(kind: str) -> SeriesStyle:
    """Looks of a model kind; KeyError if unknown."""
    return _STYLES[kind]


def paint_marker(painter: QPainter, kind: str, center: QPointF, size: float) -> None:
    """Draw a model's marker, filled, about `size` px across, around `center`."""
    style = series_style(kind)
    if style.marker == "none":
        return
    half = size / 2
    painter.save()
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(color(style.token))
    if style.marker == "square":
        side = half * 0.86
        painter.drawRect(QRectF(center.x() - side, center.y() - side, 2 * side, 2 * side))
    elif style.marker == "circle":
        painter.drawEllipse(center, half, half)
    else:
        painter.drawPolygon(_corners(style.marker, center, half))
    painter.restore()


def _corners(marker: Marker, center: QPointF, half: float) -> QPolygonF:
    x, y = center.x(), center.y()
    if marker == "triangle":
        points = [(x, y - half), (x + half, y + half * 0.85), (x - half, y + half * 0.85)]
    else:
        reach = half * 1.15
        points = [(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)]
    return QPolygonF([QPointF(*point) for point in points])
