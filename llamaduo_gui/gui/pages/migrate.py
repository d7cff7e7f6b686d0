"""The Migrate page: one Start button, and the loop as it happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFormLayout, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from llamaduo_gui.core.budget import is_budget_stop
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.events import Log, MetricLogged, Progress, Started
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.forecast_control import ForecastControl
from llamaduo_gui.gui.models.migrate_view import (
    COLUMNS,
    MigrateView,
    live_cell,
    read_migrate,
)
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.panels.forecast_card import ForecastCard
from llamaduo_gui.gui.session import ProjectSession
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, combo_box
from llamaduo_gui.gui.widgets.card import Card, Tile, TileRow
from llamaduo_gui.gui.widgets.charts import LossChart, LossPoint, RatioChart
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.log_view import LogLine, LogView, log_level_combo
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.stage_timeline import StageTimeline
from llamaduo_gui.gui.widgets.wording import (
    format_count,
    format_duration,
    format_money,
    format_percent,
    format_range,
)
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.store.rows import LogRow
from llamaduo_gui.worker.supervisor import JobResult

if TYPE_CHECKING:
    from llamaduo_gui.core.config import PipelineConfig

_SMOOTHINGS = (("No smoothing", 0.0), ("Smoothing 0.6", 0.6), ("Smoothing 0.9", 0.9))
_CLOCK_MS = 1000


class MigratePage(WorkspacePage):
    """Start, watch, stop and resume the loop."""

    tables = frozenset({"runs", "records", "candidates", "judgements", "replies", "training_log"})

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Migrate", workspace)
        self._view = MigrateView()
        self._read_at = time.monotonic()
        self._has_logs = False
        self.start_button = Button("Start", "primary", icon="play")
        self.settings_button = Button("Settings...", icon="settings")
        self.pause_button = Button("Pause after this stage", icon="pause")
        self.stop_button = Button("Stop...", "danger", icon="stop")
        self.results_button = Button("See results", "primary", icon="results")
        for button in (
            self.settings_button,
            self.results_button,
            self.start_button,
            self.pause_button,
            self.stop_button,
        ):
            self.header.add_action(button)
        self.settings_button.clicked.connect(self._change_settings)
        self.start_button.clicked.connect(self.main_action)
        self.pause_button.clicked.connect(self._pause_job)
        self.stop_button.clicked.connect(self._ask_to_stop)
        self.results_button.clicked.connect(lambda: workspace.page_requested.emit("results"))
        self._banner = MessageBanner()
        self._banner.action_clicked.connect(self._follow_banner)
        self.body.addWidget(self._banner)
        self._build_plan()
        self._build_tiles()
        self._build_rounds()
        self._build_forecast()
        self._build_charts()
        self._filler = QWidget()
        self.body.addWidget(self._filler, 1)
        self._clock = QTimer(self)
        self._clock.setInterval(_CLOCK_MS)
        self._clock.timeout.connect(self._show_time)
        self._show_nothing()

    # What the window asks of a page

    def attach(self, session: ProjectSession | None) -> None:
        """Watch the jobs of another project."""
        self._view = MigrateView()
        self._show_nothing()
        self._forecasts.attach(session)
        self._has_logs = False
        self._log.clear()
        if session is None:
            return
        session.progress.connect(self._show_progress)
        session.run_started.connect(self._note_run_started)
        session.metrics.connect(self._add_metrics)
        session.logged.connect(self._add_logs)
        session.job_started.connect(self._show_state)
        session.job_finished.connect(self._note_finished)

    def refresh(self) -> None:
        """Read the loop's state again."""
        if self.session is None:
            return
        project = self.session.project
        self.background.run("view", lambda: read_migrate(project), self._show, self._show_error)
        self._forecasts.refresh()

    def main_action(self) -> None:
        """Start or resume the loop, or go to the results when it is complete."""
        session = self.session
        if session is None or session.is_working or self._view.problem:
            return
        if self._view.is_complete:
            self.workspace.page_requested.emit("results")
            return
        self._banner.clear()
        session.start_job("pipeline")

    def escape(self) -> None:
        """Esc offers to stop what runs."""
        if self.session is not None and self.session.is_working:
            self._ask_to_stop()

    # Building

    def _build_plan(self) -> None:
        self._plan = Card("What will happen", "nothing has run yet")
        self._plan_rows = QFormLayout()
        self._plan_rows.setHorizontalSpacing(SPACE.xl)
        self._plan_rows.setVerticalSpacing(SPACE.s)
        self._plan.body.addLayout(self._plan_rows)
        self.body.addWidget(self._plan)

    def _build_tiles(self) -> None:
        self._ratio = Tile("Ratio to teacher, validation")
        self._spent = Tile("Service LLM")
        self._time = Tile("Time")
        self._judged = Tile("Judgements")
        self._tiles = TileRow([self._ratio, self._spent, self._time, self._judged])
        # Wrapped notes let a layout squeeze the tiles; a page that is too high scrolls instead.
        self._tiles.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.body.addWidget(self._tiles)

    def _build_rounds(self) -> None:
        self._rounds = Card("Rounds")
        self._timeline = StageTimeline(COLUMNS)
        self._timeline.cell_activated.connect(self._open_cell)
        self._rounds.body.addWidget(self._timeline)
        self.body.addWidget(self._rounds)

    def _build_forecast(self) -> None:
        self.forecast = ForecastCard()
        self._forecasts = ForecastControl(self.forecast, self.background)
        self._forecasts.said.connect(self._banner.show_message)
        self._forecasts.budget_changed.connect(self._note_budget)
        self.body.addWidget(self.forecast)

    def _build_charts(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(SPACE.m)
        self._loss_card = Card("Training loss")
        smoothing = combo_box(_SMOOTHINGS, "Smoothing of the loss curve")
        smoothing.setCurrentIndex(1)
        self._loss = LossChart("Training loss")
        self._loss.set_smoothing(_SMOOTHINGS[1][1])
        self._loss.set_empty_text("The loss appears when fine-tuning starts.")
        smoothing.currentIndexChanged.connect(
            lambda index: self._loss.set_smoothing(_SMOOTHINGS[index][1])
        )
        self._loss_card.add_action(smoothing)
        self._loss_card.body.addWidget(self._loss, 1)
        self._ratio_card = Card("Ratio by round", "95 % interval")
        self._ratio_chart = RatioChart("Ratio of student to teacher by round")
        self._ratio_chart.set_empty_text("A dot appears with each decided round.")
        self._ratio_card.body.addWidget(self._ratio_chart, 1)
        self._log_card = Card("Log")
        self._log = LogView("Log of the project")
        self._log_card.add_action(log_level_combo(self._log))
        self._log_card.body.addWidget(self._log, 1)
        row.addWidget(self._loss_card, 5)
        row.addWidget(self._ratio_card, 3)
        row.addWidget(self._log_card, 4)
        self._charts = QWidget()
        column = QVBoxLayout(self._charts)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        self._charts.setMinimumHeight(300)
        self.body.addWidget(self._charts, 1)

    # Showing what was read

    def _show_nothing(self) -> None:
        """Until a project is read it is neither fresh nor finished: offer nothing yet."""
        for button in (self.results_button, self.start_button, self.pause_button, self.stop_button):
            button.setVisible(False)
        for part in (self._plan, self._tiles, self._rounds, self._charts):
            part.setVisible(False)
        self._filler.setVisible(True)

    def _show(self, view: MigrateView) -> None:
        self._view = view
        self._read_at = time.monotonic()
        self._plan.setVisible(not view.has_started)
        self._show_plan(view)
        self._tiles.setVisible(view.has_started)
        self._rounds.setVisible(view.has_started)
        self._charts.setVisible(view.has_started)
        self._filler.setVisible(not view.has_started)
        self._timeline.set_rows(view.rows, view.future)
        self._rounds.set_subtitle(_rule_text(view))
        self._show_tiles(view)
        self._loss_card.set_subtitle(
            f"round {view.loss_round}" if view.loss_round is not None else ""
        )
        self._loss.set_data(view.loss, view.eval_loss, view.total_steps)
        self._ratio_chart.set_data(
            view.ratios,
            view.threshold,
            running_round=view.running_round,
            max_round=view.max_rounds,
        )
        if not self._has_logs:
            self._has_logs = True
            self._log.extend([_stored_line(row) for row in view.logs])
        if self.session is not None and self.session.current_progress is not None:
            self._show_progress(self.session.current_progress)
        self._show_state()

    def _show_plan(self, view: MigrateView) -> None:
        while self._plan_rows.rowCount():
            self._plan_rows.removeRow(0)
        for name, value in view.plan:
            self._plan_rows.addRow(Label(name, tone="text2"), Label(value, wrap=True))

    def _show_tiles(self, view: MigrateView) -> None:
        if view.ratios:
            interval = view.ratios[-1].ratio
            self._ratio.set_value(
                format_percent(interval.estimate),
                format_range(interval),
                f"lower bound must reach {format_percent(view.threshold, 0)}"
                if view.threshold is not None
                else "absolute thresholds decide",
            )
        else:
            self._ratio.set_value("\u2014", "", "after the first decided round")
        self._spent.set_value(*_spent_text(view))
        judgements, unscored = view.judgements
        self._judged.set_value(
            format_count(judgements),
            f"{format_count(unscored)} unscored",
            "kept as unscored, never as 0",
        )
        self._show_time()

    def _show_time(self) -> None:
        waited = time.monotonic() - self._read_at if self._clock.isActive() else 0.0
        note = "over all stages"
        session = self.session
        if session is not None and session.current_progress is not None:
            eta = session.current_progress.eta_s
            if eta is not None:
                note = f"about {format_duration(eta)} left in this stage"
        self._time.set_value(format_duration(self._view.seconds + waited), "", note)

    def _show_state(self) -> None:
        session, view = self.session, self._view
        is_working = session is not None and session.is_working
        is_stopping = session is not None and session.is_cancelling
        self.settings_button.setVisible(not is_working)
        self.pause_button.setVisible(is_working)
        self.stop_button.setVisible(is_working)
        self.stop_button.setEnabled(not is_stopping)
        is_pausing = session is not None and session.is_pausing
        self.pause_button.setEnabled(not is_stopping and not is_pausing)
        self.start_button.setVisible(not is_working and not view.is_complete)
        self.start_button.setEnabled(not view.problem)
        self.start_button.setText("Resume" if view.has_started else "Start")
        self.results_button.setVisible(not is_working and view.is_complete)
        self._forecasts.update_visibility(is_over=view.is_complete)
        if is_working:
            self._clock.start()
        else:
            self._clock.stop()
        self._show_pill(is_working=is_working, is_stopping=is_stopping, is_pausing=is_pausing)
        if view.problem and not is_working:
            self._banner.show_message("warn", view.problem, action="Settings...", closable=False)
        elif view.is_at_budget and not is_working:
            self._banner.show_message("warn", view.last_error, action="Raise the budget")
        elif view.last_error and not is_working:
            self._banner.show_message("bad", view.last_error, action="Resume")

    def _show_pill(self, *, is_working: bool, is_stopping: bool, is_pausing: bool) -> None:
        view = self._view
        if is_stopping:
            self.header.set_pill("warn", "Stopping")
        elif is_pausing and is_working:
            self.header.set_pill("warn", "Pausing after this stage")
        elif is_working:
            self.header.set_pill("run", "Running", "migrate")
        elif view.is_complete and view.is_matched:
            self.header.set_pill("ok", "Matched", "check")
        elif view.is_complete:
            self.header.set_pill("warn", "Not matched", "minus")
        elif view.is_at_budget:
            self.header.set_pill("warn", "Budget reached", "dollar")
        elif view.last_status is RunStatus.FAILED:
            self.header.set_pill("bad", "Failed", "x")
        elif view.last_status in (RunStatus.CANCELLED, RunStatus.INTERRUPTED):
            self.header.set_pill("warn", view.last_status.value.capitalize(), "pause")
        elif view.has_started:
            self.header.set_pill("neutral", "Paused", "pause")
        else:
            self.header.set_pill("neutral", "Not started")

    # Live news

    def _note_run_started(self, event: Started) -> None:
        if event.stage == Stage.FINETUNE.value:
            self._loss.clear()
            self._loss_card.set_subtitle(f"round {event.round}")

    def _show_progress(self, progress: Progress) -> None:
        run = self.session.current_run if self.session else None
        if run is None or progress.run_id != run.run_id:
            return
        row = next(
            (cell for cell, run_id in self._view.run_ids.items() if run_id == run.run_id), None
        )
        if row is not None:
            self._timeline.update_cell(*row, live_cell(progress))
        if run.stage == Stage.FINETUNE.value and progress.units == "steps":
            self._loss.set_total_steps(progress.total)

    def _add_metrics(self, batch: list[MetricLogged]) -> None:
        self._loss.append([LossPoint(m.step, m.value) for m in batch if m.name == "loss"])
        self._loss.append_evals(
            [LossPoint(m.step, m.value) for m in batch if m.name == "eval_loss"]
        )

    def _add_logs(self, batch: list[Log]) -> None:
        now = time.strftime("%H:%M:%S")
        if self._has_logs:
            self._log.extend([LogLine(now, log.source, log.text, log.level) for log in batch])

    def _note_finished(self, result: JobResult) -> None:
        is_bad = result.status in ("failed", "interrupted") and bool(result.error)
        if is_bad and not is_budget_stop(result.error):
            self._banner.show_message("bad", result.error, action="Resume")
        self._note_stale()

    def _show_error(self, text: str) -> None:
        self._banner.show_message("bad", text)

    # Doing

    def _follow_banner(self) -> None:
        if self._view.problem:
            self._change_settings()
        elif self._view.is_at_budget:
            self.forecast.focus_budget()
        else:
            self.main_action()

    def _change_settings(self) -> None:
        """Open the project's settings; a broken file is replaced only when the user saves."""
        if self.session is None:
            return
        from llamaduo_gui.core.config import PipelineConfig
        from llamaduo_gui.gui.dialogs.pipeline_settings import PipelineSettingsDialog

        project = self.session.project
        try:
            config = project.config
        except ConfigError:
            config = PipelineConfig()
        dialog = PipelineSettingsDialog(self, config, self.workspace.secrets)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.saved.connect(self._save_settings)
        dialog.open()

    def _save_settings(self, config: PipelineConfig) -> None:
        if self.session is not None:
            self.session.project.save_config(config)
            self._banner.clear()
            self._note_stale()

    def _note_budget(self) -> None:
        """The budget was changed: every view that shows it reads again."""
        self._banner.clear()
        if self.session is not None:
            self.session.changed.emit(frozenset({"runs"}))

    def _pause_job(self) -> None:
        if self.session is not None:
            self.session.pause_job()
            self._show_state()

    def _ask_to_stop(self) -> None:
        dialog = ConfirmDialog(
            self,
            "Stop the loop?",
            "Finished answers, judgements and the last training checkpoint are kept. "
            "Resume takes up where it stopped.",
            "Stop",
            kind="danger",
        )
        dialog.accepted.connect(self._stop_job)
        dialog.open()

    def _stop_job(self) -> None:
        if self.session is not None:
            self.session.cancel_job()
            self._show_state()

    def _open_cell(self, _row: int, stage: str) -> None:
        if stage in (Stage.JUDGE.value, Stage.DECIDE.value, Stage.INFER.value):
            self.workspace.page_requested.emit("results")
        elif stage == Stage.SYNTHESIZE.value:
            self.workspace.page_requested.emit("synthesise")
        else:
            self._log.setFocus(Qt.FocusReason.OtherFocusReason)


def _rule_text(view: MigrateView) -> str:
    if view.threshold is None:
        return "Matched when both means reach their thresholds"
    share = format_percent(view.threshold, 0)
    return f"Matched when the lower bound of student / teacher is at least {share}"


def _spent_text(view: MigrateView) -> tuple[str, str, str]:
    usage, budget_usd = view.usage, view.budget_usd
    if view.spent_usd > 0 or budget_usd is not None:
        budget = f"of ${budget_usd:,.2f}" if budget_usd is not None else ""
        lost = f", {format_money(usage.lost_usd)} lost in flight" if usage.lost_usd else ""
        return f"${view.spent_usd:,.2f}", budget, f"{format_count(usage.requests)} requests{lost}"
    tokens = usage.prompt_tokens + usage.completion_tokens
    lost = f", {usage.lost_in_flight} lost in flight" if usage.lost_in_flight else ""
    price = "no price known" if usage.unpriced else "free of charge"
    note = f"{format_count(tokens)} tokens{lost}, {price}" if tokens else f"no cost{lost}"
    return format_count(usage.requests), "requests", note


def _stored_line(row: LogRow) -> LogLine:
    return LogLine(
        time.strftime("%H:%M:%S", time.localtime(row.at)), row.source, row.text, row.level
    )


INFO = PageInfo("migrate", "Migrate", "migrate", 40, MigratePage)
