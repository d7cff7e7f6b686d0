"""Asks before something that cannot be undone or costs money; the verb is on the button."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.labels import Label

_WIDTH = 440


class ConfirmDialog(QDialog):
    """A question, what follows from it, and two buttons: the verb, and leaving things be.

    For something destructive (`kind="danger"`) the safe button is the default.
    """

    def __init__(
        self,
        parent: QWidget | None,
        title: str,
        text: str,
        action: str,
        *,
        kind: Literal["primary", "danger"] = "primary",
        details: Sequence[str] = (),
        cancel: str = "Cancel",
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAccessibleName(title)
        self.setModal(True)
        self.setMinimumWidth(_WIDTH)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE.xl, SPACE.xl, SPACE.xl, SPACE.l)
        column.setSpacing(SPACE.s)
        heading = Label(title, "verdict", wrap=True)
        column.addWidget(heading)
        column.addWidget(Label(text, tone="text2", wrap=True))
        for detail in details:
            row = QHBoxLayout()
            row.setSpacing(SPACE.s)
            row.addWidget(Label("\u2022", tone="text2"), 0, Qt.AlignmentFlag.AlignTop)
            row.addWidget(Label(detail, tone="text2", wrap=True), 1)
            column.addLayout(row)
        column.addSpacing(SPACE.m)
        self.action_button = Button(action, kind)
        self.cancel_button = Button(cancel)
        self.action_button.clicked.connect(self.accept)
        self.cancel_button.clicked.connect(self.reject)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACE.s)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel_button)
        buttons.addWidget(self.action_button)
        column.addLayout(buttons)
        safe = self.cancel_button if kind == "danger" else self.action_button
        safe.setDefault(True)
        safe.setFocus()


def confirm(
    parent: QWidget | None,
    title: str,
    text: str,
    action: str,
    *,
    kind: Literal["primary", "danger"] = "primary",
    details: Sequence[str] = (),
) -> bool:
    """Ask and wait; True if the user chose `action`."""
    dialog = ConfirmDialog(parent, title, text, action, kind=kind, details=details)
    return dialog.exec() == QDialog.DialogCode.Accepted
