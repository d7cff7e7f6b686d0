"""Changes the settings of an existing project (its `pipeline.yaml`)."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDialog, QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.gui.dialogs.pipeline_form import PipelineForm
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.page import scroll_area


class PipelineSettingsDialog(QDialog):
    """The form over the current settings.

    Signals:
        saved(PipelineConfig): the user pressed Save and the settings are valid.
    """

    saved = Signal(object)

    def __init__(
        self, parent: QWidget | None, config: PipelineConfig, secrets: SecretStore
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Project settings")
        self.setAccessibleName("Project settings")
        self.setModal(True)
        self.resize(600, 640)
        self.form = PipelineForm(secrets)
        self.form.set_config(config)
        self._banner = MessageBanner()
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(SPACE.xl, 0, SPACE.xl, SPACE.l)
        inner.addWidget(self.form)
        inner.addStretch(1)
        head = QVBoxLayout()
        head.setContentsMargins(SPACE.xl, 0, SPACE.xl, 0)
        head.addWidget(Label("Project settings", "title"))
        head.addWidget(
            Label("Finished rounds keep what they were made with.", tone="text2", wrap=True)
        )
        head.addWidget(self._banner)
        cancel, self.save_button = Button("Cancel"), Button("Save", "primary")
        cancel.clicked.connect(self.reject)
        self.save_button.clicked.connect(self._save)
        self.save_button.setDefault(True)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(SPACE.xl, 0, SPACE.xl, 0)
        buttons.addStretch(1)
        buttons.addWidget(cancel)
        buttons.addWidget(self.save_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, SPACE.xl, 0, SPACE.l)
        column.setSpacing(SPACE.m)
        column.addLayout(head)
        column.addWidget(scroll_area(content, "Project settings form"), 1)
        column.addLayout(buttons)

    def _save(self) -> None:
        try:
            config = self.form.config()
        except ConfigError as error:
            self._banner.show_message("bad", str(error))
            return
        self.saved.emit(config)
        self.accept()
