"""One cell of the rounds grid: what became of one stage of one round."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from PySide6.QtCore import QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QSizePolicy

from llamaduo_gui.gui.theme import icons
from llamaduo_gui.gui.theme.fonts import scaled, ui_font
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import RADIUS_CONTROL
from llamaduo_gui.gui.widgets.focus import paint_focus_ring
from llamaduo_gui.gui.widgets.progress import paint_bar

CELL_PADDING = 10  # from a cell's edge to its icon
_ICON = 14
_WRAP = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap


class CellState(StrEnum):
    """What became of one stage of one round."""

    DONE = "done"
    RUN = "running"
    WAIT = "waiting"
    NOT_MATCHED = "not matched"
    FAILED = "failed"
    STOPPED = "stopped"


_LOOKS: dict[CellState, tuple[str, str]] = {
    CellState.DONE: ("check", "ok"),
    CellState.RUN: ("migrate", "accent"),
    CellState.WAIT: ("clock", "text3"),
    CellState.NOT_MATCHED: ("minus", "text2"),
    CellState.FAILED: ("x", "bad"),
    CellState.STOPPED: ("pause", "warn"),
}


@dataclass(frozen=True, slots=True)
class StageCell:
    """One stage of one round: a line, a smaller line, or a progress bar while `total` > 0."""

    state: CellState
    text: str
    detail: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One round; `cells` follow the timeline's stages."""

    number: int
    label: str
    cells: tuple[StageCell, ...]
    is_current: bool = False


class StageCellButton(QAbstractButton):
    """One cell; arrow keys go to its neighbours, Enter, Space or a click open its run."""

    moved = Signal(int, int)

    def __init__(self, round_number: int, stage: str, place: str, cell: StageCell) -> None:
        super().__init__()
        self.round_number, self.stage, self._place = round_number, stage, place
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.set_cell(cell)

    def set_cell(self, cell: StageCell) -> None:
        self.cell = cell
        words = [f"{self._place}: {cell.state}", cell.text, cell.detail]
        name = ", ".join(word for word in words if word and word != "\u2014")
        self.setText(cell.text)
        self.setAccessibleName(name)
        self.setCursor(
            Qt.CursorShape.PointingHandCursor if self.opens_run() else Qt.CursorShape.ArrowCursor
        )
        self.update()

    def opens_run(self) -> bool:
        return self.cell.state is not CellState.WAIT

    def sizeHint(self) -> QSize:
        return QSize(120, self.height_for(1, 1))

    @staticmethod
    def height_for(text_lines: int, detail_lines: int) -> int:
        """Height in px of a cell with so many lines of each size."""
        body, caption = QFontMetrics(ui_font()), QFontMetrics(ui_font("caption"))
        return text_lines * body.height() + detail_lines * caption.height() + 8

    @staticmethod
    def side_width() -> int:
        """Width in px that a cell needs beside its text."""
        return CELL_PADDING + scaled(_ICON) + 8 + 6

    def text_width(self) -> int:
        """Width in px of the wider of the two lines."""
        body, caption = QFontMetrics(ui_font()), QFontMetrics(ui_font("caption"))
        return max(
            body.horizontalAdvance(self.cell.text), caption.horizontalAdvance(self.cell.detail)
        )

    def lines_at(self, width: int) -> tuple[int, int]:
        """Lines that text and detail take in a cell `width` px wide."""
        room = QRect(0, 0, max(1, width - self.side_width()), 10_000)
        counts = []
        for text, size in ((self.cell.text, "body"), (self.cell.detail, "caption")):
            metrics = QFontMetrics(ui_font(size))
            height = metrics.boundingRect(room, _WRAP, text).height()
            counts.append(max(1, round(height / metrics.height())))
        return counts[0], counts[1]

    def _text_room(self) -> QRect:
        return self.rect().adjusted(CELL_PADDING + scaled(_ICON) + 8, 3, -6, -3)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {
            Qt.Key.Key_Left: (0, -1),
            Qt.Key.Key_Right: (0, 1),
            Qt.Key.Key_Up: (-1, 0),
            Qt.Key.Key_Down: (1, 0),
            Qt.Key.Key_K: (-1, 0),
            Qt.Key.Key_J: (1, 0),
        }
        key = Qt.Key(event.key())
        if key in steps:
            self.moved.emit(*steps[key])
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_frame(painter)
        icon_name, token = _LOOKS[self.cell.state]
        side = scaled(_ICON)
        room = self._text_room()
        body, caption = QFontMetrics(ui_font()), QFontMetrics(ui_font("caption"))
        has_second = bool(self.cell.detail) or self.cell.total > 0
        lines, detail_lines = self.lines_at(self.width())
        text_height = lines * body.height() + (detail_lines * caption.height() if has_second else 0)
        top = (self.height() - text_height) // 2
        image = icons.pixmap(icon_name, token, side, self.devicePixelRatioF())
        painter.drawPixmap(CELL_PADDING - 1, top + (body.height() - side) // 2, image)
        muted = self.cell.state is CellState.WAIT
        painter.setFont(ui_font())
        painter.setPen(color("text3" if muted else "text"))
        below = top + lines * body.height()
        line_room = QRect(room.left(), top, room.width(), below - top)
        painter.drawText(line_room, _WRAP, self.cell.text)
        if self.cell.total > 0:
            self._paint_progress(painter, room, below)
        elif self.cell.detail:
            painter.setFont(ui_font("caption"))
            painter.setPen(color("text3" if muted else "text2"))
            line_room = QRect(room.left(), below, room.width(), detail_lines * caption.height())
            painter.drawText(line_room, _WRAP, self.cell.detail)
        paint_focus_ring(painter, self)

    def _paint_frame(self, painter: QPainter) -> None:
        edge = QRectF(self.rect()).adjusted(0.75, 0.75, -0.75, -0.75)
        if self.cell.state is CellState.RUN:
            painter.setPen(QPen(color("accent"), 1.5))
            painter.setBrush(color("accent_soft"))
        elif self.underMouse() and self.opens_run():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(color("raised"))
        else:
            return
        painter.drawRoundedRect(edge, RADIUS_CONTROL, RADIUS_CONTROL)

    def _paint_progress(self, painter: QPainter, room: QRect, top: int) -> None:
        height = scaled(5)
        bar = QRectF(room.left(), top + scaled(4), room.width() - 4, height)
        paint_bar(painter, bar, 0, bar.width() * min(1.0, self.cell.done / self.cell.total))
