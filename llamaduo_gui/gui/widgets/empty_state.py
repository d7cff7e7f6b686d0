"""What a page or card shows while it has no data: why, and what to do about it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.labels import IconLabel, Label

_MAX_WIDTH = 460


class EmptyState(QWidget):
    """An icon, a heading, a sentence and up to two buttons, centred."""

    action_clicked = Signal()
    secondary_clicked = Signal()

    def __init__(
        self, icon: str, title: str, text: str = "", action: str = "", secondary: str = ""
    ) -> None:
        super().__init__()
        self._icon = IconLabel(icon, "text3", 32)
        self._title = Label(title, "verdict")
        self._text = Label(text, tone="text2", wrap=True)
        self._action = Button(action, "primary")
        self._secondary = Button(secondary)
        self._action.clicked.connect(self.action_clicked)
        self._secondary.clicked.connect(self.secondary_clicked)
        for label in (self._title, self._text):
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._title.setWordWrap(True)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACE.s)
        buttons.addStretch(1)
        buttons.addWidget(self._action)
        buttons.addWidget(self._secondary)
        buttons.addStretch(1)
        middle = QWidget()
        middle.setMaximumWidth(_MAX_WIDTH)
        inner = QVBoxLayout(middle)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(SPACE.s)
        inner.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignHCenter)
        inner.addWidget(self._title)
        inner.addWidget(self._text)
        inner.addSpacing(SPACE.xs)
        inner.addLayout(buttons)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(middle, 100)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE.l, SPACE.xl, SPACE.l, SPACE.xl)
        column.addStretch(1)
        column.addLayout(row)
        column.addStretch(1)
        self.set_content(icon, title, text, action, secondary)

    def set_content(
        self, icon: str, title: str, text: str = "", action: str = "", secondary: str = ""
    ) -> None:
        """Say something else."""
        self._icon.set_icon(icon)
        self._title.setText(title)
        self._text.setText(text)
        self._text.setVisible(bool(text))
        self._action.setText(action)
        self._action.setVisible(bool(action))
        self._secondary.setText(secondary)
        self._secondary.setVisible(bool(secondary))

    def action_button(self) -> Button:
        """The main button."""
        return self._action

    def secondary_button(self) -> Button:
        """The other button."""
        return self._secondary
