"""The list of keys (F1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QFrame, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.labels import Label


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """Keys of one place: (keys, what they do)."""

    title: str
    rows: tuple[tuple[str, str], ...]


STANDARD_GROUPS = (
    KeyGroup(
        "Everywhere",
        (
            ("Ctrl+1 ... Ctrl+9", "Go to a page"),
            ("Ctrl+O", "Open a project"),
            ("Ctrl+F", "Search"),
            ("Ctrl+Enter", "Main action of the page"),
            ("Esc", "Stop, or close"),
            ("F1", "This list"),
        ),
    ),
    KeyGroup(
        "Lists and tables",
        (
            ("J, K", "Next, previous row"),
            ("Enter", "Open the row or cell"),
            ("Arrow keys", "Move between cells and choices"),
            ("Ctrl+C", "Copy the rows as TSV"),
        ),
    ),
    KeyGroup(
        "Synthesise",
        (
            ("A, R", "Accept, reject the selected pairs"),
            ("Enter", "Reject a kept pair, accept a rejected one"),
            ("U, Ctrl+Z", "Take the last decision back"),
        ),
    ),
    KeyGroup(
        "Try",
        (
            ("Enter", "Send"),
            ("Shift+Enter", "Add a line"),
        ),
    ),
)


class KeyboardHelp(QDialog):
    """All keys, by where they work. Single letters are off while a text field has the focus."""

    def __init__(
        self, parent: QWidget | None, groups: Sequence[KeyGroup] = STANDARD_GROUPS
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys")
        self.setAccessibleName("Keys")
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE.xl, SPACE.xl, SPACE.xl, SPACE.l)
        column.setSpacing(SPACE.m)
        column.addWidget(Label("Keys", "title"))
        for group in groups:
            column.addWidget(_group(group))
        close = Button("Close")
        close.clicked.connect(self.accept)
        close.setDefault(True)
        foot = QHBoxLayout()
        foot.setSpacing(SPACE.l)
        note = Label("Single letters are off while a text field has the focus.", "small")
        note.set_tone("text2")
        foot.addWidget(note)
        foot.addStretch(1)
        foot.addWidget(close)
        column.addLayout(foot)


def _group(group: KeyGroup) -> QFrame:
    frame = QFrame()
    frame.setProperty("surface", "card")
    frame.setAccessibleName(group.title)
    grid = QGridLayout(frame)
    grid.setContentsMargins(14, 10, 14, 10)
    grid.setHorizontalSpacing(SPACE.xl)
    grid.setVerticalSpacing(6)
    grid.addWidget(Label(group.title, "heading"), 0, 0, 1, 2)
    for row, (keys, what) in enumerate(group.rows, start=1):
        grid.addWidget(Label(keys, "mono"), row, 0, Qt.AlignmentFlag.AlignLeft)
        grid.addWidget(Label(what, tone="text2"), row, 1)
    grid.setColumnStretch(1, 1)
    grid.setColumnMinimumWidth(0, 160)
    return frame
