"""The charts of the window; matplotlib loads when the first one with data is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llamaduo_gui.gui.widgets.chart_base import ChartView, preload_matplotlib
from llamaduo_gui.gui.widgets.chart_data import LossPoint
from llamaduo_gui.gui.widgets.plot_coverage import CoverageCurve, CoveragePlot
from llamaduo_gui.gui.widgets.plot_loss import LossPlot
from llamaduo_gui.gui.widgets.plot_ratio import RatioPlot, RatioPoint

__all__ = [
    "ChartView",
    "CoverageCurve",
    "CoverageCurveChart",
    "LossChart",
    "LossPoint",
    "RatioChart",
    "RatioPoint",
    "preload_matplotlib",
]


class LossChart(ChartView):
    """Training loss: raw and smoothed line, evaluations as diamonds, the remainder shaded."""

    def __init__(self, name: str = "Training loss") -> None:
        self._loss = LossPlot()
        super().__init__(self._loss, name, "The loss appears with the first training step.")

    def set_data(
        self, train: Iterable[LossPoint], evals: Iterable[LossPoint] = (), total_steps: int = 0
    ) -> None:
        """Replace everything; `total_steps` 0 means not known."""
        self._loss.train, self._loss.evals = list(train), list(evals)
        self._loss.total_steps = total_steps
        self.refresh()

    def append(self, points: Iterable[LossPoint]) -> None:
        """Add training losses, oldest first."""
        self._loss.train.extend(points)
        self.refresh()

    def append_evals(self, points: Iterable[LossPoint]) -> None:
        """Add evaluation losses, oldest first."""
        self._loss.evals.extend(points)
        self.refresh()

    def set_total_steps(self, total_steps: int) -> None:
        """Say how many steps the training will take."""
        self._loss.total_steps = total_steps
        self.refresh()

    def set_smoothing(self, weight: float) -> None:
        """Smooth with an exponential average, 0 (none) to below 1."""
        self._loss.weight = weight
        self.refresh()

    def clear(self) -> None:
        """Forget all losses."""
        self.set_data(())


class RatioChart(ChartView):
    """Student / teacher by round, with the threshold that the lower bound must clear."""

    def __init__(self, name: str = "Ratio by round") -> None:
        self._ratios = RatioPlot()
        super().__init__(self._ratios, name, "The ratio appears when a round has been judged.")

    def set_data(
        self,
        points: Iterable[RatioPoint],
        threshold: float | None = None,
        running_round: int | None = None,
        max_round: int | None = None,
    ) -> None:
        """Show these rounds; ratios and `threshold` in per cent."""
        self._ratios.points = list(points)
        self._ratios.threshold = threshold
        self._ratios.running_round = running_round
        self._ratios.max_round = max_round
        self.refresh()


class CoverageCurveChart(ChartView):
    """Share of responses that score at least t, a step curve with a band a model."""

    def __init__(self, name: str = "Share of responses scoring at least t") -> None:
        self._coverage = CoveragePlot()
        super().__init__(self._coverage, name, "The curves appear when responses are judged.")

    def set_data(
        self,
        curves: Iterable[CoverageCurve],
        marks: Sequence[float] = (50.0, 70.0),
        start: float = 0.0,
    ) -> None:
        """Show these curves from the threshold `start` on, and vertical marks."""
        self._coverage.curves = list(curves)
        self._coverage.start = start
        self._coverage.marks = tuple(marks)
        self.refresh()
