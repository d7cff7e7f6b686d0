"""One provider on the Settings page: its key, its address, a test, and its models."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.secrets import ENVIRONMENT_VARIABLES, KeyStatus, SecretStore
from llamaduo_gui.gui.connection_check import ConnectionCheck
from llamaduo_gui.gui.dialogs.model_list import ModelListDialog
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.key_field import KeyField
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.providers.base import ProviderInfo
from llamaduo_gui.providers.check import ConnectionReport

_SOURCES = {
    "keyring": "in the keyring ({detail})",
    "environment": "from the environment variable {detail}",
    "session": "for this session only",
    "none": "not set",
}


class ProviderPanel(QWidget):
    """A key field whose key can be tried before it is saved, and what came of that."""

    def __init__(self, info: ProviderInfo, secrets: SecretStore) -> None:
        super().__init__()
        self.info = info
        self._secrets = secrets
        self._service: ServiceConfig | None = None
        self._check = ConnectionCheck(secrets, self)
        self._check.finished.connect(self._show_report)
        self.key_field = KeyField(info.title, "paste a key")
        self.key_field.set_needs_key(info.needs_key)
        self.models_button = Button("List models...", name=f"List the models of {info.title}")
        self.key_field.add_asker(self.models_button)
        self.address = QLineEdit()
        self.address.setAccessibleName(f"Address of {info.title}")
        self.address.setPlaceholderText("address to try, such as http://localhost:11434/v1")
        self.outcome = Label("", "small", wrap=True)
        self.key_field.test_requested.connect(self._test)
        self.models_button.clicked.connect(self.list_models)
        self.key_field.field().textEdited.connect(lambda _: self.forget_outcome())
        self.address.textEdited.connect(lambda _: self.forget_outcome())
        self._lay_out()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.xs)
        column.addWidget(self.key_field)
        if self.info.needs_base_url:
            row = QHBoxLayout()
            row.setSpacing(SPACE.s)
            row.addWidget(Label("Address", tone="text2"))
            row.addWidget(self.address, 1)
            column.addLayout(row)
        column.addWidget(self.outcome)
        self.outcome.hide()

    def set_status(self, status: KeyStatus) -> None:
        """Say where the key comes from."""
        text = _SOURCES[status.source].format(detail=status.detail)
        if status.source == "none":
            optional = "" if self.info.needs_key else ", needed only where the server asks for one"
            text += f"{optional} (or set {ENVIRONMENT_VARIABLES[self.info.name][0]})"
        self.key_field.set_source(
            text,
            is_set=status.source != "none",
            can_delete=status.source in ("keyring", "session"),
        )

    def set_service(self, service: ServiceConfig | None) -> None:
        """The open project's service of this provider: its address is offered to be tried."""
        self._service = service
        if service is not None and service.base_url and not self.address.isModified():
            self.address.setText(service.base_url)

    def list_models(self) -> ModelListDialog:
        """Open the list of models, asked for with what is typed or kept."""
        dialog = ModelListDialog(self, self._secrets, self.info.title)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        dialog.ask(self.info.name, self._address(), self.key_field.field().text().strip())
        return dialog

    def forget_outcome(self) -> None:
        """Something else would be tried now: drop the test and what it said."""
        self._check.cancel()
        self.key_field.set_test_state("neutral", "")
        self.outcome.hide()

    def shutdown(self) -> None:
        """Drop a test under way."""
        self._check.cancel()

    def _test(self, key: str) -> None:
        self.outcome.hide()
        self.key_field.set_test_state("run", "Testing\u2026")
        self._check.start(self.info.name, self._model(), self._address(), key)

    def _address(self) -> str:
        return self.address.text().strip() if self.info.needs_base_url else ""

    def _model(self) -> str:
        """The project's model where a list of models is no proof that the key is right."""
        service = self._service
        if self.info.needs_key or service is None or service.base_url != self._address():
            return ""
        return service.model

    def _show_report(self, report: ConnectionReport) -> None:
        number = len(report.models)
        counted = f", {number:,} model{'' if number == 1 else 's'}" if number else ""
        if report.ok:
            self.key_field.set_test_state("ok", f"Works{counted}")
        else:
            self.key_field.set_test_state("bad", "Failed")
        self.outcome.set_tone("text2" if report.ok else "bad")
        self.outcome.setText(report.sentence)
        self.outcome.show()
