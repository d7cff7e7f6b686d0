"""Makes a project from coverage files: files, folder and settings on one sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QFileDialog, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.dialogs.pipeline_form import PipelineForm
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, check_box
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.page import scroll_area
from llamaduo_gui.pipeline.create import Created, create_project


class NewProjectDialog(QDialog):
    """Asks for everything a project needs; problems are shown above the form and nothing is lost.

    Signals:
        created(Created): the project was made.
    """

    created = Signal(object)

    def __init__(self, parent: QWidget | None, files: list[Path] | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("New project")
        self.setAccessibleName("New project")
        self.setModal(True)
        self.resize(640, 700)
        self._background = Background(self)
        self._files: list[Path] = []
        self._file_label = Label("No file chosen", tone="text2", wrap=True)
        self._folder = QLineEdit()
        self._folder.setAccessibleName("Project folder")
        self._folder.setPlaceholderText("a new or empty folder")
        self._keep = check_box("Leave broken lines out instead of refusing the file")
        self.form = PipelineForm()
        self.form.set_config(PipelineConfig())
        self._banner = MessageBanner()
        self.create_button = Button("Create project", "primary")
        self._build()
        self.set_files(files or [])

    def _build(self) -> None:
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(SPACE.xl, 0, SPACE.xl, SPACE.l)
        inner.setSpacing(SPACE.s)
        inner.addWidget(Label("Coverage data: prompts with the answers you want", "heading"))
        inner.addLayout(_row(self._file_label, self._button("Choose files...", self._choose_files)))
        inner.addWidget(self._keep)
        inner.addWidget(Label("Project folder", "heading"))
        inner.addLayout(_row(self._folder, self._button("Choose folder...", self._choose_folder)))
        inner.addWidget(self.form)
        inner.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, SPACE.xl, 0, SPACE.l)
        column.setSpacing(SPACE.m)
        head = QVBoxLayout()
        head.setContentsMargins(SPACE.xl, 0, SPACE.xl, 0)
        head.addWidget(Label("New project", "title"))
        head.addWidget(self._banner)
        column.addLayout(head)
        column.addWidget(scroll_area(content, "New project form"), 1)
        cancel = Button("Cancel")
        cancel.clicked.connect(self.reject)
        self.create_button.clicked.connect(self._create)
        self.create_button.setDefault(True)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(SPACE.xl, 0, SPACE.xl, 0)
        buttons.addStretch(1)
        buttons.addWidget(cancel)
        buttons.addWidget(self.create_button)
        column.addLayout(buttons)

    def _button(self, text: str, action: object) -> Button:
        button = Button(text, icon="folder")
        button.clicked.connect(action)
        return button

    def set_files(self, files: list[Path]) -> None:
        """Choose these coverage files, and a project folder beside the first if none is chosen."""
        if not files:
            return
        self._files = files
        self._file_label.setText("\n".join(path.name for path in files))
        self._file_label.setToolTip("\n".join(str(path) for path in files))
        if not self._folder.text():
            self._folder.setText(str(files[0].with_name(f"{files[0].stem}-project")))

    def set_folder(self, folder: Path) -> None:
        """Choose where the project goes."""
        self._folder.setText(str(folder))

    def message(self) -> str:
        """The problem shown above the form, or an empty text."""
        return self._banner.text() if self._banner.isVisible() else ""

    def _choose_files(self) -> None:
        dialog = QFileDialog(self, "Coverage files")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.setNameFilters(["JSON lines (*.jsonl *.json)", "All files (*)"])
        dialog.filesSelected.connect(lambda names: self.set_files([Path(name) for name in names]))
        dialog.open()

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self, "Project folder")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(self._folder.setText)
        dialog.open()

    def _create(self) -> None:
        try:
            if not self._files:
                raise UserError("Choose the coverage files first.")
            if not self._folder.text().strip():
                raise UserError("Choose a folder for the project.")
            config = self._config()
        except UserError as error:
            self._banner.show_message("bad", str(error))
            return
        files, folder = list(self._files), Path(self._folder.text().strip())
        on_error: Literal["keep", "refuse"] = "keep" if self._keep.isChecked() else "refuse"
        self.create_button.setEnabled(False)
        self.setCursor(Qt.CursorShape.BusyCursor)
        self._background.run(
            "create",
            lambda: create_project(folder, files, config=config, on_error=on_error),
            self._finish,
            self._fail,
        )

    def _config(self) -> PipelineConfig:
        config = self.form.config()
        task = self._files[0].stem
        if config.task == "untitled":
            config = config.model_copy(update={"task": task})
        return config

    def _finish(self, created: Created) -> None:
        self.unsetCursor()
        self.created.emit(created)
        self.accept()

    def _fail(self, text: str) -> None:
        self.unsetCursor()
        self.create_button.setEnabled(True)
        self._banner.show_message("bad", text)


def _row(field: QWidget, button: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(SPACE.s)
    row.addWidget(field, 1)
    row.addWidget(button, 0, Qt.AlignmentFlag.AlignTop)
    return row
