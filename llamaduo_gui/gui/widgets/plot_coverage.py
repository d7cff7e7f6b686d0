"""The plot of coverage curves: the share of responses that score at least t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llamaduo_gui.gui.theme.series import series_style
from llamaduo_gui.gui.theme.tokens import Tokens
from llamaduo_gui.gui.widgets.chart_style import ABOVE_AXES, percent_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"square": "s", "triangle": "^", "circle": "o", "diamond": "D", "none": ""}
_BAND_ALPHA = 0.16


@dataclass(frozen=True, slots=True)
class CoverageCurve:
    """Share of responses (0..100 %) scoring at least each threshold, with its 95 % band."""

    kind: str
    name: str
    thresholds: Sequence[float]
    share: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    def share_at(self, threshold: float) -> float | None:
        """The share at a threshold that is on the curve, else None."""
        if threshold not in self.thresholds:
            return None
        return self.share[list(self.thresholds).index(threshold)]


@dataclass(slots=True)
class CoveragePlot:
    """How many good answers? A step curve and band a model, with the two reported marks."""

    curves: list[CoverageCurve] = field(default_factory=list)
    marks: tuple[float, ...] = (50.0, 70.0)
    start: float = 0.0

    def has_data(self) -> bool:
        """Whether a curve has points."""
        return any(len(curve.thresholds) for curve in self.curves)

    def draw(self, figure: Figure, tokens: Tokens) -> None:
        """Draw into an empty figure."""
        axes = figure.add_subplot()
        curves = [curve for curve in self.curves if len(curve.thresholds)]
        thresholds = [threshold for curve in curves for threshold in curve.thresholds]
        axes.set_xlim(max(self.start, min(thresholds)), max(thresholds))
        axes.set_ylim(0, 102)
        axes.set_xlabel("Score threshold t")
        percent_ticks(axes, 0, 102)
        for mark in self.marks:
            _draw_mark(axes, mark, tokens)
        for number, curve in enumerate(curves):
            _draw_curve(axes, curve, number, tokens)
        columns = _legend_columns(figure, [curve.name for curve in curves])
        legend = figure.legend(
            loc="outside upper left",
            ncols=columns,
            handlelength=2.6,
            columnspacing=1.6,
            borderaxespad=0.2,
        )
        # The gid tells how many rows the legend has to whoever makes room for it.
        legend.set_gid(str(math.ceil(len(curves) / columns)))

    def describe(self) -> str:
        """Each model's coverage at the marks."""
        parts = []
        for curve in self.curves:
            for mark in self.marks:
                share = curve.share_at(mark)
                if share is not None:
                    parts.append(f"{curve.name} {share:.1f} per cent at {mark:g}")
        return ", ".join(parts)

    def rows(self) -> list[list[object]]:
        """Model, threshold, share and bounds, one line a point."""
        out: list[list[object]] = [["model", "threshold", "share_percent", "low", "high"]]
        for curve in self.curves:
            for i, (threshold, share) in enumerate(zip(curve.thresholds, curve.share, strict=True)):
                low = curve.low[i] if len(curve.low) else ""
                high = curve.high[i] if len(curve.high) else ""
                out.append([curve.name, threshold, share, low, high])
        return out


def _legend_columns(figure: Figure, names: Sequence[str]) -> int:
    """Columns that fit the figure's width, judged by the widest name, in rows of even length."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    points = FontProperties(size=rcParams["legend.fontsize"]).get_size_in_points()
    widest = max(len(name) for name in names) * 0.58 * points + 5.2 * points
    fitting = max(1, min(len(names), int(figure.get_figwidth() * 72 // widest)))
    return math.ceil(len(names) / math.ceil(len(names) / fitting))


def _draw_mark(axes: Axes, mark: float, tokens: Tokens) -> None:
    axes.axvline(mark, color=tokens.outline, linewidth=1, linestyle=(0, (3, 2)))
    axes.annotate(
        f"@{mark:g}",
        (mark, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(4, 2),
        textcoords="offset points",
        color=tokens.text2,
        fontsize="small",
        annotation_clip=False,
        gid=ABOVE_AXES,
    )


def _draw_curve(axes: Axes, curve: CoverageCurve, number: int, tokens: Tokens) -> None:
    style = series_style(curve.kind)
    ink = tokens.get(style.token)
    if len(curve.low) and len(curve.high):
        axes.fill_between(
            curve.thresholds, curve.low, curve.high, step="pre", color=ink, alpha=_BAND_ALPHA, lw=0
        )
    every = max(1, len(curve.thresholds) // 4)
    kwargs: dict[str, Any] = {}
    if style.marker != "none":
        kwargs = {"marker": MARKERS[style.marker], "markersize": 6}
        # A start of its own for each model, so that markers do not hide one another.
        kwargs["markevery"] = (every // 5 + number * max(1, every // 5), every)
    axes.plot(
        curve.thresholds,
        curve.share,
        drawstyle="steps-pre",
        color=ink,
        linestyle=style.dash,
        linewidth=style.line_width,
        label=curve.name,
        **kwargs,
    )
