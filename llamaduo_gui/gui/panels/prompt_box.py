"""Where a prompt is written and sent: Enter sends, Shift+Enter adds a line."""

from __future__ import annotations

from math import ceil

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QFontMetricsF, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QSizePolicy

from llamaduo_gui.gui.chat_model import ChatOptions
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label
from llamaduo_gui.gui.widgets.wording import format_count

_MIN_LINES, _MAX_LINES = 2, 8
_FRAME = 16  # border and padding of the sheet, and the pixel that rounding takes
_HINT_FROM_PX = 760


class PromptField(QPlainTextEdit):
    """A field that grows with its text, from two lines to eight."""

    sent = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Prompt")
        self.setTabChangesFocus(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.document().documentLayout().documentSizeChanged.connect(
            lambda _: self.updateGeometry()
        )

    def sizeHint(self) -> QSize:
        """As high as the text, within bounds."""
        self.ensurePolished()  # the sheet decides the font
        lines = max(_MIN_LINES, min(_MAX_LINES, round(self.document().size().height())))
        text = lines * QFontMetricsF(self.font()).lineSpacing()
        return QSize(200, ceil(text + 2 * self.document().documentMargin()) + _FRAME)

    def minimumSizeHint(self) -> QSize:
        """Two lines."""
        return QSize(80, self.sizeHint().height())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Send on Enter; the other keys write."""
        is_enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.sent.emit()
        else:
            super().keyPressEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Another font needs another height."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.updateGeometry()


class PromptBox(Card):
    """The prompt, how answers are sampled, Stop and Send.

    Signals:
        sent(str): the prompt, without blanks around it.
        stop_requested(), options_requested(): the buttons.
    """

    sent = Signal(str)
    stop_requested = Signal()
    options_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Prompt and settings")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.body.setContentsMargins(10, 10, 10, 8)
        self.field = PromptField()
        self.settings = ElidedLabel("", "small", tone="text2")
        self.change = Button("Change...", "quiet", name="Change how answers are sampled")
        self._hint = Label("Enter sends, Shift+Enter adds a line", "small", tone="text2")
        self.stop = Button("Stop", icon="stop", name="Stop the answer")
        self.send = Button("Send", "primary", "up", "Send the prompt")
        row = QHBoxLayout()
        row.setSpacing(SPACE.s)
        row.addWidget(self.settings)
        row.addWidget(self.change)
        row.addStretch(1)
        row.addWidget(self._hint)
        row.addWidget(self.stop)
        row.addWidget(self.send)
        self.body.addWidget(self.field)
        self.body.addLayout(row)
        self._can_send = False
        self.field.sent.connect(self.submit)
        self.field.textChanged.connect(self._show_buttons)
        self.send.clicked.connect(self.submit)
        self.stop.clicked.connect(self.stop_requested)
        self.change.clicked.connect(self.options_requested)
        self.set_state(can_send=False, is_writing=False, placeholder="")

    def submit(self) -> None:
        """Send what is written, if that is possible now."""
        text = self.field.toPlainText().strip()
        if text and self._can_send:
            self.field.clear()
            self.sent.emit(text)

    def set_state(self, *, can_send: bool, is_writing: bool, placeholder: str) -> None:
        """Whether a prompt can be sent, and whether there is an answer to stop."""
        self._can_send = can_send
        self.field.setPlaceholderText(placeholder)
        self.stop.setEnabled(is_writing)
        self._show_buttons()

    def set_send_text(self, text: str) -> None:
        """Say where a prompt goes."""
        self.send.setText(text)

    def set_options(self, options: ChatOptions) -> None:
        """Show the settings in force."""
        seed = "a new seed each time" if options.seed is None else f"seed {options.seed}"
        parts = [
            f"Temperature {options.temperature:g}",
            f"up to {format_count(options.max_new_tokens)} tokens",
            seed,
        ]
        if options.top_p < 1:
            parts.insert(1, f"top-p {options.top_p:g}")
        if options.system.strip():
            parts.append("with a system prompt")
        self.settings.setText(" · ".join(parts))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave the hint out where it would squeeze the settings."""
        super().resizeEvent(event)
        metrics = self.fontMetrics().averageCharWidth()
        self._hint.setVisible(self.width() > _HINT_FROM_PX * metrics / 7)

    def _show_buttons(self) -> None:
        self.send.setEnabled(self._can_send and bool(self.field.toPlainText().strip()))
