"""Left, Same or Right: the vote on two answers whose names are hidden."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy

from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Label

CHOICES = (("left", "Left (1)"), ("same", "Same (2)"), ("right", "Right (3)"))


class VoteBar(Card):
    """Three buttons and what comes of them.

    Signals:
        voted(str): `left`, `same` or `right`.
    """

    voted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Vote")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.body.setContentsMargins(10, 8, 10, 8)
        self.text = Label("", tone="text2", wrap=True)
        row = QHBoxLayout()
        row.setSpacing(SPACE.s)
        row.addWidget(self.text, 1)
        self.buttons: dict[str, Button] = {}
        for key, title in CHOICES:
            button = Button(title, name=f"{title}: vote")
            button.clicked.connect(partial(self.voted.emit, key))
            self.buttons[key] = button
            row.addWidget(button)
        self.body.addLayout(row)
        self.set_open(False, "")

    @property
    def is_open(self) -> bool:
        """Whether there is something to vote on."""
        return self.buttons["same"].isEnabled()

    def set_open(self, is_open: bool, text: str) -> None:
        """Take a vote, or none; `text` says why or what came of it."""
        for button in self.buttons.values():
            button.setEnabled(is_open)
        self.text.setText(text)
