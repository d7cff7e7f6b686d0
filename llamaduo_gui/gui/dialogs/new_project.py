"""Makes a project: the data with a preview of what becomes of it, then folder and settings."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.gui.dialogs.pipeline_form import PipelineForm
from llamaduo_gui.gui.panels.import_panel import ImportPanel
from llamaduo_gui.gui.session import Job
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.page import scroll_area
from llamaduo_gui.pipeline.create import Created
from llamaduo_gui.worker.protocol import JobSpec
from llamaduo_gui.worker.supervisor import JobResult

_STEPS = ("Step 1 of 2: data", "Step 2 of 2: folder and settings")


class NewProjectDialog(QDialog):
    """Asks for everything a project needs; problems are shown above the form and nothing is lost.

    Reading and making happen in a worker process; closing the dialog stops them.

    Signals:
        created(Created): the project was made.
    """

    created = Signal(object)

    def __init__(
        self,
        parent: QWidget | None,
        files: list[Path] | None = None,
        secrets: SecretStore | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("New project")
        self.setAccessibleName("New project")
        self.setModal(True)
        self.resize(scaled(880), scaled(700))
        self._job: Job | None = None
        self.data = ImportPanel()
        self._folder = QLineEdit()
        self._folder.setAccessibleName("Project folder")
        self._folder.setPlaceholderText("a new or empty folder")
        self.form = PipelineForm(secrets or SecretStore())
        self.form.set_config(PipelineConfig())
        self._step = Label(_STEPS[0], tone="text2")
        self._banner = MessageBanner()
        self._stack = QStackedWidget()
        self.back_button = Button("Back", icon="left")
        self.next_button = Button("Next", "primary")
        self.create_button = Button("Create project", "primary")
        self._build()
        self._connect()
        self._go_to(0)
        self._follow_data()
        self.set_files(files or [])

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, SPACE.xl, 0, SPACE.l)
        column.setSpacing(SPACE.m)
        head = QVBoxLayout()
        head.setContentsMargins(SPACE.xl, 0, SPACE.xl, 0)
        head.addWidget(Label("New project", "title"))
        head.addWidget(self._step)
        head.addWidget(self._banner)
        column.addLayout(head)
        self._stack.addWidget(self._data_step())
        self._stack.addWidget(self._settings_step())
        column.addWidget(self._stack, 1)
        cancel = Button("Cancel")
        cancel.clicked.connect(self.reject)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(SPACE.xl, 0, SPACE.xl, 0)
        buttons.addWidget(self.back_button)
        buttons.addStretch(1)
        for button in (cancel, self.next_button, self.create_button):
            buttons.addWidget(button)
        column.addLayout(buttons)

    def _data_step(self) -> QWidget:
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(SPACE.xl, 0, SPACE.xl, SPACE.m)
        inner.setSpacing(SPACE.s)
        inner.addWidget(Label("Coverage data: prompts with the answers you want", "heading"))
        inner.addWidget(self.data, 1)
        return scroll_area(content, "Data of the project")

    def _settings_step(self) -> QWidget:
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(SPACE.xl, 0, SPACE.xl, SPACE.l)
        inner.setSpacing(SPACE.s)
        inner.addWidget(Label("Project folder", "heading"))
        choose = Button("Choose folder...", icon="folder")
        choose.clicked.connect(self._choose_folder)
        row = QHBoxLayout()
        row.setSpacing(SPACE.s)
        row.addWidget(self._folder, 1)
        row.addWidget(choose, 0, Qt.AlignmentFlag.AlignTop)
        inner.addLayout(row)
        inner.addWidget(self.form)
        inner.addStretch(1)
        return scroll_area(content, "New project form")

    def _connect(self) -> None:
        self.back_button.clicked.connect(lambda: self._go_to(0))
        self.next_button.clicked.connect(self._go_on)
        self.create_button.clicked.connect(self._create)
        self.data.changed.connect(self._follow_data)
        self.data.model.changed.connect(self._suggest_folder)
        self.finished.connect(self._stop)

    def set_files(self, files: list[Path]) -> None:
        """Choose these coverage files, and a project folder beside the first if none is chosen."""
        if files:
            self.data.set_files(files)

    def set_folder(self, folder: Path) -> None:
        """Choose where the project goes."""
        self._folder.setText(str(folder))

    def message(self) -> str:
        """The problem shown above the form, or an empty text."""
        return self._banner.text() if self._banner.isVisible() else ""

    def _suggest_folder(self) -> None:
        if self._folder.text() or not self.data.has_source:
            return
        name = f"{self.data.suggested_name()}-project"
        near = self.data.files[0] if self.data.files else Path.home() / name
        self._folder.setText(str(near.with_name(name)))

    def _follow_data(self) -> None:
        self.next_button.setEnabled(not self.data.problem())
        self.next_button.setToolTip(self.data.problem())
        if self._stack.currentIndex() == 0:
            self._banner.clear()

    def _go_to(self, step: int) -> None:
        self._stack.setCurrentIndex(step)
        self._step.setText(_STEPS[step])
        self.back_button.setVisible(step == 1)
        self.next_button.setVisible(step == 0)
        self.create_button.setVisible(step == 1)
        (self.create_button if step else self.next_button).setDefault(True)

    def _go_on(self) -> None:
        if text := self.data.problem():
            self._banner.show_message("bad", text)
            return
        self._banner.clear()
        self._go_to(1)

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self, "Project folder")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(self._folder.setText)
        dialog.open()

    def _create(self) -> None:
        try:
            if not self.data.has_source:
                raise UserError("Choose the coverage files first.")
            if not self._folder.text().strip():
                raise UserError("Choose a folder for the project.")
            config = self._config()
        except UserError as error:
            self._banner.show_message("bad", str(error))
            return
        options = {
            **self.data.model.options(),
            "folder": self._folder.text().strip(),
            "config": config.model_dump(mode="json"),
            "on_error": "keep" if self.data.keep.isChecked() else "refuse",
        }
        self.create_button.setEnabled(False)
        self.setCursor(Qt.CursorShape.BusyCursor)
        self._job = Job(JobSpec("create", options=options), {}, self)
        self._job.finished.connect(self._finish)
        self._job.start()

    def _config(self) -> PipelineConfig:
        config = self.form.config()
        if config.task == "untitled":
            config = config.model_copy(update={"task": self.data.suggested_name()})
        return config

    def _finish(self, result: JobResult) -> None:
        self._job = None
        self.unsetCursor()
        self.create_button.setEnabled(True)
        if result.status != "succeeded":
            self._banner.show_message("bad", result.error)
            return
        self.created.emit(Created(**result.result))
        self.accept()

    def _stop(self) -> None:
        self.data.model.stop()
        if self._job is not None:
            self._job.cancel()
