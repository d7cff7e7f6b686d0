"""The Synthesise page: asks the teacher for a round's pairs, and lets a person go through them."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QKeyEvent, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import QBoxLayout, QHBoxLayout, QWidget

from llamaduo_gui.core.events import Log, MetricLogged
from llamaduo_gui.core.types import RecordStatus, RejectReason, RunStatus, Stage
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.models.data_view import read_ids
from llamaduo_gui.gui.models.synthesise_view import (
    FILTER_SETTING,
    PairDetail,
    SynthesiseView,
    forecast_text,
    read_pair,
    read_synthesise,
)
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.pair_decisions import PairDecisions
from llamaduo_gui.gui.panels.pair_panel import PairPanel
from llamaduo_gui.gui.panels.pair_table import PairFilters, PairTable
from llamaduo_gui.gui.panels.synthesis_settings import SynthesisSettings
from llamaduo_gui.gui.panels.yield_card import YieldCard
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.filter_bar import FilterState
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.wording import format_count

if TYPE_CHECKING:
    from llamaduo_gui.gui.session import ProjectSession
    from llamaduo_gui.gui.workspace import Workspace
    from llamaduo_gui.worker.supervisor import JobResult

# Pairs arrive several times a second while a round is synthesised.
_REFRESH_MS = 1000
_FORECAST_MS = 300
# A narrower page has its cards one below the other; a lower one scrolls.
_WIDE = 1000
_BROWSER_HEIGHT = 280


class SynthesisePage(WorkspacePage):
    """Settings and yield of a round above, its pairs below: table, and one beside its seed."""

    tables = frozenset({"records", "replies", "runs"})

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Synthesise", workspace)
        self._view = SynthesiseView()
        self._asked = 0
        self._is_first = True
        self._has_edits = False
        self.undo_button = Button("Undo", "quiet", icon="undo", name="Undo the last decision")
        self.stop_button = Button("Stop", "danger", icon="stop")
        self.start_button = Button("Synthesise", "primary", icon="synthesise")
        for button in (self.undo_button, self.stop_button, self.start_button):
            self.header.add_action(button)
        self.decisions = PairDecisions(self)
        self._banner = MessageBanner()
        self.body.addWidget(self._banner)
        self._build_empty()
        self._build_upper()
        self._build_browser()
        self._connect()
        self._later = self._make_timer(_REFRESH_MS, self._read)
        self._forecast_later = self._make_timer(_FORECAST_MS, self._read_forecast)

    # What the window asks of a page

    def attach(self, session: ProjectSession | None) -> None:
        """Watch the jobs of another project, and forget the rows of the one before."""
        self._later.stop()
        self._is_first, self._has_edits, self._asked = True, False, 0
        self._view = SynthesiseView()
        self._banner.clear()
        self.panel.show_detail(None)
        self.pairs.model.set_source(session.project.records.by_ids if session else None)
        self.decisions.set_project(session.project if session else None)
        if session is None:
            return
        session.metrics.connect(self._note_metrics)
        session.logged.connect(self._note_logs)
        session.job_started.connect(self._show_state)
        session.run_started.connect(lambda _: self._show_state())
        session.job_finished.connect(self._note_finished)

    def refresh(self) -> None:
        """Read the pairs again; while they arrive, once a second."""
        if self.session is None:
            return
        if self._is_first:
            self._read()
        elif not self._later.isActive():
            self._later.start()

    def main_action(self) -> None:
        """Ask for the pairs the round lacks; takes up a stopped round where it was."""
        session, config = self.session, self.settings.config()
        if session is None or config is None or not self.start_button.isEnabled():
            return
        if session.is_working or self.start_button.isHidden():
            return
        if config != self._view.config:
            session.project.save_config(config)
        self._has_edits = False
        self._banner.clear()
        session.start_job("stage", {"stage": Stage.SYNTHESIZE.value})

    def focus_search(self) -> None:
        """Ctrl+F goes to the search field."""
        self.filters.focus_search()

    def escape(self) -> None:
        """Esc offers to stop what runs."""
        if self._is_synthesising():
            self._ask_to_stop()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Put the two cards side by side where there is room for both."""
        super().resizeEvent(event)
        directions = QBoxLayout.Direction
        is_wide = self.width() >= scaled(_WIDE)
        self._cards.setDirection(directions.LeftToRight if is_wide else directions.TopToBottom)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """J and K move; A and R decide, Enter turns the decision round, U takes it back."""
        is_in_list = self.focusWidget() in (self.pairs.table, self, None)
        key = Qt.Key(event.key())
        moves = {Qt.Key.Key_J: 1, Qt.Key.Key_K: -1}
        statuses = {Qt.Key.Key_A: RecordStatus.KEPT, Qt.Key.Key_R: RecordStatus.REJECTED}
        if event.modifiers() not in (
            Qt.KeyboardModifier.NoModifier,
            Qt.KeyboardModifier.KeypadModifier,
        ):
            super().keyPressEvent(event)
        elif key in moves:
            self.pairs.step(moves[key])
        elif key in statuses:
            self._decide(statuses[key])
        elif key == Qt.Key.Key_U:
            self.decisions.undo()
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and is_in_list and self.panel.detail:
            is_kept = self.panel.detail.row.status is RecordStatus.KEPT
            self._decide(RecordStatus.REJECTED if is_kept else RecordStatus.KEPT)
        else:
            super().keyPressEvent(event)

    # Building

    def _build_empty(self) -> None:
        self._empty = EmptyState(
            "synthesise",
            "No training data to make pairs from",
            "The teacher is shown training pairs and asked for new ones like them. "
            "Add your prompts and wanted answers first.",
            "Go to Data",
        )
        self._empty.action_clicked.connect(lambda: self.workspace.page_requested.emit("data"))
        self._empty.hide()
        self.body.addWidget(self._empty, 1)

    def _build_upper(self) -> None:
        self.settings = SynthesisSettings()
        self.yields = YieldCard()
        self._upper = QWidget()
        self._cards = QBoxLayout(QBoxLayout.Direction.LeftToRight, self._upper)
        self._cards.setContentsMargins(0, 0, 0, 0)
        self._cards.setSpacing(SPACE.m)
        self._cards.addWidget(self.settings, 1)
        self._cards.addWidget(self.yields, 1)
        self.body.addWidget(self._upper)

    def _build_browser(self) -> None:
        self.filters = PairFilters()
        self.pairs = PairTable()
        self.panel = PairPanel()
        self.panel.setMinimumWidth(scaled(300))
        self._lower = QWidget()
        row = QHBoxLayout(self._lower)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE.m)
        row.addWidget(self.pairs, 4)
        row.addWidget(self.panel, 5)
        self._lower.setMinimumHeight(scaled(_BROWSER_HEIGHT))
        self._none_yet = EmptyState(
            "synthesise",
            "No pair has been synthesised yet",
            "New pairs appear here while they come, kept and rejected ones, each with its reason.",
        )
        self.body.addWidget(self.filters)
        self.body.addWidget(self._lower, 1)
        self.body.addWidget(self._none_yet, 1)

    def _connect(self) -> None:
        self.start_button.clicked.connect(self.main_action)
        self.stop_button.clicked.connect(self._ask_to_stop)
        self.undo_button.clicked.connect(self.decisions.undo)
        QShortcut(
            QKeySequence.StandardKey.Undo,
            self,
            self.decisions.undo,
            context=Qt.ShortcutContext.WidgetWithChildrenShortcut,
        )
        self.settings.changed.connect(self._note_edited)
        self.settings.limits_wanted.connect(self._change_limits)
        self.yields.reason_chosen.connect(self._show_reason)
        self.filters.wanted.connect(self._read_rows)
        self.filters.changed.connect(self._keep_filters)
        self.pairs.clear_wanted.connect(self.filters.clear)
        self.pairs.opened.connect(self._open)
        self.pairs.model.sort_requested.connect(self._read_rows)
        self.panel.accept_button.clicked.connect(lambda: self._decide(RecordStatus.KEPT))
        self.panel.reject_button.clicked.connect(lambda: self._decide(RecordStatus.REJECTED))
        self.decisions.done.connect(self._note_decided)
        self.decisions.failed.connect(self._show_error)
        self._banner.action_clicked.connect(lambda: self.workspace.page_requested.emit("migrate"))

    def _make_timer(self, interval_ms: int, action: object) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(interval_ms)
        timer.timeout.connect(action)
        return timer

    # Reading and showing

    def _read(self) -> None:
        if self.session is None:
            return
        project = self.session.project
        self.background.run("view", lambda: read_synthesise(project), self._show, self._show_error)
        if not self._is_first:
            self._read_rows()

    def _read_rows(self) -> None:
        if self.session is None:
            return
        project, view = self.session.project, self.filters.record_filter()
        sort, is_descending = self.pairs.model.sort_key, self.pairs.model.is_descending
        self.background.run(
            "rows",
            lambda: read_ids(project, view, sort, is_descending=is_descending),
            self._show_rows,
            self._show_error,
        )

    def _read_forecast(self) -> None:
        config = self.settings.config()
        if self.session is None or config is None or self._view.problem:
            return
        project, view = self.session.project, self._view
        self.background.run(
            "forecast",
            lambda: forecast_text(project, config, view.round, view.counts.kept),
            self.settings.forecast.setText,
            self.settings.forecast.setText,
        )

    def _show(self, view: SynthesiseView) -> None:
        is_other_config = view.config != self._view.config
        self._view = view
        self._asked = max(view.asked, self._asked if self._is_synthesising() else 0)
        if view.config is not None and not self._has_edits and (is_other_config or self._is_first):
            self.settings.set_config(view.config, view.strategies, view.round)
        has_data = view.train > 0
        self._empty.setVisible(not has_data)
        self._upper.setVisible(has_data)
        for part in (self.filters, self._lower):
            part.setVisible(has_data and view.total > 0)
        self._none_yet.setVisible(has_data and view.total == 0)
        self.pairs.model.set_beginning(view.beginning)
        self.filters.set_rounds(view.rounds)
        if self._is_first:
            self._is_first = False
            self.filters.set_state(FilterState(view.filter_text, view.filter_chips))
            self._read_rows()
        else:
            self.filters.set_count(self.pairs.model.rowCount(), view.total)
        self._show_state()
        self._forecast_later.start()

    def _show_state(self) -> None:
        session, view = self.session, self._view
        is_working = session is not None and session.is_working
        is_ours = self._is_synthesising()
        left = max(0, self.settings.pairs.value() - view.counts.kept)
        self.start_button.setVisible(not is_working)
        self.start_button.setText(_start_text(left, view))
        self.start_button.setEnabled(left > 0 and view.train > 0 and not view.problem)
        self.stop_button.setVisible(is_ours)
        self.stop_button.setEnabled(session is not None and not session.is_cancelling)
        self.undo_button.setVisible(self.decisions.can_undo)
        self.settings.set_editable(is_editable=not is_working)
        self.yields.show_view(view, self._asked)
        self._show_pill(is_ours=is_ours, is_working=is_working)
        if view.problem and not is_working:
            self._banner.show_message("warn", view.problem, action="Go to Migrate", closable=False)

    def _show_pill(self, *, is_ours: bool, is_working: bool) -> None:
        view, session = self._view, self.session
        if is_ours and session is not None and session.is_cancelling:
            self.header.set_pill("warn", "Stopping")
        elif is_ours:
            self.header.set_pill("run", "Running", "synthesise")
        elif is_working and session is not None and session.current_run is None:
            self.header.set_pill("run", "Starting", "synthesise")
        elif is_working:
            self.header.set_pill("neutral", "Another stage is running")
        elif view.status is RunStatus.FAILED:
            self.header.set_pill("bad", "Failed", "x")
        elif view.status in (RunStatus.CANCELLED, RunStatus.INTERRUPTED):
            self.header.set_pill("warn", "Stopped", "pause")
        elif view.counts.total:
            kept = format_count(view.counts.kept)
            self.header.set_pill("ok", f"Round {view.round}: {kept} kept", "check")
        else:
            self.header.set_pill("neutral", f"Round {view.round}: not started")

    def _show_rows(self, ids: array[int]) -> None:
        opened = self.panel.detail.row.id if self.panel.detail else None
        self.pairs.set_ids(ids, opened)
        self.filters.set_count(len(ids), self._view.total)
        if opened is not None and ids:
            self._open(self.pairs.model.record_id(self.pairs.table.currentIndex().row()) or 0)

    def _open(self, record_id: int) -> None:
        if self.session is None or not record_id:
            self.panel.show_detail(None)
            return
        project = self.session.project
        self.background.run(
            "pair", lambda: read_pair(project, record_id), self._show_pair, self._show_error
        )

    def _show_pair(self, detail: PairDetail | None) -> None:
        self.panel.show_detail(detail)

    def _show_reason(self, reason: RejectReason | None) -> None:
        self.filters.show_reason(reason)

    def _show_error(self, text: str) -> None:
        self._banner.show_message("bad", text)

    # Live news

    def _is_synthesising(self) -> bool:
        session = self.session
        if session is None or not session.is_working:
            return False
        run = session.current_run
        return run is not None and run.stage == Stage.SYNTHESIZE.value

    def _note_metrics(self, batch: list[MetricLogged]) -> None:
        asked = [int(metric.value) for metric in batch if metric.name == "asked"]
        if asked and self._is_synthesising():
            self._asked = asked[-1]
            self.refresh()

    def _note_logs(self, batch: list[Log]) -> None:
        """Say what the service makes us wait for, such as its rate limit."""
        warnings = [log.text for log in batch if log.level == "warning"]
        if warnings and self._is_synthesising():
            self._banner.show_message("warn", warnings[-1])

    def _note_finished(self, result: JobResult) -> None:
        if result.status in ("failed", "interrupted") and result.error:
            self._banner.show_message("bad", result.error)
        self._note_stale()
        self._show_state()

    # Doing

    def _note_edited(self) -> None:
        self._has_edits = True
        self._show_state()
        self._forecast_later.start()

    def _change_limits(self) -> None:
        config = self.settings.config()
        if config is None:
            return
        # Imported here: the settings' library would slow the window's start down.
        from llamaduo_gui.gui.dialogs.synthesis_limits import SynthesisLimitsDialog

        dialog = SynthesisLimitsDialog(self, config.synthesis, self._view.categories)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.saved.connect(self._save_limits)
        dialog.open()

    def _save_limits(self, values: dict[str, object]) -> None:
        current = self.settings.config()
        if self.session is None or current is None:
            return
        synthesis = current.synthesis.model_copy(update=values)
        config = current.model_copy(update={"synthesis": synthesis})
        self.session.project.save_config(config)
        self._has_edits = False
        self._note_stale()

    def _keep_filters(self, state: FilterState) -> None:
        if self.session is None:
            return
        project = self.session.project
        kept = {"text": state.text, "chips": sorted(state.chips)}
        self.background.run("keep", lambda: project.set_setting(FILTER_SETTING, kept), _ignore)

    def _decide(self, status: RecordStatus) -> None:
        self.decisions.decide(self.pairs.selected_ids(), status)

    def _note_decided(self, words: str) -> None:
        if self.session is None:
            return
        self._banner.show_message("info", words)
        self.session.changed.emit(frozenset({"records"}))
        self._later.stop()
        self._read()

    def _ask_to_stop(self) -> None:
        dialog = ConfirmDialog(
            self,
            "Stop synthesising?",
            "The pairs that came are kept, and every reply that was paid for is stored. "
            "The same button goes on where it stopped.",
            "Stop",
            kind="danger",
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(self._stop_job)
        dialog.open()

    def _stop_job(self) -> None:
        if self.session is not None:
            self.session.cancel_job()
            self._show_state()


def _start_text(left: int, view: SynthesiseView) -> str:
    more = " more" if view.counts.kept else ""
    return f"Synthesise {format_count(left)}{more} pairs" if left else "Round is full"


def _ignore(_nothing: None) -> None:
    """Keeping the filters has no result to show."""


INFO = PageInfo("synthesise", "Synthesise", "synthesise", 30, SynthesisePage)
