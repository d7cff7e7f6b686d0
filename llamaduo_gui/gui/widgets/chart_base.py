"""What all charts share: drawing when seen, at most twice a second, and saving."""

from __future__ import annotations

import csv
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PySide6.QtCore import QElapsedTimer, Qt, QTimer
from PySide6.QtGui import QPainter, QPaintEvent, QShowEvent
from PySide6.QtWidgets import QFileDialog, QSizePolicy, QStackedLayout, QWidget

from llamaduo_gui.gui.theme.theme import current_tokens, theme_notifier
from llamaduo_gui.gui.theme.tokens import Tokens
from llamaduo_gui.gui.widgets.focus import paint_focus_ring
from llamaduo_gui.gui.widgets.labels import Label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from llamaduo_gui.gui.widgets.chart_canvas import Canvas

DRAW_INTERVAL_MS = 500
MIN_WIDTH, MIN_HEIGHT = 180, 140
FORMATS = {".pdf": "PDF", ".svg": "SVG", ".png": "PNG"}


class Plot(Protocol):
    """The data of a chart and how to draw it; knows no widget."""

    def has_data(self) -> bool:
        """Whether there is anything to draw."""
        ...

    def draw(self, figure: Figure, tokens: Tokens) -> None:
        """Draw into an empty figure."""
        ...

    def describe(self) -> str:
        """The chart's numbers in a sentence, for screen readers."""
        ...

    def rows(self) -> list[list[object]]:
        """Header and data for CSV; bounds of intervals in columns of their own."""
        ...


def preload_matplotlib() -> None:
    """Import matplotlib on a thread, so that the first chart does not hold the window up."""
    threading.Thread(target=_import_canvas, name="preload-matplotlib", daemon=True).start()


def _import_canvas() -> None:
    from llamaduo_gui.gui.widgets.chart_canvas import font_families

    font_families()


class ChartView(QWidget):
    """Shows a plot, or why there is none yet; matplotlib loads when a plot is first seen."""

    def __init__(self, plot: Plot, name: str, empty_text: str) -> None:
        super().__init__()
        self._plot = plot
        self._name = name
        self._canvas: Canvas | None = None
        self._empty = Label(empty_text, tone="text2", wrap=True)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._stack = QStackedLayout(self)
        self._stack.setContentsMargins(2, 2, 2, 2)
        self._stack.addWidget(self._empty)
        self.setMinimumSize(MIN_WIDTH, MIN_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._since_draw = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._draw)
        self._describe()
        theme_notifier().changed.connect(self._on_theme)

    def has_data(self) -> bool:
        """Whether there is anything to draw."""
        return self._plot.has_data()

    def set_empty_text(self, text: str) -> None:
        """What to say while there is no data."""
        self._empty.setText(text)
        self._describe()

    def refresh(self) -> None:
        """Draw anew soon: at once if half a second has passed, so at most twice a second."""
        self._describe()
        if not self.isVisible() or self._timer.isActive():
            return
        since = self._since_draw.elapsed() if self._since_draw.isValid() else DRAW_INTERVAL_MS
        self._timer.start(max(0, DRAW_INTERVAL_MS - since))

    def draw_now(self) -> None:
        """Draw without waiting, as before a screenshot."""
        self._timer.stop()
        self._draw()
        if self._canvas is not None and self.has_data():
            self._canvas.settle()
            self._draw()
            self._canvas.draw()

    def save(self, path: Path) -> list[Path]:
        """Write the chart by the suffix of `path` (pdf, svg, png) and its data as CSV beside it.

        A path ending in .csv writes the data alone. Returns the files written; OSError if one
        cannot be, ValueError for another suffix.
        """
        table = path.with_suffix(".csv")
        written = [table]
        if path.suffix.lower() != ".csv":
            if path.suffix.lower() not in FORMATS:
                raise ValueError(f"Charts are saved as PDF, SVG, PNG or CSV, not {path.suffix}.")
            from llamaduo_gui.gui.widgets.chart_canvas import save_figure

            save_figure(self._plot.draw, path)
            written = [path, table]
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(self._plot.rows())
        return written

    def ask_and_save(self) -> list[Path]:
        """Ask for a file name and save; an empty list if the user thinks better of it."""
        filters = ";;".join(f"{name} (*{suffix})" for suffix, name in FORMATS.items())
        name, chosen = QFileDialog.getSaveFileName(self, "Save chart", f"{self._name}.pdf", filters)
        if not name:
            return []
        path = Path(name)
        if path.suffix.lower() not in FORMATS:
            suffix = next((s for s in FORMATS if f"*{s}" in chosen), ".pdf")
            path = path.with_name(path.name + suffix)
        return self.save(path)

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what came while the chart was not seen."""
        super().showEvent(event)
        self._draw()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the focus ring."""
        paint_focus_ring(QPainter(self), self)

    def _describe(self) -> None:
        words = self._plot.describe() if self.has_data() else self._empty.text()
        self.setAccessibleName(f"{self._name}: {words}")

    def _on_theme(self) -> None:
        self.refresh()
        self.update()

    def _draw(self) -> None:
        if not self.has_data():
            self._stack.setCurrentWidget(self._empty)
            return
        canvas = self._ensure_canvas()
        self._stack.setCurrentWidget(canvas)
        import matplotlib

        from llamaduo_gui.gui.widgets.chart_canvas import fit_margins, screen_style

        tokens = current_tokens()
        with matplotlib.rc_context(screen_style(tokens)):
            canvas.figure.clear()
            canvas.apply_style(tokens)
            self._plot.draw(canvas.figure, tokens)
            fit_margins(canvas.figure, canvas.logicalDpiY())
        canvas.setAccessibleName(self.accessibleName())
        canvas.draw_idle()
        self._since_draw.start()

    def _ensure_canvas(self) -> Canvas:
        if self._canvas is None:
            from llamaduo_gui.gui.widgets.chart_canvas import Canvas

            self._canvas = Canvas(self._name)
            # A plot chooses the columns of its legend by the width it has.
            self._canvas.size_settled.connect(self._draw)
            self._stack.addWidget(self._canvas)
        return self._canvas
