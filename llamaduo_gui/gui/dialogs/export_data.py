"""Writes the project's data as a dataset: where, in which formats, and how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QDialog, QFileDialog, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from llamaduo_gui.core.events import Event, Progress
from llamaduo_gui.gui.session import Job
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, check_box
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.progress import ProgressRow, ProgressState
from llamaduo_gui.worker.protocol import JobSpec
from llamaduo_gui.worker.supervisor import JobResult

if TYPE_CHECKING:
    from llamaduo_gui.store.project import Project

_TEXT = (
    "The training split with the kept synthetic pairs, the validation and the test split, each in "
    "a file of its own, and a dataset card that says where every record comes from, how it was "
    "filtered and what to check about the licence before you share it."
)


class ExportDataDialog(QDialog):
    """Exports while the window goes on; closing the dialog stops it."""

    def __init__(self, parent: QWidget | None, project: Project) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export data")
        self.setAccessibleName("Export data")
        self.setModal(True)
        # Room for the message that comes at the end.
        self.resize(scaled(600), scaled(420))
        self._project = str(project.folder)
        self._job: Job | None = None
        self.banner = MessageBanner()
        self.folder = QLineEdit(str(project.folder / "artifacts" / "dataset"))
        self.folder.setAccessibleName("Folder of the dataset")
        self.folder.setPlaceholderText("a new or empty folder")
        self.boxes = {
            "messages": check_box("Messages as JSON lines", checked=True),
            "parquet": check_box("Parquet"),
        }
        self._progress = ProgressRow("Writing", can_stop=False)
        self._progress.hide()
        self.export_button = Button("Export", "primary")
        self.close_button = Button("Close")
        self._build()

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE.xl, SPACE.xl, SPACE.xl, SPACE.l)
        column.setSpacing(SPACE.m)
        column.addWidget(Label("Export data", "title"))
        column.addWidget(self.banner)
        column.addWidget(Label(_TEXT, tone="text2", wrap=True))
        choose = Button("Choose folder...", icon="folder")
        choose.clicked.connect(self._choose_folder)
        row = QHBoxLayout()
        row.setSpacing(SPACE.s)
        row.addWidget(self.folder, 1)
        row.addWidget(choose)
        column.addLayout(row)
        for box in self.boxes.values():
            box.toggled.connect(self._update)
            column.addWidget(box)
        column.addWidget(self._progress)
        column.addStretch(1)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        buttons.addWidget(self.export_button)
        column.addLayout(buttons)
        self.export_button.setDefault(True)
        self.export_button.clicked.connect(self._export)
        self.close_button.clicked.connect(self.reject)
        self.banner.action_clicked.connect(self._open_folder)
        self.folder.textChanged.connect(self._update)
        self.finished.connect(self._stop)

    def _formats(self) -> list[str]:
        return [name for name, box in self.boxes.items() if box.isChecked()]

    def _update(self) -> None:
        is_ready = bool(self._formats()) and bool(self.folder.text().strip())
        self.export_button.setEnabled(is_ready and self._job is None)

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self, "Folder of the dataset")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.folder.setText)
        dialog.open()

    def _export(self) -> None:
        options = {"folder": self.folder.text().strip(), "formats": self._formats()}
        self._job = Job(JobSpec("export_data", self._project, options), {}, self)
        self._job.events.connect(self._take)
        self._job.finished.connect(self._finish)
        self._job.start()
        self.banner.clear()
        self._progress.set_state(ProgressState(0, 0))
        self._progress.show()
        self._update()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Progress):
                self._progress.set_state(ProgressState(event.done, event.total, "records"))

    def _finish(self, result: JobResult) -> None:
        self._job = None
        self._progress.hide()
        self._update()
        if result.status != "succeeded":
            self.banner.show_message("bad", result.error)
            return
        counts = ", ".join(f"{n:,} {name}" for name, n in result.result["records"].items())
        text = f"Written: {counts}."
        folder = result.result["folder"]
        self.banner.show_message("ok", text, detail=folder, action="Open folder")

    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(self.banner.detail()))))

    def _stop(self) -> None:
        if self._job is not None:
            self._job.cancel()
