"""Progress told in units with the time left, and a thin bar."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QPainter, QPaintEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QSizePolicy, QWidget

from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label
from llamaduo_gui.gui.widgets.wording import format_eta, format_of

ETA_FROM = 0.05  # an estimate made from less than this share of the work misleads
_BUSY_STEP_MS = 50


@dataclass(frozen=True, slots=True)
class ProgressState:
    """How far something is, in `units`.

    `total` 0 means not known. `finishing` names the last step while all units are done, so
    that a bar never stands at 100 % without a reason.
    """

    done: int
    total: int
    units: str = ""
    eta_s: float | None = None
    finishing: str = ""

    @property
    def share(self) -> float:
        """Share done, 0..1."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0

    @property
    def units_text(self) -> str:
        """`412 of 690 steps`, or the finishing step's name."""
        return self.finishing or format_of(self.done, self.total, self.units)

    @property
    def eta_text(self) -> str:
        """`about 9 min left`; empty below 5 % and where nothing is left to estimate."""
        if self.eta_s is None or self.finishing or not ETA_FROM <= self.share < 1:
            return ""
        return format_eta(self.eta_s)


class Bar(QProgressBar):
    """A thin progress bar; a maximum of 0 shows movement without a measure."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setTextVisible(False)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._phase = 0.0
        self._timer = QTimer(self)
        self._timer.setInterval(_BUSY_STEP_MS)
        self._timer.timeout.connect(self._advance)

    def set_progress(self, done: int, total: int) -> None:
        """Show `done` of `total`; a total of 0 or less is not known."""
        if total > 0:
            self.setRange(0, total)
            self.setValue(min(done, total))
        else:
            self.setRange(0, 0)
        self._watch()

    def sizeHint(self) -> QSize:
        """150 px wide, 6 px high at the standard text size."""
        return QSize(150, scaled(6))

    def minimumSizeHint(self) -> QSize:
        """Still readable at 40 px."""
        return QSize(40, scaled(6))

    def showEvent(self, event: QShowEvent) -> None:
        """Move only while seen."""
        super().showEvent(event)
        self._watch()

    def hideEvent(self, event: QHideEvent) -> None:
        """Stop moving."""
        super().hideEvent(event)
        self._timer.stop()

    def _watch(self) -> None:
        if self.maximum() == 0 and self.isVisible():
            self._timer.start()
        else:
            self._timer.stop()

    def _advance(self) -> None:
        self._phase = (self._phase + 0.02) % 1.0
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw trough and filled part."""
        room = QRectF(self.rect())
        start, width = 0.0, room.width()
        if self.maximum() > 0:
            width *= self.value() / self.maximum()
        else:
            start, width = room.width() * (self._phase * 1.3 - 0.3), room.width() * 0.3
        paint_bar(QPainter(self), room, start, width)


def paint_bar(painter: QPainter, room: QRectF, start: float, width: float) -> None:
    """Draw a rounded trough filling `room` and a fill from `start`, `width` px long."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    radius = room.height() / 2
    painter.setBrush(color("border"))
    painter.drawRoundedRect(room, radius, radius)
    filled = QRectF(room.left() + start, room.top(), width, room.height()).intersected(room)
    if filled.width() > 0:
        painter.setBrush(color("fill"))
        filled.setWidth(max(filled.width(), min(room.height(), room.width())))
        painter.drawRoundedRect(filled, radius, radius)
    painter.restore()


class ProgressRow(QWidget):
    """What runs, how far it is in units, a bar, the time left and Stop."""

    stop_requested = Signal()

    def __init__(self, label: str, *, can_stop: bool = True) -> None:
        super().__init__()
        self._label = Label(label, "strong")
        self._units = ElidedLabel("", tone="text2")
        self._bar = Bar(label)
        self._eta = Label("", tone="text2")
        self._stop = Button("Stop", "secondary", "stop", f"Stop: {label}")
        self._stop.setVisible(can_stop)
        self._stop.clicked.connect(self.stop_requested)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE.m)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        row.addWidget(self._label)
        row.addWidget(self._units)
        row.addWidget(self._bar, 1)
        row.addWidget(self._eta)
        row.addWidget(self._stop)
        self.set_state(ProgressState(0, 0))

    def set_label(self, label: str) -> None:
        """Change what is said to run."""
        self._label.setText(label)
        self._bar.setAccessibleName(label)
        self._stop.setAccessibleName(f"Stop: {label}")

    def set_state(self, state: ProgressState) -> None:
        """Show how far it is."""
        is_counted = state.total > 0 or state.done > 0 or state.finishing
        self._units.setText(state.units_text if is_counted else "")
        self._units.setVisible(bool(self._units.text()))
        self._bar.set_progress(state.done, 0 if state.finishing else state.total)
        self._eta.setText(state.eta_text)
        self._eta.setVisible(bool(state.eta_text))

    def set_can_stop(self, can_stop: bool) -> None:
        """Show or hide Stop."""
        self._stop.setVisible(can_stop)

    def eta_text(self) -> str:
        """The time left as shown, or an empty text."""
        return self._eta.text()

    def units_text(self) -> str:
        """The units as shown."""
        return self._units.text()
