"""A log in a window of its own, to read and to copy."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import QApplication, QDialog, QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.log_view import LogLine, LogView


class LogDialog(QDialog):
    """Shows the lines it is given."""

    def __init__(self, parent: QWidget | None, title: str, lines: Sequence[LogLine]) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAccessibleName(title)
        self.setModal(True)
        self.resize(760, 480)
        self.view = LogView(title)
        card = Card()
        card.body.addWidget(self.view)
        self.copy_button = Button("Copy", icon="copy", name="Copy the log")
        close = Button("Close", "primary")
        self.copy_button.clicked.connect(lambda: QApplication.clipboard().setText(self.view.text()))
        close.clicked.connect(self.accept)
        close.setDefault(True)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACE.s)
        buttons.addWidget(self.copy_button)
        buttons.addStretch(1)
        buttons.addWidget(close)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE.xl, SPACE.xl, SPACE.xl, SPACE.l)
        column.setSpacing(SPACE.m)
        column.addWidget(Label(title, "verdict"))
        column.addWidget(card, 1)
        column.addLayout(buttons)
        self.view.extend(lines)
        close.setFocus()
