"""A bar of memory: what is taken for what, beside what there is."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.theme import color, theme_notifier
from llamaduo_gui.gui.widgets.wording import format_size

_HEIGHT = 18
# Parts are told apart by their order and their strength, and are named beneath with their sizes.
_STRENGTHS = (1.0, 0.78, 0.6, 0.46, 0.36, 0.28, 0.22)


class MemoryBar(QWidget):
    """Parts from the left, a line where the memory that is free ends."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[tuple[str, float]] = []
        self._free = 0.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Memory")
        theme_notifier().changed.connect(self.update)

    def set_parts(self, parts: Sequence[tuple[str, float]], free_bytes: float) -> None:
        """Show named parts in bytes beside the bytes that are free."""
        self._parts, self._free = list(parts), free_bytes
        words = ", ".join(f"{name} {format_size(size)}" for name, size in parts)
        self.setAccessibleName(f"Memory: {words}; {format_size(free_bytes)} free")
        self.update()

    def sizeHint(self) -> QSize:
        """As high as a line of text."""
        return QSize(scaled(200), scaled(_HEIGHT))

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        area = QRectF(self.rect())
        painter.setBrush(color("raised"))
        painter.drawRoundedRect(area, 4, 4)
        needed = sum(size for _, size in self._parts)
        scale = area.width() / max(1.0, needed, self._free)
        is_too_much = needed > self._free
        left = 0.0
        for place, (_, size) in enumerate(self._parts):
            tint = QColor(color("bad" if is_too_much else "accent"))
            tint.setAlphaF(_STRENGTHS[min(place, len(_STRENGTHS) - 1)])
            painter.setBrush(tint)
            painter.drawRect(QRectF(left, 0, size * scale, area.height()))
            left += size * scale
        if is_too_much:
            painter.setBrush(color("text"))
            painter.drawRect(QRectF(self._free * scale - 1, 0, 2, area.height()))
