"""The three plots: training loss, ratio by round, and coverage curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llamaduo_gui.gui.theme.series import series_style
from llamaduo_gui.gui.theme.tokens import Tokens
from llamaduo_gui.gui.widgets.chart_data import LossPoint, smooth, thin
from llamaduo_gui.gui.widgets.wording import NO_BREAK, Interval, format_interval, format_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"square": "s", "triangle": "^", "circle": "o", "diamond": "D", "none": ""}
_RAW_ALPHA = 0.28
_BAND_ALPHA = 0.16


@dataclass(slots=True)
class LossPlot:
    """Training loss by step: raw, smoothed, evaluations, and what is still to come."""

    train: list[LossPoint] = field(default_factory=list)
    evals: list[LossPoint] = field(default_factory=list)
    total_steps: int = 0
    weight: float = 0.9

    def has_data(self) -> bool:
        """Whether a loss is known."""
        return bool(self.train or self.evals)

    def draw(self, figure: Figure, tokens: Tokens) -> None:
        """Draw into an empty figure."""
        axes = figure.add_subplot()
        last = max(point.step for point in (*self.train, *self.evals))
        end = max(self.total_steps, last, 1)
        axes.set_xlim(0, end)
        axes.set_xlabel("Step")
        axes.locator_params(axis="y", nbins=8)
        axes.locator_params(axis="x", nbins=7, integer=True)
        values = [point.value for point in (*self.train, *self.evals)]
        spread = max(values) - min(values) or max(abs(values[0]), 1e-3)
        axes.set_ylim(min(values) - 0.08 * spread, max(values) + 0.08 * spread)
        if self.total_steps > last:
            _shade_remainder(axes, last, self.total_steps, tokens)
        if self.train:
            self._draw_train(axes, tokens, end)
        if self.evals:
            self._draw_evals(axes, tokens)

    def _draw_train(self, axes: Axes, tokens: Tokens, end: int) -> None:
        values = smooth([point.value for point in self.train], self.weight)
        curve = thin([LossPoint(p.step, v) for p, v in zip(self.train, values, strict=True)])
        if self.weight > 0:
            raw = thin(self.train)
            axes.plot(*_xy(raw), color=tokens.tuned, alpha=_RAW_ALPHA, linewidth=1.0)
        axes.plot(*_xy(curve), color=tokens.tuned, linewidth=2.2)
        tip = curve[-1]
        is_near_end = tip.step > 0.8 * end
        axes.annotate(
            f"train {tip.value:.2f}",
            (tip.step, tip.value),
            xytext=(-4, -10) if is_near_end else (6, -8),
            textcoords="offset points",
            ha="right" if is_near_end else "left",
            va="center",
            color=tokens.tuned,
            fontsize="small",
            fontweight=600,
            annotation_clip=False,
        )

    def _draw_evals(self, axes: Axes, tokens: Tokens) -> None:
        axes.plot(
            *_xy(self.evals),
            linestyle="none",
            marker="D",
            markersize=6,
            markerfacecolor=tokens.surface,
            markeredgecolor=tokens.service,
            markeredgewidth=1.6,
        )
        tip = self.evals[-1]
        is_far_right = tip.step > 0.85 * axes.get_xlim()[1]
        axes.annotate(
            f"eval {tip.value:.2f}",
            (tip.step, tip.value),
            xytext=(4 if is_far_right else 0, 17),
            textcoords="offset points",
            ha="right" if is_far_right else "center",
            color=tokens.service,
            fontsize="small",
            fontweight=600,
            arrowprops={"arrowstyle": "-", "color": tokens.service, "shrinkB": 5, "lw": 1},
        )

    def describe(self) -> str:
        """Last losses in words."""
        parts = []
        if self.train:
            tip = self.train[-1]
            parts.append(f"train {tip.value:.3f} at step {format_of(tip.step, self.total_steps)}")
        if self.evals:
            parts.append(f"evaluation {self.evals[-1].value:.3f} at step {self.evals[-1].step:,}")
        return ", ".join(parts)

    def rows(self) -> list[list[object]]:
        """Step, training loss, smoothed loss and evaluation loss."""
        smoothed = smooth([point.value for point in self.train], self.weight)
        table: dict[int, list[object]] = {}
        for point, value in zip(self.train, smoothed, strict=True):
            table[point.step] = [point.step, point.value, round(value, 6), ""]
        for point in self.evals:
            table.setdefault(point.step, [point.step, "", "", ""])[3] = point.value
        header: list[object] = ["step", "train_loss", "train_loss_smoothed", "eval_loss"]
        return [header, *(table[step] for step in sorted(table))]


def _xy(points: Sequence[LossPoint]) -> tuple[list[int], list[float]]:
    return [point.step for point in points], [point.value for point in points]


def _shade_remainder(axes: Axes, last: int, total: int, tokens: Tokens) -> None:
    axes.axvspan(last, total, color=tokens.raised, linewidth=0, zorder=0)
    if total - last < 0.2 * total:
        return  # the words would not fit
    axes.text(
        (last + total) / 2,
        0.95,
        f"{total - last:,} steps left",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="top",
        color=tokens.text2,
        fontsize="small",
    )


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
        return bool(self.points) or (
            self.running_round is not None and self.threshold is not None
        )

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
        _percent_ticks(axes, low, high)
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
        body = [
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


def _percent_ticks(axes: Axes, low: float, high: float) -> None:
    """Ticks every 10, 20 or 25, with the unit on the top one only."""
    span = high - low
    step = 10 if span <= 60 else 25
    first = step * math.ceil(low / step)
    ticks = [first + step * i for i in range(int((high - first) // step) + 1)]
    labels = [f"{tick:g}" for tick in ticks]
    labels[-1] += f"{NO_BREAK}%"
    axes.set_yticks(ticks, labels)


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

    def has_data(self) -> bool:
        """Whether a curve has points."""
        return any(len(curve.thresholds) for curve in self.curves)

    def draw(self, figure: Figure, tokens: Tokens) -> None:
        """Draw into an empty figure."""
        axes = figure.add_subplot()
        curves = [curve for curve in self.curves if len(curve.thresholds)]
        axes.set_xlim(min(min(c.thresholds) for c in curves), max(max(c.thresholds) for c in curves))
        axes.set_ylim(0, 102)
        axes.set_xlabel("Score threshold t")
        _percent_ticks(axes, 0, 102)
        for mark in self.marks:
            _draw_mark(axes, mark, tokens)
        for number, curve in enumerate(curves):
            _draw_curve(axes, curve, number, tokens)
        figure.legend(
            loc="outside upper left",
            ncols=_legend_columns(figure, [curve.name for curve in curves]),
            handlelength=2.6,
            columnspacing=1.6,
            borderaxespad=0.2,
        )

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
    """As many columns as fit the figure's width, judged by the letters of the widest name."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    points = FontProperties(size=rcParams["legend.fontsize"]).get_size_in_points()
    widest = max(len(name) for name in names) * 0.58 * points + 5.2 * points
    return max(1, min(len(names), int(figure.get_figwidth() * 72 // widest)))


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
