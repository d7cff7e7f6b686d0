"""Lists the models of a service: search them, copy a name, or choose one."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.gui.connection_check import ConnectionCheck
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.filter_bar import FilterBar
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.text_table import TextColumn, TextTable
from llamaduo_gui.providers.base import ModelInfo
from llamaduo_gui.providers.check import ConnectionReport

_COLUMNS = (TextColumn("Model"), TextColumn("Title"))


class ModelListDialog(QDialog):
    """Asks the service when it opens; closing it drops the question.

    Signals:
        chosen(str): the name of the model to use, where the dialog was made to choose one.
    """

    chosen = Signal(str)

    def __init__(
        self, parent: QWidget | None, secrets: SecretStore, title: str, *, can_choose: bool = False
    ) -> None:
        """Make the dialog for the service called `title`; `ask` begins."""
        super().__init__(parent)
        self.setWindowTitle(f"Models of {title}")
        self.setAccessibleName(f"Models of {title}")
        self.setModal(True)
        self.resize(scaled(560), scaled(520))
        self._title = title
        self._can_choose = can_choose
        self._question: tuple[str, str, str] = ("", "", "")
        self._models: tuple[ModelInfo, ...] = ()
        self._check = ConnectionCheck(secrets, self)
        self._check.finished.connect(self._show_report)
        self.filter = FilterBar("Search the models")
        self.filter.changed.connect(lambda _: self._show_models())
        self.state = Label("", tone="text2", wrap=True)
        self.table = TextTable(f"Models of {title}", _COLUMNS)
        self.table.row_selected.connect(lambda _: self._update_buttons())
        self.table.row_opened.connect(lambda _: self._take())
        self.again_button = Button("Ask again", icon="refresh")
        self.again_button.clicked.connect(self._ask)
        self.copy_button = Button("Copy name", icon="copy")
        self.copy_button.clicked.connect(self._copy)
        self.choose_button = Button("Use this model", "primary")
        self.choose_button.clicked.connect(self._choose)
        self.finished.connect(lambda _: self._check.cancel())
        self._build()

    def _build(self) -> None:
        close = Button("Cancel" if self._can_choose else "Close")
        close.clicked.connect(self.reject)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACE.s)
        buttons.addWidget(self.again_button)
        buttons.addStretch(1)
        for button in (self.copy_button, close, self.choose_button):
            buttons.addWidget(button)
        self.choose_button.setVisible(self._can_choose)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE.xl, SPACE.xl, SPACE.xl, SPACE.l)
        column.setSpacing(SPACE.m)
        column.addWidget(Label(f"Models of {self._title}", "verdict", wrap=True))
        column.addWidget(self.filter)
        column.addWidget(self.state)
        card = Card(flush=True)
        card.body.addWidget(self.table)
        column.addWidget(card, 1)
        column.addLayout(buttons)

    def ask(self, provider: str, base_url: str = "", key: str = "") -> None:
        """List the models of a service; the arguments are those of `ConnectionCheck.start`."""
        self._question = (provider, base_url, key)
        self._ask()

    def model_names(self) -> list[str]:
        """The names shown."""
        return [row[0] for row in self.table.rows()]

    def _ask(self) -> None:
        provider, base_url, key = self._question
        self._models = ()
        self._show_models()
        self._say(f"Asking {self._title}\u2026")
        self.again_button.setEnabled(False)
        self._check.start(provider, base_url=base_url, key=key)

    def _show_report(self, report: ConnectionReport) -> None:
        self.again_button.setEnabled(True)
        self._models = report.models
        self._show_models()
        self._say(report.sentence, is_bad=not report.ok)
        if self._models:
            self.filter.focus_search()

    def _say(self, text: str, *, is_bad: bool = False) -> None:
        self.state.setText(text)
        self.state.set_tone("bad" if is_bad else "text2")

    def _show_models(self) -> None:
        words = self.filter.state().text.lower().split()
        found = [
            model
            for model in self._models
            if all(word in f"{model.id} {model.title}".lower() for word in words)
        ]
        self.table.set_rows([(model.id, model.title) for model in found])
        self.table.set_column_shown(1, any(model.title for model in self._models))
        self.filter.set_count(len(found), len(self._models))
        self.filter.setEnabled(bool(self._models))
        self._update_buttons()

    def _update_buttons(self) -> None:
        has_model = bool(self.table.selected_name())
        self.copy_button.setEnabled(has_model)
        self.choose_button.setEnabled(has_model)
        self.choose_button.setDefault(has_model and self._can_choose)

    def _take(self) -> None:
        if self._can_choose:
            self._choose()
        else:
            self._copy()

    def _copy(self) -> None:
        name = self.table.selected_name()
        QGuiApplication.clipboard().setText(name)
        self._say(f"{name} is copied.")

    def _choose(self) -> None:
        self.chosen.emit(self.table.selected_name())
        self.accept()
