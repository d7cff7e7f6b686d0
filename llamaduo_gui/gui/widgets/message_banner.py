"""An inline message: what happened, and the next step as a button."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout

from llamaduo_gui.gui.widgets.buttons import Button, IconButton
from llamaduo_gui.gui.widgets.labels import IconLabel, Label, restyle

MessageKind = Literal["info", "ok", "warn", "bad"]
_ICONS = {"info": "info", "ok": "check", "warn": "warning", "bad": "warning"}
_TOKENS = {"info": "accent", "ok": "ok", "warn": "warn", "bad": "bad"}


class MessageBanner(QFrame):
    """Stands above a form or table; hidden until there is something to say."""

    action_clicked = Signal()
    closed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("banner", "info")
        self._icon = IconLabel("info", "accent")
        self._text = Label("", "strong", wrap=True, selectable=True)
        self._text.setAccessibleName("Message")
        self._detail = Label("", "small", tone="text2", wrap=True, selectable=True)
        self._detail.setAccessibleName("Message detail")
        for label in (self._text, self._detail):
            label.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._action = Button("")
        self._action.clicked.connect(self.action_clicked)
        self._close = IconButton("x", "Dismiss this message")
        self._close.clicked.connect(self._on_close)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addStretch(1)
        words.addWidget(self._text)
        words.addWidget(self._detail)
        words.addStretch(1)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 8, 8, 8)
        row.setSpacing(10)
        row.addWidget(self._icon)
        row.addLayout(words, 1)
        row.addWidget(self._action)
        row.addWidget(self._close)
        self.hide()

    def show_message(
        self,
        kind: MessageKind,
        text: str,
        *,
        action: str = "",
        detail: str = "",
        closable: bool = True,
    ) -> None:
        """Show a message: what and where in `text`, more in `detail`, the next step in `action`."""
        restyle(self, banner=kind)
        self._icon.set_icon(_ICONS[kind], _TOKENS[kind])
        self._text.setText(text)
        self._detail.setText(detail)
        self._detail.setVisible(bool(detail))
        self._action.setText(action)
        self._action.setVisible(bool(action))
        self._close.setVisible(closable)
        self.setAccessibleName(" ".join(part for part in (text, detail) if part))
        self.show()

    def clear(self) -> None:
        """Hide the message."""
        self.hide()

    def text(self) -> str:
        """The message shown, or an empty text while hidden."""
        return "" if self.isHidden() else self._text.text()

    def detail(self) -> str:
        """The second line shown."""
        return "" if self.isHidden() else self._detail.text()

    def action_button(self) -> Button:
        """The button of the next step."""
        return self._action

    def _on_close(self) -> None:
        self.hide()
        self.closed.emit()
