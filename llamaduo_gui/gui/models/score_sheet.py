"""The score table and coverage curves of one metric and judge, in the form the widgets take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.types import Metric, ModelKind
from llamaduo_gui.gui.models.migrate_view import to_interval
from llamaduo_gui.gui.models.results_view import display_name
from llamaduo_gui.gui.widgets.charts import CoverageCurve
from llamaduo_gui.gui.widgets.score_table import ScoreColumn, ScoreRow
from llamaduo_gui.gui.widgets.wording import Interval

if TYPE_CHECKING:
    from llamaduo_gui.core.config import DecisionConfig
    from llamaduo_gui.evaluation.results import JudgedModel
    from llamaduo_gui.gui.models.results_view import SplitResults

Cell = Mapping[str, Any]
_FLAT = 97.0


@dataclass(frozen=True, slots=True)
class ScoreSheet:
    """One metric by one judge (or the pool): table, what is left out of it, and curves.

    `curve_start` is where the curves begin to differ: below it nearly every response counts.
    """

    metric: Metric
    judge: str
    columns: tuple[ScoreColumn, ...]
    rows: tuple[ScoreRow, ...]
    footer: str
    curves: tuple[CoverageCurve, ...]
    curve_start: float


def make_sheet(results: SplitResults, metric: Metric, judge: str) -> ScoreSheet:
    """Compute the numbers as the report does: the same draws with the same seed.

    0.1 s for four models, so not for the GUI thread.
    """
    from llamaduo_gui.evaluation.report import CURVE_THRESHOLDS
    from llamaduo_gui.evaluation.results import score_cell
    from llamaduo_gui.evaluation.statistics import coverage_curve

    config = results.config
    options = {"resamples": config.decision.resamples, "seed": config.seed}
    cells = [
        score_cell(model, results.models, judge, metric, **options) for model in results.models
    ]
    names = {model.key: display_name(model, results.models) for model in results.models}
    last_of_kind = {model.kind: model for model in results.models}
    curves = []
    for model in last_of_kind.values():
        curve = coverage_curve(model.scores.by_prompt(metric, judge), CURVE_THRESHOLDS, **options)
        if curve.values:
            curves.append(
                CoverageCurve(
                    model.kind.value,
                    names[model.key],
                    curve.thresholds,
                    curve.values,
                    curve.low,
                    curve.high,
                )
            )
    return ScoreSheet(
        metric=metric,
        judge=judge,
        columns=_columns(cells, metric, config.decision),
        rows=tuple(
            _row(model, names[model.key], cell)
            for model, cell in zip(results.models, cells, strict=True)
        ),
        footer=f"{_footer(list(names.values()), cells)} {results.headline.services}".strip(),
        curves=tuple(curves),
        curve_start=_curve_start(curves),
    )


def _columns(
    cells: Sequence[Cell], metric: Metric, decision: DecisionConfig
) -> tuple[ScoreColumn, ...]:
    matched = [item["p_match"]["mean"] for item in cells if item["p_match"]]
    top = max([100.0, *(item["high"] or item["value"] or 0.0 for item in matched)])
    wanted: dict[str, float | None] = {
        "non_inferiority": 100 * (1 - decision.margin),
        "p_match": decision.p_match_target,
    }
    absolute = {
        Metric.PRECISION: decision.absolute_precision,
        Metric.SIMILARITY: decision.absolute_similarity,
    }
    needed = absolute[metric] if decision.rule == "absolute" else None
    return (
        ScoreColumn("mean", "Mean", reference=needed),
        ScoreColumn("coverage_50", "Coverage@50"),
        ScoreColumn("coverage_70", "Coverage@70"),
        ScoreColumn("p_match", "P-Match", (0.0, top), wanted.get(decision.rule)),
    )


def _row(model: JudgedModel, name: str, cell: Cell) -> ScoreRow:
    scored = cell["n_responses"] - cell["n_unscored"]
    words: list[Interval | str | None] = [
        _interval(cell[name], scored) for name in ("mean", "coverage_50", "coverage_70")
    ]
    if not cell["n_responses"]:
        words[0] = "not judged"
    if model.kind is ModelKind.SERVICE:
        words.append("reference")
    else:
        words.append(_interval(cell["p_match"]["mean"], scored) if cell["p_match"] else None)
    return ScoreRow(model.kind.value, name, tuple(words))


def _interval(estimate: Mapping[str, Any], n: int) -> Interval | None:
    found = to_interval(dict(estimate))
    return Interval(found.estimate, found.low, found.high, n) if found else None


def _curve_start(curves: Sequence[CoverageCurve]) -> float:
    """The highest multiple of ten, up to 40, at which every curve is still nearly whole."""
    starts = (10.0, 20.0, 30.0, 40.0)
    flat = [start for start in starts if all((c.share_at(start) or 0.0) >= _FLAT for c in curves)]
    return max(flat, default=0.0)


def _footer(names: Sequence[str], cells: Sequence[Cell]) -> str:
    """How many responses each row rests on, and how many of them have no score."""
    counts = sorted({cell["n_responses"] for cell in cells})
    if len(counts) == 1:
        words = f"{counts[0]:,} responses a row"
    else:
        pairs = zip(names, cells, strict=True)
        each = (f"{name} {cell['n_responses']:,}" for name, cell in pairs)
        words = f"Responses: {'; '.join(each)}"
    lost = [
        f"{name} {cell['n_unscored']:,}"
        for name, cell in zip(names, cells, strict=True)
        if cell["n_unscored"]
    ]
    return f"{words}; unscored: {', '.join(lost) if lost else 'none'}."
