"""Asks for the user's own limits or price of a service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QDialog,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.core.config import PriceConfig
from llamaduo_gui.core.service_settings import DEFAULT_CONCURRENCY, LimitConfig
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, check_box, combo_box, decimal_box, spin_box
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.providers.base import ProviderInfo

OwnValue = LimitConfig | PriceConfig
_WIDTH = 480
_MOST_REQUESTS = 1_000_000
_MOST_TOKENS = 1_000_000_000
_MOST_USD = 100_000.0


class Fields(Protocol):
    """The fields of one kind of value."""

    rows: Sequence[tuple[str, QWidget]]

    def value(self) -> OwnValue | None:
        """What the fields say; None where nothing is left to keep."""
        ...


class LimitFields:
    """Requests and tokens a minute, and requests at once; 0 leaves each to others."""

    def __init__(self, own: LimitConfig | None) -> None:
        now = own or LimitConfig()
        self.rpm = spin_box("Requests a minute", 0, _MOST_REQUESTS, now.max_rpm or 0)
        self.tpm = spin_box("Tokens a minute", 0, _MOST_TOKENS, now.max_tpm or 0)
        self.concurrency = spin_box("Requests at once", 0, 512, now.concurrency or 0)
        self.rpm.setSpecialValueText("no limit")
        self.tpm.setSpecialValueText("no limit")
        self.tpm.setSingleStep(1000)
        self.concurrency.setSpecialValueText(f"as usual ({DEFAULT_CONCURRENCY})")
        self.rows: Sequence[tuple[str, QWidget]] = (
            ("Requests a minute", self.rpm),
            ("Tokens a minute", self.tpm),
            ("Requests at once", self.concurrency),
        )

    def value(self) -> LimitConfig | None:
        """The limits; None where no field has any."""
        found = LimitConfig(
            max_rpm=self.rpm.value() or None,
            max_tpm=self.tpm.value() or None,
            concurrency=self.concurrency.value() or None,
        )
        return None if found == LimitConfig() else found


class PriceFields:
    """US dollars a million tokens: read, read from the cache, and written."""

    def __init__(self, shown: PriceConfig | None) -> None:
        now = shown or PriceConfig(input=0.0, output=0.0)
        cached = now.input if now.cached_input is None else now.cached_input
        self.input = _price_box("Input", now.input)
        self.cached = _price_box("Cached input", cached)
        self.same = check_box("Cached input costs as much as input")
        self.output = _price_box("Output", now.output)
        self.same.toggled.connect(lambda is_same: self.cached.setEnabled(not is_same))
        self.same.setChecked(now.cached_input is None)
        self.rows: Sequence[tuple[str, QWidget]] = (
            ("Input", self.input),
            ("", self.same),
            ("Cached input", self.cached),
            ("Output", self.output),
        )

    def value(self) -> PriceConfig:
        """The price."""
        cached = None if self.same.isChecked() else round(self.cached.value(), 4)
        return PriceConfig(
            input=round(self.input.value(), 4),
            output=round(self.output.value(), 4),
            cached_input=cached,
        )


class OwnValuesDialog(QDialog):
    """One service's values; without a name it asks for provider and model too.

    Signals:
        saved(str, object): `provider:model` and the value; None to keep none.
    """

    saved = Signal(str, object)

    def __init__(
        self,
        parent: QWidget | None,
        title: str,
        fields: Fields,
        *,
        name: str = "",
        notes: Sequence[str] = (),
        providers: Sequence[ProviderInfo] = (),
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAccessibleName(title)
        self.setModal(True)
        self.setMinimumWidth(scaled(_WIDTH))
        self.fields = fields
        self._name = name
        self._banner = MessageBanner()
        self.provider = combo_box([(info.title, info.name) for info in providers], "Provider")
        self.model = QLineEdit()
        self.model.setAccessibleName("Model")
        self.model.setPlaceholderText("name of the model, as the service has it")
        self.save_button = Button("Save", "primary")
        self._build(title, notes)

    def _build(self, title: str, notes: Sequence[str]) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE.xl, SPACE.xl, SPACE.xl, SPACE.l)
        column.setSpacing(SPACE.m)
        column.addWidget(Label(title, "verdict", wrap=True))
        for note in notes:
            column.addWidget(Label(note, tone="text2", wrap=True))
        column.addWidget(self._banner)
        form = QFormLayout()
        form.setHorizontalSpacing(SPACE.l)
        form.setVerticalSpacing(SPACE.s)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        if not self._name:
            form.addRow("Provider", self.provider)
            form.addRow("Model", self.model)
        for text, field in self.fields.rows:
            form.addRow(text, field)
        column.addLayout(form)
        cancel = Button("Cancel")
        cancel.clicked.connect(self.reject)
        self.save_button.setDefault(True)
        self.save_button.clicked.connect(self._save)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACE.s)
        buttons.addStretch(1)
        buttons.addWidget(cancel)
        buttons.addWidget(self.save_button)
        column.addSpacing(SPACE.s)
        column.addStretch(1)
        column.addLayout(buttons)
        (self.fields.rows[0][1] if self._name else self.model).setFocus()

    def _save(self) -> None:
        model = self.model.text().strip()
        if not self._name and not model:
            self._banner.show_message("bad", "Name the model.", closable=False)
            self.adjustSize()
            self.model.setFocus()
            return
        name = self._name or f"{self.provider.currentData()}:{model}"
        self.saved.emit(name, self.fields.value())
        self.accept()


def _price_box(name: str, usd: float) -> QDoubleSpinBox:
    box = decimal_box(f"{name}, dollars a million tokens", 0.0, _MOST_USD, usd, decimals=4)
    box.setPrefix("$")
    box.setSuffix(" a million tokens")
    box.setSingleStep(0.1)
    return box
