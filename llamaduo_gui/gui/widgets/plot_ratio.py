"""The plot of student / teacher by round."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llamaduo_gui.gui.theme.tokens import Tokens
from llamaduo_gui.gui.widgets.chart_style import percent_ticks
from llamaduo_gui.gui.widgets.wording import Interval, format_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class RatioPoint:
    """Student / teacher of one round in per cent, with its interval."""

    round: int
    ratio: Interval


@dataclass(slots=True)
class RatioPlot:
    """Did a round reach the target? A dot and interval a round, and the line to clear."""

    points: list[RatioPoint] = field(default_factory=list)
    threshold: float | None = None
    running_round: int | None = None
    max_round: int | None = None

    def has_data(self) -> bool:
        """Whether a round has been judged, or one runs towards a known target."""
        return bool(self.points) or (self.running_round is not None and self.threshold is not None)

    def draw(self, figure: Figure, tokens: Tokens) -> None:
        """Draw into an empty figure."""
        axes = figure.add_subplot()
        low, high = self._range()
        axes.set_ylim(low, high)
        rounds = [point.round for point in self.points]
        last = max([*rounds, self.running_round or 0, 3])
        if self.max_round is not None:
            last = max([*rounds, self.running_round or 0, min(last, self.max_round)])
        axes.set_xlim(-0.45, last + 0.5)
        axes.set_xticks(range(last + 1))
        axes.set_xlabel("Round")
        percent_ticks(axes, low, high)
        if self.threshold is not None:
            self._draw_threshold(axes, tokens, high)
        for point in self.points:
            self._draw_point(axes, point, tokens)
        if self.running_round is not None:
            _draw_running(axes, self.running_round, low, tokens, self.threshold)

    def _range(self) -> tuple[float, float]:
        bounds = [self.threshold] if self.threshold is not None else []
        for point in self.points:
            ratio = point.ratio
            bounds += [v for v in (ratio.estimate, ratio.low, ratio.high) if v is not None]
        low = 10 * math.floor((min(bounds) - 4) / 10)
        return max(0.0, min(low, 70.0)), max(102.0, max(bounds) + 2)

    def _draw_threshold(self, axes: Axes, tokens: Tokens, high: float) -> None:
        threshold = self.threshold or 0.0
        axes.axhspan(threshold, high, color=tokens.ok_soft, linewidth=0, zorder=0)
        axes.axhline(threshold, color=tokens.ok, linewidth=1.6, zorder=1.5)
        axes.annotate(
            f"needed: {threshold:g}",
            (1, threshold),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-3, 4),
            textcoords="offset points",
            ha="right",
            color=tokens.ok,
            fontsize="small",
        )

    @staticmethod
    def _draw_point(axes: Axes, point: RatioPoint, tokens: Tokens) -> None:
        ratio = point.ratio
        if ratio.low is not None and ratio.high is not None:
            axes.plot([point.round] * 2, [ratio.low, ratio.high], color=tokens.tuned, linewidth=2.4)
        axes.plot([point.round], [ratio.estimate], marker="o", markersize=8, color=tokens.tuned)
        axes.annotate(
            f"{ratio.estimate:.0f}",
            (point.round, ratio.estimate),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            fontweight=600,
        )

    def describe(self) -> str:
        """Each round's ratio in words."""
        parts = [f"round {p.round} {format_interval(p.ratio)} per cent" for p in self.points]
        if self.threshold is not None:
            parts.append(f"needed {self.threshold:g} per cent")
        if self.running_round is not None:
            parts.append(f"round {self.running_round} is running")
        return ", ".join(parts)

    def rows(self) -> list[list[object]]:
        """Round, ratio, bounds and threshold."""
        header: list[object] = ["round", "ratio_percent", "low", "high", "n", "needed"]
        body: list[list[object]] = [
            [p.round, p.ratio.estimate, p.ratio.low, p.ratio.high, p.ratio.n, self.threshold]
            for p in self.points
        ]
        return [header, *body]


def _draw_running(
    axes: Axes, number: int, low: float, tokens: Tokens, threshold: float | None
) -> None:
    top = threshold if threshold is not None else axes.get_ylim()[1]
    left, width = number - 0.38, 0.76
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((left, low), width, top - low, color=tokens.raised, zorder=0.6))
    axes.text(
        number,
        low + 0.06 * (top - low),
        "running",
        rotation=90,
        ha="center",
        va="bottom",
        color=tokens.text2,
        fontsize="small",
    )
