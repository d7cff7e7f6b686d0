"""The Export page: writes the student as a GGUF file, certifies it, and hands it on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFileDialog, QHBoxLayout

from llamaduo_gui.core.events import Progress
from llamaduo_gui.core.types import Stage
from llamaduo_gui.gui.models.export_view import ExportedFile, ExportView, copy_file, read_export
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, check_box, combo_box
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.labels import IconLabel, Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.progress import ProgressRow, ProgressState
from llamaduo_gui.gui.widgets.text_table import TextColumn, TextTable

if TYPE_CHECKING:
    from llamaduo_gui.gui.session import ProjectSession
    from llamaduo_gui.gui.workspace import Workspace
    from llamaduo_gui.worker.supervisor import JobResult

_COLUMNS = (
    TextColumn("File"),
    TextColumn("Verdict"),
    TextColumn("Size", is_number=True),
    TextColumn("KL, nats a token", is_number=True),
    TextColumn("Same token", is_number=True),
    TextColumn("Tokens/s", is_number=True),
    TextColumn("SHA-256"),
)
_STEPS = "Write, quantise, certify"
_STATE_ICONS = {"passed": ("check", "ok"), "failed": ("x", "bad"), "skipped": ("minus", "text3")}
_OUR_STAGES = (Stage.EXPORT.value, Stage.CERTIFY.value)


class ExportPage(WorkspacePage):
    """The type to export in above, the project's files and what certification found below."""

    tables = frozenset({"runs", "artifacts"})

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Export", workspace)
        self._view = ExportView()
        self._chosen: ExportedFile | None = None
        self._is_ours = False
        self.start_button = Button("Export GGUF", "primary", icon="export")
        self.header.add_action(self.start_button)
        self.banner = MessageBanner()
        self.body.addWidget(self.banner)
        self._empty = EmptyState(
            "export",
            "No student is trained yet",
            "The loop trains one, exports it at its end and certifies the file.",
            "Go to Migrate",
        )
        self._build_settings()
        self._build_files()
        self.body.addWidget(self._empty, 1)
        self.body.addStretch(1)
        self._connect()

    def attach(self, session: ProjectSession | None) -> None:
        """Watch the jobs of another project."""
        self._view, self._is_ours = ExportView(), False
        self.quants.clear()
        self.banner.clear()
        if session is None:
            return
        session.job_started.connect(self._show_state)
        session.run_started.connect(lambda _: self._show_state())
        session.progress.connect(self._show_progress)
        session.job_finished.connect(self._note_finished)

    def refresh(self) -> None:
        """Read the files and verdicts again."""
        if self.session is not None:
            project = self.session.project
            self.background.run("view", lambda: read_export(project), self._show, self._show_error)

    def main_action(self) -> None:
        """Export in the chosen type, then certify."""
        if not self.start_button.isEnabled() or self.start_button.isHidden():
            return
        options = {"quant": self.quants.currentData(), "certify": True}
        self._start(Stage.EXPORT, options)

    def escape(self) -> None:
        """Esc stops the export; what is finished is kept."""
        if self._is_ours and self.session is not None:
            self.session.cancel_job()

    # Building

    def _build_settings(self) -> None:
        self._settings = Card("The student as one file", "Runs offline in llama.cpp.")
        self.quants = combo_box([], "Type of the weights")
        self.judge = check_box("Have the file's answers to the test split judged as well")
        self.judge.setToolTip(
            "Asks the judges for the answers that have no judgement yet; this can cost money."
        )
        self._about = Label("", "small", tone="text2", wrap=True)
        self.progress = ProgressRow(_STEPS)
        for widget in (self.quants, self.judge, self._about, self.progress):
            self._settings.body.addWidget(widget)
        self.progress.hide()
        self.body.addWidget(self._settings)

    def _build_files(self) -> None:
        self._files = Card("Exported files")
        self.table = TextTable("Exported files", _COLUMNS, is_whole=True)
        self._files.body.addWidget(self.table)
        self.verdict = Label("", "body", wrap=True, selectable=True)
        self._files.body.addWidget(self.verdict)
        self._checks = Card("What was compared")
        self.copy_button = Button("Copy to...", icon="copy")
        self.certify_button = Button("Certify", icon="check")
        self.try_button = Button("Try", icon="try")
        row = QHBoxLayout()
        row.setSpacing(SPACE.s)
        for button in (self.copy_button, self.certify_button, self.try_button):
            row.addWidget(button)
        row.addStretch(1)
        self._files.body.addLayout(row)
        self.body.addWidget(self._files)
        self.body.addWidget(self._checks)

    def _connect(self) -> None:
        self.start_button.clicked.connect(self.main_action)
        self._empty.action_clicked.connect(lambda: self.workspace.page_requested.emit("migrate"))
        self.try_button.clicked.connect(lambda: self.workspace.page_requested.emit("try"))
        self.table.row_selected.connect(self._choose)
        self.copy_button.clicked.connect(self._ask_where)
        self.certify_button.clicked.connect(self._certify)
        self.progress.stop_requested.connect(self.escape)

    # Showing

    def _show(self, view: ExportView) -> None:
        quant = self.quants.currentData() or view.quant
        if view.choices != self._view.choices or not self.quants.count():
            self.quants.clear()
            for choice in view.choices:
                self.quants.addItem(choice.text, choice.name)
            self.quants.setCurrentIndex(max(0, self.quants.findData(quant)))
        self._view = view
        has_student = view.round is not None
        self._empty.setVisible(not has_student and not view.files)
        self._settings.setVisible(has_student)
        self._files.setVisible(bool(view.files))
        self._about.setText(
            f"The student of round {view.round}, the best so far. The sizes are estimates; each "
            "file is loaded and compared with the student before it counts as certified."
        )
        self.table.set_rows([file.row for file in view.files])
        self._choose(self.table.currentIndex().row())
        self._show_state()

    def _choose(self, index: int) -> None:
        files = self._view.files
        self._chosen = files[index] if 0 <= index < len(files) else None
        for position in reversed(range(self._checks.body.count())):
            item = self._checks.body.takeAt(position)
            widget = item.widget() if item else None
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        checks = self._chosen.certificate.get("checks", ()) if self._chosen else ()
        self._checks.setVisible(bool(checks))
        for check in checks:
            self._checks.body.addWidget(_CheckRow(check))
        if self._chosen is not None:
            self.verdict.setText(self._chosen.sentence)
            is_certified = self._chosen.is_certified
            if is_certified is None:
                self.verdict.set_tone("text2")
            else:
                self.verdict.set_tone("ok" if is_certified else "bad")
        self._show_state()

    def _show_state(self) -> None:
        session, view = self.session, self._view
        is_working = session is not None and session.is_working
        run = session.current_run if session is not None else None
        is_shown = is_working and (self._is_ours or (run is not None and run.stage in _OUR_STAGES))
        exists = self._chosen is not None and self._chosen.path.is_file()
        self.start_button.setEnabled(view.round is not None and not is_working)
        self.quants.setEnabled(not is_working)
        self.judge.setEnabled(not is_working)
        self.progress.setVisible(is_shown)
        self.copy_button.setEnabled(exists)
        self.try_button.setEnabled(exists)
        self.certify_button.setEnabled(exists and not is_working)
        self.certify_button.setText(
            "Certify again" if self._chosen and self._chosen.certificate else "Certify"
        )
        if is_shown:
            self.header.set_pill("run", "Running", "export")
        elif not view.files:
            self.header.set_pill("neutral", "Not exported")
        elif view.files[0].is_certified is None:
            self.header.set_pill("warn", "Not certified yet")
        elif view.files[0].is_certified:
            self.header.set_pill("ok", "Certified", "check")
        else:
            self.header.set_pill("bad", "Not certified", "x")

    def _show_progress(self, progress: Progress) -> None:
        if self.progress.isHidden():
            return
        self.progress.set_label(progress.message or _STEPS)
        is_full = progress.done >= progress.total
        finishing = (progress.message or "saving") if is_full else ""
        self.progress.set_state(
            ProgressState(progress.done, progress.total, progress.units, progress.eta_s, finishing)
        )

    def _note_finished(self, result: JobResult) -> None:
        was_ours, self._is_ours = self._is_ours, False
        if was_ours and result.error:
            is_stopped = result.status == "cancelled"
            self.banner.show_message("info" if is_stopped else "bad", result.error)
        self.refresh()
        self._show_state()

    def _show_error(self, text: str) -> None:
        self.banner.show_message("bad", text)

    # Doing

    def _certify(self) -> None:
        if self._chosen is not None:
            self._start(Stage.CERTIFY, {"gguf": str(self._chosen.path)})

    def _start(self, stage: Stage, options: dict[str, object]) -> None:
        session = self.session
        if session is None or session.is_working:
            return
        self.banner.clear()
        self._is_ours = True
        options = {"stage": stage.value, "judge": self.judge.isChecked(), **options}
        session.start_job("stage", options)
        self._show_state()

    def _ask_where(self) -> None:
        if self._chosen is None:
            return
        dialog = QFileDialog(self, "Copy the GGUF file to", self._chosen.path.name)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter("GGUF files (*.gguf)")
        dialog.setDefaultSuffix("gguf")
        dialog.selectFile(self._chosen.path.name)
        dialog.fileSelected.connect(lambda name: self.copy_to(Path(name)))
        dialog.open()

    def copy_to(self, target: Path) -> None:
        """Copy the chosen file in the background."""
        if self._chosen is None:
            return
        source = self._chosen.path
        self.banner.show_message("info", f"Copying to {target}.", closable=False)
        self.background.run(
            "copy", lambda: copy_file(source, target), self._note_copied, self._show_error
        )

    def _note_copied(self, target: Path) -> None:
        self.banner.show_message("ok", f"Copied to {target}.")


class _CheckRow(Card):
    """One check: its state, what was compared and what was found."""

    def __init__(self, check: dict[str, str]) -> None:
        super().__init__(flush=True)
        name, tone = _STATE_ICONS[check["state"]]
        row = QHBoxLayout()
        row.setContentsMargins(SPACE.m, SPACE.s, SPACE.m, SPACE.s)
        row.setSpacing(SPACE.s)
        mark = IconLabel(name, tone, 16)
        mark.setAccessibleName(check["state"])
        row.addWidget(mark)
        row.addWidget(Label(check["title"], "strong"))
        row.addWidget(Label(check["text"], "body", tone="text2", wrap=True, selectable=True), 1)
        self.body.addLayout(row)


INFO = PageInfo("export", "Export", "export", 60, ExportPage)
