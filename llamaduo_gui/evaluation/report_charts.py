"""The report's charts as SVG text, coloured by the classes of resources/report/report.css."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 24, 40
_MARKER_EVERY = 12
_STRIP_WIDTH, _STRIP_HEIGHT = 110, 10

Estimate = Mapping[str, Any]


def interval_strip(estimate: Estimate, kind: str, low: float, high: float) -> str:
    """A value and its interval on an axis from `low` to `high` that a whole column shares."""
    value = estimate["value"]
    if value is None or high <= low:
        return ""

    def x(number: float) -> float:
        inside = min(max(number, low), high)
        return 2 + (_STRIP_WIDTH - 4) * (inside - low) / (high - low)

    middle = _STRIP_HEIGHT / 2
    band = ""
    if estimate["low"] is not None and estimate["high"] is not None:
        left, right = x(estimate["low"]), x(estimate["high"])
        band = (
            f'<rect class="fill" x="{left:.1f}" y="2" rx="2" height="{_STRIP_HEIGHT - 4}" '
            f'width="{max(right - left, 1):.1f}"/>'
        )
    return (
        f'<svg class="strip {kind}" viewBox="0 0 {_STRIP_WIDTH} {_STRIP_HEIGHT}" '
        f'width="{_STRIP_WIDTH}" height="{_STRIP_HEIGHT}" aria-hidden="true">'
        f'<line class="axis" x1="0" x2="{_STRIP_WIDTH}" y1="{middle}" y2="{middle}"/>{band}'
        f'<line class="tick" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="0" y2="{_STRIP_HEIGHT}"/>'
        "</svg>"
    )


def coverage_chart(curves: Sequence[Mapping[str, Any]], title: str) -> str:
    """Share of responses scoring at least t, one line a model with its band, 1 <= t <= 100."""
    parts = [_grid((0, 25, 50, 75, 100), (20, 40, 50, 60, 70, 80, 100), "Score threshold t")]
    parts += [_vertical(50, "@50"), _vertical(70, "@70")]
    for curve in curves:
        points = list(zip(curve["thresholds"], curve["values"], strict=False))
        parts.append(f'<g class="{curve["kind"]}"><title>{escape(curve["title"])}</title>')
        if curve["low"]:
            parts.append(_band(curve["thresholds"], curve["low"], curve["high"]))
        parts.append(_line([(_x(t), _y(value)) for t, value in points]))
        parts += [_marker(curve["kind"], _x(t), _y(v)) for t, v in points[5::_MARKER_EVERY]]
        parts.append("</g>")
    return _svg(parts, f"{title}: share of responses scoring at least a threshold, by model")


def loss_chart(rounds: Sequence[tuple[int, Mapping[str, Sequence[Sequence[float]]]]]) -> str:
    """Training loss (lines) and validation loss (diamonds) of every round against the step."""
    points = [p for _, curves in rounds for series in curves.values() for p in series]
    if not points:
        return ""
    steps, losses = max(p[0] for p in points) or 1, max(p[1] for p in points) or 1.0
    top = losses * 1.05

    def place(point: Sequence[float]) -> tuple[float, float]:
        return _x(100 * point[0] / steps), _y(100 * point[1] / top)

    labels = {100 * i / 4: f"{top * i / 4:.2g}" for i in range(5)}
    ticks = {100 * i / 4: f"{steps * i / 4:.0f}" for i in range(5)}
    parts = [_grid(tuple(labels), tuple(ticks), "Step", labels, ticks)]
    for number, curves in rounds:
        parts.append(f'<g class="tuned round-{number % 4}"><title>Round {number}</title>')
        parts.append(_line([place(point) for point in curves.get("loss", ())]))
        parts += [_marker("gguf", *place(point)) for point in curves.get("eval_loss", ())]
        parts.append("</g>")
    return _svg(parts, "Training and validation loss by step")


def legend_mark(kind: str) -> str:
    """The line and marker of a kind of model, to stand before its name."""
    return (
        f'<svg class="mark {kind}" viewBox="0 0 26 10" width="26" height="10" aria-hidden="true">'
        f'<path class="line" d="M0 5H26"/>{_marker(kind, 13, 5)}</svg>'
    )


def round_mark(number: int) -> str:
    """The line style of a round in `loss_chart`."""
    return (
        f'<svg class="mark tuned round-{number % 4}" viewBox="0 0 26 10" width="26" height="10" '
        'aria-hidden="true"><path class="line" d="M0 5H26"/></svg>'
    )


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(label, quote=True)}">{"".join(parts)}</svg>'
    )


def _x(percent: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * percent / 100


def _y(percent: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * percent / 100


def _grid(
    rows: Sequence[float],
    columns: Sequence[float],
    caption: str,
    row_labels: Mapping[float, str] | None = None,
    column_labels: Mapping[float, str] | None = None,
) -> str:
    parts = []
    for row in rows:
        label = row_labels[row] if row_labels else f"{row:g}" + (" %" if row == 100 else "")
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(row):.1f}" '
            f'y2="{_y(row):.1f}"/><text class="label end" x="{_LEFT - 6}" '
            f'y="{_y(row) + 4:.1f}">{escape(label)}</text>'
        )
    for column in columns:
        label = column_labels[column] if column_labels else f"{column:g}"
        parts.append(
            f'<text class="label middle" x="{_x(column):.1f}" '
            f'y="{_HEIGHT - _BOTTOM + 16}">{escape(label)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="label middle" x="{middle}" y="{_HEIGHT - 6}">{escape(caption)}</text>'
    )
    return "".join(parts)


def _vertical(threshold: float, label: str) -> str:
    x = _x(threshold)
    return (
        f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="label middle" x="{x:.1f}" y="{_TOP - 8}">{escape(label)}</text>'
    )


def _band(xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
    there = [f"{_x(t):.1f} {_y(value):.1f}" for t, value in zip(xs, high, strict=True)]
    back = [f"{_x(t):.1f} {_y(value):.1f}" for t, value in zip(xs, low, strict=True)]
    return f'<path class="band" d="M{"L".join([*there, *reversed(back)])}Z"/>'


def _line(points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return ""
    return f'<path class="line" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>'


def _marker(kind: str, x: float, y: float) -> str:
    """Square, triangle, circle or diamond: colour alone never tells models apart.

    The noise ceiling is no model and has none, only a thin line.
    """
    if kind == "ceiling":
        return ""
    shapes = {
        "service": f"M{x - 3.5:.1f} {y - 3.5:.1f}h7v7h-7Z",
        "base": f"M{x:.1f} {y - 4.5:.1f}l4.5 8h-9Z",
        "gguf": f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5Z",
    }
    if kind not in shapes:
        return f'<circle class="marker" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    return f'<path class="marker" d="{shapes[kind]}"/>'
