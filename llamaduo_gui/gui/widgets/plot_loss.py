"""The plot of the training loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llamaduo_gui.gui.theme.tokens import Tokens
from llamaduo_gui.gui.widgets.chart_data import LossPoint, smooth, thin
from llamaduo_gui.gui.widgets.wording import format_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RAW_ALPHA = 0.28


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
