"""The charts: with data and without, in both themes, saved, thinned and slowed down."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QFileDialog, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.theme.tokens import DARK, LIGHT
from llamaduo_gui.gui.widgets import chart_base
from llamaduo_gui.gui.widgets.chart_data import MAX_POINTS, smooth, thin
from llamaduo_gui.gui.widgets.charts import (
    ChartView,
    CoverageCurve,
    CoverageCurveChart,
    LossChart,
    LossPoint,
    RatioChart,
    RatioPoint,
)
from llamaduo_gui.gui.widgets.wording import Interval
from tests.gui.checks import picture, share_of_color

Show = Callable[..., QWidget]


def loss_points(count: int) -> list[LossPoint]:
    return [LossPoint(step, 0.8 + 1.2 * math.exp(-step / 90)) for step in range(1, count + 1)]


def make_loss() -> LossChart:
    chart = LossChart()
    chart.set_data(loss_points(412), [LossPoint(60, 1.5), LossPoint(360, 0.9)], 690)
    return chart


def make_ratio() -> RatioChart:
    chart = RatioChart()
    points = [
        RatioPoint(0, Interval(79.1, 74.6, 83.4, 100)),
        RatioPoint(1, Interval(87.2, 83.3, 90.8, 100)),
    ]
    chart.set_data(points, threshold=90, running_round=2)
    return chart


def make_coverage() -> CoverageCurveChart:
    chart = CoverageCurveChart()
    thresholds = list(range(20, 101))
    curves = []
    for kind, name, middle in (("service", "Service LLM", 85), ("gguf", "GGUF Q4_K_M", 79)):
        share = [100 / (1 + math.exp((t - middle) / 6)) for t in thresholds]
        low, high = [max(0, s - 4) for s in share], [min(100, s + 4) for s in share]
        curves.append(CoverageCurve(kind, name, thresholds, share, low, high))
    chart.set_data(curves)
    return chart


MAKERS = [
    pytest.param(make_loss, "tuned", id="loss"),
    pytest.param(make_ratio, "tuned", id="ratio"),
    pytest.param(make_coverage, "service", id="coverage"),
]


@pytest.mark.parametrize(("make", "token"), MAKERS)
def test_a_chart_draws_its_data_in_the_colours_of_either_theme(
    app: QApplication, shown: Show, make: Callable[[], ChartView], token: str
) -> None:
    chart = make()
    shown(chart, 500, 300)
    chart.draw_now()
    light = picture(chart)
    apply_theme(app, "dark")
    chart.draw_now()
    dark = picture(chart)
    assert share_of_color(light, LIGHT.surface) > 0.4
    assert share_of_color(dark, DARK.surface) > 0.4
    assert share_of_color(light, LIGHT.get(token), 1) > 0.001
    assert share_of_color(dark, DARK.get(token), 1) > 0.001


@pytest.mark.parametrize("chart_type", [LossChart, RatioChart, CoverageCurveChart])
def test_a_chart_without_data_says_when_there_will_be_some(
    app: QApplication, shown: Show, chart_type: type[ChartView]
) -> None:
    chart = chart_type()  # type: ignore[call-arg]
    shown(chart, 400, 200)
    assert not chart.has_data()
    assert chart._canvas is None
    assert "appear" in chart.accessibleName()
    chart.set_empty_text("Nothing was trained.")
    assert chart.accessibleName().endswith("Nothing was trained.")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (
            make_loss,
            "Training loss: train 0.812 at step 412 of 690, evaluation 0.900 at step 360",
        ),
        (
            make_ratio,
            (
                "Ratio by round: round 0 79.1 (74.6\u201383.4) per cent, round 1 87.2 "
                "(83.3\u201390.8) per cent, needed 90 per cent, round 2 is running"
            ),
        ),
        (
            make_coverage,
            (
                "Share of responses scoring at least t: Service LLM 99.7 per cent at 50, "
                "Service LLM 92.4 per cent at 70, GGUF Q4_K_M 99.2 per cent at 50, "
                "GGUF Q4_K_M 81.8 per cent at 70"
            ),
        ),
    ],
)
def test_a_chart_reads_out_its_numbers(
    app: QApplication, qtbot: QtBot, make: Callable[[], ChartView], name: str
) -> None:
    chart = make()
    qtbot.addWidget(chart)
    assert chart.accessibleName() == name
    assert chart.focusPolicy() & Qt.FocusPolicy.TabFocus


@pytest.mark.parametrize(("make", "_token"), MAKERS)
@pytest.mark.parametrize("size", [(180, 140), (240, 700), (1200, 160)])
@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_odd_sizes_and_large_text_draw_without_a_warning(
    app: QApplication,
    shown: Show,
    make: Callable[[], ChartView],
    _token: str,
    size: tuple[int, int],
    scale: float,
) -> None:
    apply_theme(app, "dark", scale)
    chart = make()
    shown(chart, *size)
    chart.draw_now()
    assert share_of_color(picture(chart), DARK.surface) > 0.1


@pytest.mark.parametrize(
    "train",
    [
        [LossPoint(1, 2.0)],
        [LossPoint(1, 0.0), LossPoint(2, 0.0)],
        [LossPoint(5, 1.0), LossPoint(6, 0.5)],
    ],
)
def test_the_first_steps_of_a_training_can_be_drawn(
    app: QApplication, shown: Show, train: list[LossPoint]
) -> None:
    chart = LossChart()
    chart.append(train)
    shown(chart, 300, 200)
    chart.draw_now()
    chart.append_evals([LossPoint(6, 0.7)])
    chart.set_total_steps(10)
    chart.set_smoothing(0)
    chart.draw_now()
    assert chart.has_data()
    chart.clear()
    assert not chart.has_data()


def test_a_round_that_runs_first_is_drawn_without_any_ratio(app: QApplication, shown: Show) -> None:
    chart = RatioChart()
    chart.set_data([], threshold=90, running_round=0, max_round=1)
    shown(chart, 300, 200)
    chart.draw_now()
    assert chart.has_data()


def test_ratios_far_from_the_threshold_stay_inside(app: QApplication, shown: Show) -> None:
    chart = RatioChart()
    points = [RatioPoint(0, Interval(3.0, 0.0, 9.0)), RatioPoint(1, Interval(131, 120, 140))]
    chart.set_data(points, threshold=90)
    shown(chart, 300, 200)
    chart.draw_now()
    canvas = chart._canvas
    assert canvas is not None
    low, high = canvas.figure.axes[0].get_ylim()
    assert low <= 0.0
    assert high >= 140.0


@pytest.mark.parametrize(("make", "_token"), MAKERS)
@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_a_chart_is_saved_in_the_light_theme_with_its_data_beside(
    app: QApplication,
    qtbot: QtBot,
    tmp_path: Path,
    make: Callable[[], ChartView],
    _token: str,
    suffix: str,
) -> None:
    apply_theme(app, "dark")
    chart = make()
    qtbot.addWidget(chart)
    path = tmp_path / f"chart{suffix}"
    assert chart.save(path) == [path, tmp_path / "chart.csv"]
    start = path.read_bytes()
    assert start.startswith({".pdf": b"%PDF", ".svg": b"<?xml", ".png": b"\x89PNG"}[suffix])
    if suffix == ".svg":
        assert b"<text" in start
        assert LIGHT.surface.lower().encode() in start.lower()
    if suffix == ".pdf":
        assert b"/FontFile2" in start
    if suffix == ".png":
        image = QImage(str(path))
        assert image.width() == 2100
        assert image.pixelColor(2, 2).name().upper() == LIGHT.surface


def test_saved_data_has_a_header_and_bounds_in_columns(
    app: QApplication, qtbot: QtBot, tmp_path: Path
) -> None:
    chart = make_ratio()
    qtbot.addWidget(chart)
    path = tmp_path / "ratio.csv"
    assert chart.save(path) == [path]
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["round", "ratio_percent", "low", "high", "n", "needed"]
    assert rows[1] == ["0", "79.1", "74.6", "83.4", "100", "90"]


def test_saved_losses_line_evaluations_up_with_their_steps(
    app: QApplication, qtbot: QtBot, tmp_path: Path
) -> None:
    chart = make_loss()
    qtbot.addWidget(chart)
    chart.save(tmp_path / "loss.csv")
    rows = (tmp_path / "loss.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 413
    assert rows[60].endswith(",1.5")
    assert rows[61].endswith(",")


def test_an_unknown_format_is_refused_by_name(
    app: QApplication, qtbot: QtBot, tmp_path: Path
) -> None:
    chart = make_loss()
    qtbot.addWidget(chart)
    with pytest.raises(ValueError, match=r"not \.bmp"):
        chart.save(tmp_path / "chart.bmp")


def test_asking_for_a_name_adds_the_chosen_suffix_and_cancel_saves_nothing(
    app: QApplication, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = make_loss()
    qtbot.addWidget(chart)
    answers = [(str(tmp_path / "my.chart"), "SVG (*.svg)"), ("", "")]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: answers.pop(0))
    assert chart.ask_and_save()[0].name == "my.chart.svg"
    assert chart.ask_and_save() == []


def test_many_points_a_second_are_drawn_at_most_twice_a_second(
    app: QApplication, shown: Show, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = make_loss()
    shown(chart, 400, 250)
    chart.draw_now()
    drawn: list[int] = []
    original = chart._draw
    chart._timer.timeout.disconnect()
    chart._timer.timeout.connect(lambda: (drawn.append(1), original()))
    for step in range(413, 613):
        chart.append([LossPoint(step, 0.8)])
        app.processEvents()
    assert len(drawn) <= 1 + chart._since_draw.elapsed() // chart_base.DRAW_INTERVAL_MS
    qtbot.waitUntil(lambda: len(drawn) >= 1, timeout=2000)


def test_a_chart_that_is_not_seen_is_not_drawn(app: QApplication, shown: Show) -> None:
    chart = make_loss()
    holder = QWidget()
    chart.setParent(holder)
    holder.resize(400, 300)
    chart.append([LossPoint(413, 0.8)])
    assert not chart._timer.isActive()
    assert chart._canvas is None
    shown(holder, 400, 300)
    assert chart._canvas is not None


def test_a_drag_of_the_window_draws_once(app: QApplication, shown: Show, qtbot: QtBot) -> None:
    chart = make_loss()
    shown(chart, 400, 250)
    chart.draw_now()
    canvas = chart._canvas
    assert canvas is not None
    settled: list[int] = []
    canvas.size_settled.connect(lambda: settled.append(1))
    for width in range(400, 500, 5):
        chart.resize(width, 250)
        app.processEvents()
    qtbot.waitUntil(lambda: bool(settled), timeout=2000)
    assert len(settled) <= 2
    assert canvas.figure.get_figwidth() * canvas.figure.dpi == pytest.approx(canvas.width())


def test_the_wheel_over_a_chart_is_left_to_the_page(app: QApplication, shown: Show) -> None:
    from tests.gui.test_widgets import _wheel

    chart = make_loss()
    shown(chart, 400, 250)
    canvas = chart._canvas
    assert canvas is not None
    event = _wheel(canvas)
    canvas.wheelEvent(event)
    assert not event.isAccepted()


def test_a_long_legend_is_broken_into_lines(app: QApplication, shown: Show) -> None:
    chart = CoverageCurveChart()
    curves = [
        CoverageCurve(kind, f"A model with a long name {kind}", [20, 50, 70], [90, 50, 10])
        for kind in ("service", "base", "tuned", "gguf", "ceiling")
    ]
    chart.set_data(curves)
    shown(chart, 420, 300)
    chart.draw_now()
    canvas = chart._canvas
    assert canvas is not None
    legend = canvas.figure.legends[0]
    box = legend.get_window_extent()
    assert box.x1 <= canvas.figure.bbox.width
    assert int(legend.get_gid()) >= 3
    assert box.y0 >= canvas.figure.axes[0].get_window_extent().y1


@pytest.mark.parametrize(("make", "_token"), MAKERS)
@pytest.mark.parametrize("ratio", [1.0, 1.5, 3.0])
def test_no_tick_label_is_cut_off_at_any_pixel_ratio(
    app: QApplication,
    shown: Show,
    make: Callable[[], ChartView],
    _token: str,
    ratio: float,
) -> None:
    chart = make()
    shown(chart, 420, 260)
    canvas = chart._canvas
    assert canvas is not None
    canvas._set_device_pixel_ratio(ratio)
    canvas._apply_size()
    chart.draw_now()
    axes = canvas.figure.axes[0]
    frame = canvas.figure.bbox
    for label in (*axes.get_yticklabels(), *axes.get_xticklabels(), axes.xaxis.label):
        box = label.get_window_extent()
        position = label.get_position()
        low, high = axes.get_xlim()
        if label in axes.get_xticklabels() and not low <= position[0] <= high:
            continue
        assert box.x0 >= -0.5, label
        assert box.y0 >= -0.5, label
        assert box.x1 <= frame.width + 0.5, label


def test_smoothing_of_a_constant_is_that_constant_from_the_first_step() -> None:
    assert smooth([3.0] * 5, 0.9) == pytest.approx([3.0] * 5)
    assert smooth([1.0, 2.0], 0.0) == [1.0, 2.0]
    with pytest.raises(ValueError, match="weight"):
        smooth([1.0], 1.0)


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=400),
    st.integers(min_value=2, max_value=50),
)
def test_thinning_keeps_order_extremes_and_the_limit(values: list[float], limit: int) -> None:
    points = [LossPoint(step, value) for step, value in enumerate(values)]
    thinned = thin(points, limit)
    assert len(thinned) <= max(limit, 2)
    assert [p.step for p in thinned] == sorted({p.step for p in thinned})
    assert min(p.value for p in thinned) == min(values)
    assert max(p.value for p in thinned) == max(values)


def test_a_long_training_is_drawn_with_a_thousand_points(app: QApplication, shown: Show) -> None:
    chart = LossChart()
    chart.set_data(loss_points(20_000))
    shown(chart, 400, 250)
    chart.draw_now()
    canvas = chart._canvas
    assert canvas is not None
    assert all(len(line.get_xdata()) <= MAX_POINTS for line in canvas.figure.axes[0].lines)


def test_importing_the_charts_and_making_one_without_data_leaves_matplotlib_alone() -> None:
    code = (
        "import sys\n"
        "from PySide6.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from llamaduo_gui.gui.widgets.charts import LossChart\n"
        "chart = LossChart(); chart.show(); app.processEvents()\n"
        "heavy = {'matplotlib', 'numpy', 'torch', 'transformers', 'openai'} & set(sys.modules)\n"
        "sys.exit(','.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
