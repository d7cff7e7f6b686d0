"""The Train page: the student's settings, what they need, and the training as it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QFileDialog, QWidget

from llamaduo_gui.core.events import MetricLogged
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.models.train_view import TrainView, read_estimate, read_train, with_offer
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.panels.memory_card import MemoryCard
from llamaduo_gui.gui.panels.train_form import TrainForm
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card, Tile, TileRow
from llamaduo_gui.gui.widgets.charts import LossChart, LossPoint
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.wording import NO_VALUE, format_count, format_eta, format_size

if TYPE_CHECKING:
    from llamaduo_gui.core.events import Progress
    from llamaduo_gui.gui.session import ProjectSession
    from llamaduo_gui.gui.workspace import Workspace
    from llamaduo_gui.pipeline.local_estimate import LocalEstimate
    from llamaduo_gui.worker.supervisor import JobResult

_ESTIMATE_MS = 300
_WIDE = 900


class TrainPage(WorkspacePage):
    """Settings beside memory and time; below the loss as it falls, and all rounds' losses."""

    tables = frozenset({"runs", "records", "training_log"})

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Train", workspace)
        self._view = TrainView()
        self._has_edits = False
        self._is_first = True
        self.stop_button = Button("Stop", "danger", icon="stop")
        self.train_button = Button("Train", "primary", icon="train")
        self.header.add_action(self.stop_button)
        self.header.add_action(self.train_button)
        self.banner = MessageBanner()
        self.body.addWidget(self.banner)
        self._build()
        self._connect()
        self._estimate_later = QTimer(self)
        self._estimate_later.setSingleShot(True)
        self._estimate_later.setInterval(_ESTIMATE_MS)
        self._estimate_later.timeout.connect(self._read_estimate)

    # What the window asks of a page

    def attach(self, session: ProjectSession | None) -> None:
        """Watch the jobs of another project."""
        self._view, self._has_edits, self._is_first = TrainView(), False, True
        self.banner.clear()
        self._estimate_later.stop()
        if session is None:
            return
        session.metrics.connect(self._note_metrics)
        session.progress.connect(self._note_progress)
        session.job_started.connect(self._show_state)
        session.run_started.connect(lambda _: self._note_stale())
        session.job_finished.connect(self._note_finished)

    def refresh(self) -> None:
        """Read settings, curves and rounds again."""
        if self.session is not None:
            project = self.session.project
            self.background.run("view", lambda: read_train(project), self._show, self._show_error)

    def main_action(self) -> None:
        """Keep the settings and train the round."""
        session, student = self.session, self.form.student()
        if session is None or student is None or session.is_working:
            return
        if not self.train_button.isEnabled() or self.train_button.isHidden():
            return
        if self._view.config is not None and student != self._view.config.student:
            session.project.set_student(student)
        self._has_edits = False
        self.banner.clear()
        session.start_job("stage", {"stage": Stage.FINETUNE.value})

    def escape(self) -> None:
        """Esc offers to stop what runs."""
        if self._is_training():
            self._ask_to_stop()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Put the two cards side by side where there is room for both."""
        super().resizeEvent(event)
        directions = QBoxLayout.Direction
        is_wide = self.width() >= scaled(_WIDE)
        self._cards.setDirection(directions.LeftToRight if is_wide else directions.TopToBottom)

    # Building

    def _build(self) -> None:
        self._empty = EmptyState(
            "train",
            "No training data yet",
            "The student learns from your prompts and wanted answers, and from the pairs that the "
            "teacher makes of them. Add them first.",
            "Go to Data",
        )
        self._empty.action_clicked.connect(lambda: self.workspace.page_requested.emit("data"))
        self._empty.hide()
        self.form, self.memory = TrainForm(), MemoryCard()
        self._upper = QWidget()
        self._cards = QBoxLayout(QBoxLayout.Direction.LeftToRight, self._upper)
        self._cards.setContentsMargins(0, 0, 0, 0)
        self._cards.setSpacing(SPACE.m)
        self._cards.addWidget(self.form, 3)
        self._cards.addWidget(self.memory, 2)
        self.tiles = {
            "loss": Tile("Training loss"),
            "eval_loss": Tile("Validation loss"),
            "learning_rate": Tile("Learning rate"),
            "tokens_per_s": Tile("Tokens/s"),
            "memory_mb": Tile("Memory held"),
            "eta": Tile("Time left"),
        }
        self._tile_row = TileRow(list(self.tiles.values()))
        self.chart = LossChart()
        self.chart.setMinimumHeight(scaled(200))
        self._chart_card = Card("Loss")
        self._chart_card.body.addWidget(self.chart, 1)
        self._rounds_card = Card("Rounds")
        self.rounds = Label("", selectable=True, wrap=True)
        self._rounds_card.body.addWidget(self.rounds)
        self.body.addWidget(self._empty, 1)
        self.body.addWidget(self._upper)
        self.body.addWidget(self._tile_row)
        self.body.addWidget(self._chart_card, 1)
        self.body.addWidget(self._rounds_card)

    def _connect(self) -> None:
        self.train_button.clicked.connect(self.main_action)
        self.stop_button.clicked.connect(self._ask_to_stop)
        self.form.changed.connect(self._note_edited)
        self.form.folder_wanted.connect(self._choose_folder)
        self.form.hub_wanted.connect(self._open_hub)
        self.banner.action_clicked.connect(self._take_offer)

    # Reading and showing

    def _show(self, view: TrainView) -> None:
        is_other = view.config != self._view.config
        self._view = view
        config = view.config
        if config is not None and not self._has_edits and (is_other or self._is_first):
            self.form.set_student(config.student, view.recipes, view.models)
        self._is_first = False
        has_data = view.train > 0
        has_run = view.curves.run_id > 0
        self._empty.setVisible(not has_data)
        for part, is_shown in (
            (self._upper, has_data),
            (self._tile_row, has_data and has_run),
            (self._chart_card, has_data),
            (self._rounds_card, has_data and bool(view.rounds)),
        ):
            part.setVisible(is_shown)
        curves = view.curves
        place = f" of round {curves.round}" if has_run else ""
        self._chart_card.set_title(f"Loss{place}")
        self.chart.set_data(curves.loss, curves.evals, curves.total_steps)
        self.rounds.setText("\n".join(reversed(view.rounds)))
        self._show_tiles()
        self._show_state()
        self._estimate_later.start()

    def _show_tiles(self) -> None:
        curves = self._view.curves
        last = {
            "loss": curves.loss[-1].value if curves.loss else None,
            "eval_loss": curves.evals[-1].value if curves.evals else None,
        }
        for key, value in last.items():
            self.tiles[key].set_value(NO_VALUE if value is None else f"{value:.3f}")
        self._show_gauge("learning_rate", curves.learning_rate)
        self._show_gauge("tokens_per_s", curves.tokens_per_s)
        self._show_gauge("memory_mb", curves.memory_mb)
        if not self._is_training():
            self.tiles["eta"].set_value(NO_VALUE)

    def _show_gauge(self, key: str, value: float | None) -> None:
        tile = self.tiles[key]
        if value is None:
            tile.set_value(NO_VALUE)
        elif key == "learning_rate":
            tile.set_value(f"{value:.2g}")
        elif key == "tokens_per_s":
            tile.set_value(format_count(round(value)))
        else:
            tile.set_value(format_size(value * 2**20))

    def _show_state(self) -> None:
        session, view = self.session, self._view
        is_working = session is not None and session.is_working
        is_ours = self._is_training()
        self.train_button.setText(f"Train round {view.round}")
        self.train_button.setVisible(not is_working and view.train > 0)
        self.train_button.setEnabled(view.config is not None)
        self.stop_button.setVisible(is_ours)
        self.stop_button.setEnabled(session is not None and not session.is_cancelling)
        self.form.set_editable(is_editable=not is_working)
        self._show_pill(is_ours=is_ours, is_working=is_working)
        self._show_failure(is_working=is_working)

    def _show_pill(self, *, is_ours: bool, is_working: bool) -> None:
        view, session = self._view, self.session
        if is_ours and session is not None and session.is_cancelling:
            self.header.set_pill("warn", "Stopping")
        elif is_ours:
            self.header.set_pill("run", "Training", "train")
        elif is_working and session is not None and session.current_run is None:
            self.header.set_pill("run", "Starting", "train")
        elif is_working:
            self.header.set_pill("neutral", "Another stage is running")
        elif view.status is RunStatus.FAILED:
            self.header.set_pill("bad", "Failed", "x")
        elif view.status in (RunStatus.CANCELLED, RunStatus.INTERRUPTED):
            self.header.set_pill("warn", "Stopped", "pause")
        elif view.status is RunStatus.SUCCEEDED:
            self.header.set_pill("ok", f"Round {view.curves.round}: trained", "check")
        else:
            self.header.set_pill("neutral", f"Round {view.round}: not trained")

    def _show_failure(self, *, is_working: bool) -> None:
        view = self._view
        if is_working:
            return
        if view.problem:
            self.banner.show_message("warn", view.problem, closable=False)
        elif view.status is RunStatus.FAILED and view.error and not self._has_edits:
            action = "Use settings that fit" if view.offer else ""
            action = "Start again" if view.must_restart else action
            self.banner.show_message("bad", view.error, action=action)

    def _show_error(self, text: str) -> None:
        self.banner.show_message("bad", text)

    def _read_estimate(self) -> None:
        student = self.form.student()
        if self.session is None or student is None:
            return
        project, number = self.session.project, self._view.round
        self.background.run(
            "estimate",
            lambda: read_estimate(project, student, number),
            self._show_estimate,
            self.memory.show_estimate,
        )

    def _show_estimate(self, found: LocalEstimate | str) -> None:
        self.memory.show_estimate(found)

    # News of the training

    def _is_training(self) -> bool:
        session = self.session
        run = session.current_run if session is not None else None
        return run is not None and run.stage == Stage.FINETUNE.value

    def _note_metrics(self, batch: list[MetricLogged]) -> None:
        if not self._is_training():
            return
        for event in batch:
            if event.name == "loss":
                self.chart.append([LossPoint(event.step, event.value)])
                self.tiles["loss"].set_value(f"{event.value:.3f}")
            elif event.name == "eval_loss":
                self.chart.append_evals([LossPoint(event.step, event.value)])
                self.tiles["eval_loss"].set_value(f"{event.value:.3f}")
            elif event.name in ("learning_rate", "tokens_per_s", "memory_mb"):
                self._show_gauge(event.name, event.value)

    def _note_progress(self, progress: Progress) -> None:
        if not self._is_training():
            return
        self.chart.set_total_steps(progress.total)
        done = f"step {progress.done:,} of {progress.total:,}"
        left = format_eta(progress.eta_s).removesuffix(" left") if progress.eta_s else NO_VALUE
        self.tiles["eta"].set_value(left, note=done)

    def _note_finished(self, result: JobResult) -> None:
        if result.status in ("failed", "interrupted") and result.error:
            self._has_edits = False
            self.banner.show_message("bad", result.error)
        self._note_stale()

    # Doing

    def _note_edited(self) -> None:
        self._has_edits = True
        self._estimate_later.start()

    def _take_offer(self) -> None:
        view = self._view
        if view.must_restart and self.session is not None:
            self.banner.clear()
            options = {"stage": Stage.FINETUNE.value, "restart": True}
            self.session.start_job("stage", options)
        if view.config is None or not view.offer:
            return
        self.form.set_student(
            with_offer(view.config.student, view.offer), view.recipes, view.models
        )
        self.banner.show_message("info", "These settings need less memory. Train starts with them.")
        self._note_edited()

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self, "Choose the folder of a base model")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda folder: self.form.add_model(folder, folder))
        dialog.open()

    def _open_hub(self) -> None:
        # Imported here: the settings' library would slow the window's start down.
        from llamaduo_gui.gui.dialogs.hub_models import HubModelsDialog

        dialog = HubModelsDialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.chosen.connect(lambda name, revision: self.form.add_model(name, name, revision))
        dialog.open()

    def _ask_to_stop(self) -> None:
        dialog = ConfirmDialog(
            self,
            "Stop the training?",
            "A checkpoint is written first. The same button goes on where it stopped, as long as "
            "the settings stay as they are.",
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


INFO = PageInfo("train", "Train", "train", 35, TrainPage)
