"""The job bar under every page: what runs, how far it is, what it costs, the GPU."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics, QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout

from llamaduo_gui.gui.theme.fonts import ui_font
from llamaduo_gui.gui.theme.theme import theme_notifier
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label, Separator
from llamaduo_gui.gui.widgets.pill import Pill, PillKind
from llamaduo_gui.gui.widgets.progress import Bar, ProgressState
from llamaduo_gui.gui.widgets.wording import format_spend

HEIGHT = 36
_BAR_MIN, _BAR_MAX = 40, 150


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The job in the bar: its stage as a pill, a line such as `Round 2 · step 412 of 690`.

    `progress` None hides the bar. `stage_words` follows the time left ("in this stage").
    """

    pill: str
    text: str
    kind: PillKind = "run"
    progress: ProgressState | None = None
    stage_words: str = "in this stage"


class JobBar(QFrame):
    """36 px along the bottom; a click asks for the page of the job."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("surface", "jobbar")
        self.setAccessibleName("Job")
        self._pill = Pill("Idle")
        self._text = ElidedLabel()
        self._bar = Bar("Progress of the job")
        self._eta = ElidedLabel("", tone="text2")
        self._eta_words = ("", "")
        self._spend = Label("", tone="text2")
        self._line = Separator(vertical=True)
        self._gpu = Label("", tone="text2")
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 1, 15, 0)
        row.setSpacing(SPACE.m)
        for widget in (self._pill, self._text, self._bar, self._eta):
            row.addWidget(widget)
        row.addStretch(1)
        for part in (self._spend, self._line, self._gpu):
            row.addWidget(part)
        self._update_height()
        theme_notifier().changed.connect(self._update_height)
        self.set_idle("")
        self.set_spend(0.0, None)
        self.set_gpu("")

    def set_status(self, status: JobStatus) -> None:
        """Show a job."""
        self._pill.set(status.kind, status.pill)
        self._text.setText(status.text)
        progress = status.progress
        self._bar.setVisible(progress is not None)
        self._eta_words = ("", "")
        if progress is not None:
            self._bar.set_progress(progress.done, 0 if progress.finishing else progress.total)
            short = progress.finishing or progress.eta_text
            long = f"{short} {status.stage_words}" if progress.eta_text else short
            self._eta_words = (long, short)
        self._fit()

    def set_idle(self, text: str) -> None:
        """Show that nothing runs, and a line such as `Last run finished 14:32`."""
        self.set_status(JobStatus("Idle", text, "neutral"))

    def set_spend(self, spent_usd: float, budget_usd: float | None) -> None:
        """Show the project's spend; hidden while nothing is spent and no budget is set."""
        is_shown = spent_usd > 0 or budget_usd is not None
        self._spend.setText(format_spend(spent_usd, budget_usd))
        self._spend.setVisible(is_shown)
        self._line.setVisible(is_shown and bool(self._gpu.text()))
        self._fit()

    def set_gpu(self, text: str) -> None:
        """Show the processor in use, such as `GPU 18.2 of 24 GB` or `CPU only`."""
        self._gpu.setText(text)
        self._gpu.setVisible(bool(text))
        self._line.setVisible(bool(text) and not self._spend.isHidden())
        self._fit()

    def _fit(self) -> None:
        """Give way in this order when narrow: the bar's length, then `in this stage`."""
        long, short = self._eta_words
        self._eta.setText(long)
        self._eta.setVisible(bool(long))
        others = (self._pill, self._text, self._eta, self._spend, self._line, self._gpu)
        shown = [part for part in others if not part.isHidden()]
        gaps = (len(shown) + 1) * SPACE.m + 30
        room = self.width() - gaps - sum(part.sizeHint().width() for part in shown)
        self._bar.setFixedWidth(max(_BAR_MIN, min(_BAR_MAX, room)))
        if room < _BAR_MIN:
            self._eta.setText(short)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the parts to the width."""
        super().resizeEvent(event)
        self._fit()

    def text(self) -> str:
        """Everything shown, for tests and screen readers."""
        parts = (self._pill, self._text, self._eta, self._spend, self._gpu)
        return " ".join(part.text() for part in parts if not part.isHidden() and part.text())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Ask for the page of the job."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit()

    def _update_height(self) -> None:
        self.setFixedHeight(max(HEIGHT, QFontMetrics(ui_font()).height() + 20))
