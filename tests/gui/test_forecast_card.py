"""The Migrate page's money: the forecast, the budget field, a pilot, and a spent budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.config import PipelineConfig, validate_config
from llamaduo_gui.core.errors import BudgetReachedError
from llamaduo_gui.core.types import RunStatus, Split, Stage, TokenCounts
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.models.forecast_view import read_forecast
from llamaduo_gui.gui.models.migrate_view import read_migrate
from llamaduo_gui.gui.pages.migrate import MigratePage
from llamaduo_gui.gui.panels.forecast_card import ForecastCard
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.store.project import Project
from tests.gui.checks import clipped_texts, unnamed_focusables
from tests.gui.projects import make_data_project

WAIT_MS = 20_000


def _config(**values: Any) -> PipelineConfig:
    return validate_config(
        {
            "teacher": {"provider": "openai", "model": "gpt-4o", "max_rpm": 600},
            "judges": [{"provider": "anthropic", "model": "claude-sonnet-4-5", "repeats": 2}],
            "decision": {"max_rounds": 2},
            **values,
        }
    )


def _spend(project: Project, usd: float, count: int = 1) -> None:
    run = project.runs.find_or_create("infer:service:validation", Stage.INFER, split=Split.TEST)
    for number in range(count):
        key = f"call {number}"
        project.replies.begin(
            key, run_id=run.id, provider="openai", model="gpt-4o", purpose="answer", request={}
        )
        project.replies.complete(
            key,
            text="x",
            finish_reason="stop",
            tokens=TokenCounts(prompt=100 + number, completion=50 + 3 * number),
            cost_usd=usd / count,
            latency_s=1.0,
            attempts=1,
        )


def _stop_at_budget(project: Project) -> None:
    try:
        Budget(0.35, lambda: 0.33).try_reserve("k", 0.05, "openai:gpt-4o")
    except BudgetReachedError as error:
        sentence = str(error)
    for key, stage in (("pipeline", Stage.PIPELINE), ("judge:service:validation", Stage.JUDGE)):
        run = project.runs.find_or_create(key, stage, label="service")
        project.runs.start(run.id, {})
        project.runs.set_progress(run.id, 83, 120)
        project.runs.finish(run.id, RunStatus.CANCELLED, error=sentence)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_data_project(tmp_path / "p", config=_config()).close()
    path = tmp_path / "p" / "pipeline.yaml"
    path.write_text("# my own words\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path / "p"


@pytest.fixture
def page(app: QApplication, qtbot: QtBot, folder: Path) -> MigratePage:
    return _open(qtbot, folder)


def _open(qtbot: QtBot, folder: Path) -> MigratePage:
    window = MainWindow(Workspace())
    qtbot.addWidget(window)
    window.resize(1280, 800)
    window.show()
    qtbot.waitExposed(window)
    with qtbot.waitSignal(window.workspace.session_changed, timeout=WAIT_MS):
        window.workspace.open_project(folder)
    found = window.show_page("migrate")
    assert isinstance(found, MigratePage)
    qtbot.waitUntil(found.forecast.isVisible, timeout=WAIT_MS)
    return found


def test_before_the_start_every_stage_has_a_range_its_basis_and_the_prices(
    page: MigratePage,
) -> None:
    text = page.forecast.text()
    for part in (
        "The teacher's answers",
        "Judging",
        "Rounds 1\u20132, if not matched",
        "text lengths",
        "rough, until real calls are made",
        "openai:gpt-4o: $2.50 for reading and $10.00 for writing a million tokens",
        "genai-prices",
        "no budget is set",
    ):
        assert part in text + page.forecast._subtitle.text()
    assert text.count("$") > 6
    assert page.forecast.pilot_button.isVisible()
    assert unnamed_focusables(page.forecast) == []
    assert clipped_texts(page.forecast) == []


def test_a_budget_that_is_typed_is_written_and_leaves_the_users_words(
    page: MigratePage, qtbot: QtBot, folder: Path
) -> None:
    card = page.forecast
    assert card.budget_box.text() == "no limit"
    assert not card.set_button.isEnabled()
    card.focus_budget()
    QTest.keyClicks(card.budget_box, "0.01")
    QTest.mouseClick(card.set_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "of $0.01 is spent" in card.text(), timeout=WAIT_MS)
    assert "The budget may be reached" in card.text()
    assert not card.set_button.isEnabled()
    text = (folder / "pipeline.yaml").read_text(encoding="utf-8")
    assert text.startswith("# my own words\n")
    window = page.window()
    assert isinstance(window, MainWindow)
    qtbot.waitUntil(lambda: "$0.00 of $0.01" in window._job_bar.text(), timeout=WAIT_MS)


def test_a_pilot_is_made_only_after_its_cost_was_said(
    page: MigratePage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    assert page.session is not None
    monkeypatch.setattr(page.session, "start_job", started.append)
    QTest.mouseClick(page.forecast.pilot_button, Qt.MouseButton.LeftButton)

    def dialog() -> ConfirmDialog | None:
        return next((found for found in page.findChildren(ConfirmDialog)), None)

    qtbot.waitUntil(lambda: dialog() is not None, timeout=WAIT_MS)
    asked = dialog()
    assert asked is not None
    assert started == []
    texts = " ".join(
        child.text() for child in asked.findChildren(QWidget) if hasattr(child, "text")
    )
    assert "may cost at most about $" in texts
    QTest.mouseClick(asked.action_button, Qt.MouseButton.LeftButton)
    assert started == ["pilot"]


def test_a_spent_budget_is_no_failure_and_says_what_to_do(
    app: QApplication, qtbot: QtBot, folder: Path
) -> None:
    with Project.open(folder) as project:
        project.set_budget(0.35)
        _spend(project, 0.33)
        _stop_at_budget(project)
        view = read_migrate(project)
    assert view.is_at_budget
    assert view.spent_usd == pytest.approx(0.33)
    page = _open(qtbot, folder)
    assert page.header.pill_text() == "Budget reached"
    assert "The budget of $0.35 is reached" in page._banner.text()
    assert page.start_button.text() == "Resume"
    cell = page._timeline.cell_button(-1, Stage.JUDGE.value)
    assert "Budget reached" in cell.accessibleName() + cell.text()
    button = page._banner.action_button()
    assert button.text() == "Raise the budget"
    page.window().activateWindow()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(page.forecast.budget_box.hasFocus, timeout=WAIT_MS)
    QTest.keyClicks(page.forecast.budget_box, "50\r")
    qtbot.waitUntil(lambda: "of $50.00 is spent" in page.forecast.text(), timeout=WAIT_MS)
    assert page.start_button.isEnabled()


def test_calls_made_so_far_narrow_the_forecast(folder: Path) -> None:
    with Project.open(folder) as project:
        before = read_forecast(project)
        _spend(project, 0.5, count=20)
        after = read_forecast(project)
    assert before.lines[0].basis == "text lengths"
    assert after.lines[0].basis == "a pilot of 20 calls"
    assert after.lines[0].cost != before.lines[0].cost
    assert "Answers of the teacher, validation: $" in after.lines[0].details
    assert after.basis == "rough, until real calls are made", "judging is not tried yet"


def test_runs_that_only_a_pilot_made_are_no_part_of_the_loop(folder: Path) -> None:
    with Project.open(folder) as project:
        project.runs.find_or_create("synthesize:r1", Stage.SYNTHESIZE, round_number=1)
        view = read_migrate(project)
    assert view.rows == ()
    assert view.future is not None
    assert view.future.number == 0


def test_free_services_show_no_cost_and_no_pilot(
    tmp_path: Path, shown: Callable[..., QWidget]
) -> None:
    tutor = {"provider": "offline", "model": "tutor"}
    config = _config(teacher=tutor, judges=[tutor])
    with make_data_project(tmp_path / "free", config=config) as project:
        view = read_forecast(project)
    card = shown(ForecastCard(), 900, 400)
    assert isinstance(card, ForecastCard)
    card.show_forecast(view)
    assert "Nothing has to be paid." in card.text()
    assert "offline:tutor is free of charge" in card.text()
    assert not card.pilot_button.isVisible()


def test_a_missing_price_is_said_in_place_of_a_sum(tmp_path: Path) -> None:
    unknown = {"provider": "openai_compatible", "model": "m", "base_url": "http://192.0.2.1/v1"}
    config = _config(teacher=unknown)
    with make_data_project(tmp_path / "unknown", config=config) as project:
        view = read_forecast(project)
    assert view.lines[0].cost == "no price known"
    assert "a price is missing" in view.total
    assert any("set `price` in pipeline.yaml" in note for note in view.notes)
