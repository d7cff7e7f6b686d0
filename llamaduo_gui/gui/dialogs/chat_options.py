"""How answers on the Try page are sampled, and under which system prompt."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QDialog,
    QFormLayout,
    QHBoxLayout,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.gui.chat_model import ChatOptions
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, check_box, decimal_box, spin_box
from llamaduo_gui.gui.widgets.labels import Label

_WIDTH = 480
_MAX_TOKENS = 1_000_000
_MAX_SEED = 2**31 - 1
_SYSTEM_LINES = 4


class ChatOptionsDialog(QDialog):
    """The settings of the next answers.

    Signals:
        chosen(ChatOptions): the user pressed Apply.
    """

    chosen = Signal(object)

    def __init__(
        self, parent: QWidget | None, options: ChatOptions, *, max_tokens: int = 0
    ) -> None:
        """Show `options`; `max_tokens` is the model's context length, 0 if not known."""
        super().__init__(parent)
        self.setWindowTitle("How to answer")
        self.setAccessibleName("How to answer")
        self.setModal(True)
        self.setMinimumWidth(_WIDTH)
        limit = max_tokens or _MAX_TOKENS
        self.system = QPlainTextEdit(options.system)
        self.system.setAccessibleName("System prompt")
        self.system.setTabChangesFocus(True)
        self.system.setPlaceholderText("None")
        self.system.setFixedHeight(_SYSTEM_LINES * self.fontMetrics().lineSpacing() + 18)
        self.temperature = decimal_box("Temperature", 0.0, 2.0, options.temperature)
        self.top_p = decimal_box("Top-p", 0.01, 1.0, options.top_p)
        self.max_tokens = spin_box(
            "Longest answer", 1, limit, min(options.max_new_tokens, limit), suffix=" tokens"
        )
        self.seed = spin_box("Seed", 0, _MAX_SEED, options.seed or 0)
        self.fresh_seed = check_box("Another seed for every answer", checked=options.seed is None)
        self.fresh_seed.toggled.connect(lambda is_on: self.seed.setEnabled(not is_on))
        self.seed.setEnabled(options.seed is not None)
        self._build()

    def options(self) -> ChatOptions:
        """The settings as they stand."""
        return ChatOptions(
            system=self.system.toPlainText().strip(),
            temperature=round(self.temperature.value(), 2),
            max_new_tokens=self.max_tokens.value(),
            seed=None if self.fresh_seed.isChecked() else self.seed.value(),
            top_p=round(self.top_p.value(), 2),
        )

    def _build(self) -> None:
        rows = QFormLayout()
        rows.setHorizontalSpacing(SPACE.l)
        rows.setVerticalSpacing(SPACE.s)
        rows.addRow("System prompt", self.system)
        rows.addRow("Temperature", self.temperature)
        rows.addRow("", _note("0 always takes the likeliest token."))
        rows.addRow("Top-p", self.top_p)
        rows.addRow("", _note("Below 1 unlikely tokens are left out."))
        rows.addRow("Longest answer", self.max_tokens)
        rows.addRow("Seed", self.seed)
        rows.addRow("", _note("The same seed repeats an answer."))
        rows.addRow("", self.fresh_seed)
        self.apply_button = Button("Apply", "primary")
        self.apply_button.setDefault(True)
        self.apply_button.clicked.connect(self._apply)
        cancel = Button("Cancel")
        cancel.clicked.connect(self.reject)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACE.s)
        buttons.addStretch(1)
        buttons.addWidget(cancel)
        buttons.addWidget(self.apply_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE.xl, SPACE.xl, SPACE.xl, SPACE.l)
        column.setSpacing(SPACE.m)
        column.addWidget(Label("How to answer", "verdict"))
        column.addLayout(rows)
        column.addSpacing(SPACE.s)
        column.addLayout(buttons)

    def _apply(self) -> None:
        self.chosen.emit(self.options())
        self.accept()


def _note(text: str) -> Label:
    return Label(text, "small", tone="text2")
