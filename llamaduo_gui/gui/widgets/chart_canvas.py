"""The matplotlib side of charts; imported only when a chart with data is first shown."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from PySide6.QtCore import QSize, QTimer, Signal
from PySide6.QtGui import (
    QFontMetricsF,
    QImage,
    QPainter,
    QPaintEvent,
    QPalette,
    QResizeEvent,
    QWheelEvent,
)

from llamaduo_gui.core.paths import resource
from llamaduo_gui.gui.theme.fonts import FONT_FILES, UI_FAMILY, point_size, ui_font
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import LIGHT, Tokens
from llamaduo_gui.gui.widgets.chart_style import ABOVE_AXES, rc_params

_log = logging.getLogger(__name__)
# Inter has no 700 and DejaVu no 600: the nearest weight is right, and a line for each is noise.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
_RESIZE_MS = 80
_SAVE_SIZE_IN = (7.0, 4.2)
_SAVE_DPI = 300
_SAVE_POINTS = 9.75


@cache
def font_families() -> list[str]:
    """Families matplotlib can use; naming one it lacks would log a line for every text."""
    for name in FONT_FILES:
        try:
            font_manager.fontManager.addfont(str(resource("fonts", name)))
        except OSError as error:
            _log.warning("Charts cannot use %s: %s", name, error)
    known = set(font_manager.fontManager.get_font_names())
    return [family for family in (UI_FAMILY, "DejaVu Sans") if family in known]


def screen_style(tokens: Tokens) -> dict[str, object]:
    """Matplotlib settings for the window at the text scale in force."""
    return rc_params(tokens, font_families(), point_size())


class Canvas(FigureCanvasQTAgg):
    """A figure as a widget that draws once a resize has settled and leaves the wheel alone."""

    size_settled = Signal()

    def __init__(self, name: str) -> None:
        super().__init__(Figure())
        self.figure.set_dpi(self.logicalDpiY())
        self.setAccessibleName(name)
        self.setMouseTracking(False)
        self._resize_timer = QTimer(self)
        self._resize_timer.setSingleShot(True)
        self._resize_timer.setInterval(_RESIZE_MS)
        self._resize_timer.timeout.connect(self._apply_size)

    def apply_style(self, tokens: Tokens) -> None:
        """Take the theme's ground; the plot is drawn anew by the chart."""
        self.figure.set_facecolor(tokens.surface)
        self.setPalette(QPalette(color("surface")))

    def sizeHint(self) -> QSize:
        """No wish of its own: the figure's first size would stretch the page."""
        return QSize(240, 160)

    def resizeEvent(self, _event: QResizeEvent) -> None:
        """Wait: a drag asks for twenty sizes and one drawing is enough (measured 19 of 20)."""
        self._resize_timer.start()

    def _apply_size(self) -> None:
        super().resizeEvent(QResizeEvent(self.size(), self.size()))
        self.size_settled.emit()

    def settle(self) -> None:
        """Take the widget's size now."""
        if self._resize_timer.isActive():
            self._resize_timer.stop()
            self._apply_size()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Show the drawing; while a resize settles, the last one on the theme's ground."""
        self._draw_idle()
        painter = QPainter(self)
        painter.fillRect(self.rect(), color("surface"))
        if hasattr(self, "renderer"):
            pixels = self.buffer_rgba()
            height, width = pixels.shape[:2]
            image = QImage(pixels, width, height, 4 * width, QImage.Format.Format_RGBA8888)
            image.setDevicePixelRatio(self.device_pixel_ratio)
            painter.drawImage(0, 0, image)
        painter.end()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Let the page scroll."""
        event.ignore()


def fit_margins(figure: Figure, logical_dpi: float) -> None:
    """Room for the words round the axes, from the widths of their letters.

    `logical_dpi` is the widget's; the figure's own counts device pixels.

    Asking matplotlib (the constrained layout) lays every text out twice a drawing: half of the
    time of a chart that is drawn while training runs.
    """
    axes = figure.axes[0]
    line = _points("xtick.labelsize") * 1.25
    ticks = [text.get_text() for text in axes.get_yticklabels()] or [""]
    if not any(ticks):
        ticks = axes.yaxis.get_major_formatter().format_ticks(list(axes.get_yticks()))
    metrics = QFontMetricsF(ui_font("small"))
    to_points = 72.0 / logical_dpi
    left = max(metrics.horizontalAdvance(text) for text in ticks) * to_points + 7
    bottom = line + 6 + (line + 4 if axes.get_xlabel() else 0)
    rows = sum(int(legend.get_gid() or 1) for legend in figure.legends)
    top = rows * _points("legend.fontsize") * 1.55 + 6
    if any(text.get_gid() == ABOVE_AXES for text in axes.texts):
        top += line
    width, height = figure.get_size_inches() * 72
    right = metrics.horizontalAdvance("000") * to_points / 2 + 2
    if width > left + right + 20 and height > top + bottom + 20:
        figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)


def _points(setting: str) -> float:
    return float(matplotlib.rcParams[setting])


def save_figure(draw: object, path: Path) -> None:
    """Write a plot in the light theme to `path` (.pdf, .svg or .png at 300 dpi).

    `draw` is called with the figure and the tokens, inside the settings for print.
    """
    with matplotlib.rc_context(rc_params(LIGHT, font_families(), _SAVE_POINTS)):
        figure = Figure(figsize=_SAVE_SIZE_IN, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, LIGHT)  # type: ignore[operator]
        figure.savefig(path, dpi=_SAVE_DPI)
