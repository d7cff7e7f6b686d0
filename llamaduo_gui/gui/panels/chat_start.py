"""The beginning of a conversation: prompts to start from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from llamaduo_gui.gui.models.try_view import Example
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.labels import IconLabel, Label
from llamaduo_gui.gui.widgets.page import scroll_area

_WIDTH = 560
_SIDE = 28


class ChatStart(QWidget):
    """What to ask first; `example_chosen` sends the Example that was clicked."""

    example_chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.chips: list[ExampleChip] = []
        self._title = Label("What should it answer?", "verdict", wrap=True)
        self._text = Label("", tone="text2", wrap=True)
        for label in (self._title, self._text):
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._rows = QVBoxLayout()
        self._rows.setSpacing(SPACE.s)
        middle = QWidget()
        middle.setMaximumWidth(_WIDTH)
        inner = QVBoxLayout(middle)
        inner.setContentsMargins(SPACE.l, SPACE.l, SPACE.l, SPACE.l)
        inner.setSpacing(SPACE.s)
        inner.addStretch(1)
        inner.addWidget(IconLabel("try", "text3", 32), 0, Qt.AlignmentFlag.AlignHCenter)
        inner.addWidget(self._title)
        inner.addWidget(self._text)
        inner.addSpacing(SPACE.xs)
        inner.addLayout(self._rows)
        inner.addStretch(1)
        centre = QWidget()
        row = QHBoxLayout(centre)
        row.setContentsMargins(0, 0, 0, 0)
        row.addStretch(1)
        row.addWidget(middle, 100)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scroll_area(centre, "Prompts to start from"))
        self.set_examples(())

    def set_examples(self, examples: Sequence[Example]) -> None:
        """Offer these prompts."""
        for chip in self.chips:
            self._rows.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
        self.chips = [ExampleChip(example) for example in examples]
        for chip in self.chips:
            chip.clicked.connect(partial(self.example_chosen.emit, chip.example))
            self._rows.addWidget(chip)
        self._text.setText(
            "Prompts of the test split, which training never saw:"
            if self.chips
            else "Write a prompt below. The model answers on this computer."
        )


class ExampleChip(QPushButton):
    """A prompt on one line, cut with an ellipsis where it is too long; the tooltip has it all."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.example = example
        self.setProperty("kind", "chip")
        self.setAutoDefault(False)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setAccessibleName(f"Ask: {example.label}")
        self.setToolTip(f"<qt>{_escaped(example.prompt)}</qt>")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._cut()

    def sizeHint(self) -> QSize:
        """As high as a button; the width is the column's."""
        return QSize(80, super().sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Cut the text to the new width."""
        super().resizeEvent(event)
        self._cut()

    def _cut(self) -> None:
        metrics = QFontMetrics(self.font())
        room = max(40, self.width() - _SIDE)
        text = metrics.elidedText(self.example.label, Qt.TextElideMode.ElideRight, room)
        self.setText(text.replace("&", "&&"))


def _escaped(text: str) -> str:
    """Plain text for a tooltip that wraps."""
    shown = text if len(text) <= 800 else f"{text[:800]}…"
    marks = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": "<br>"}
    return "".join(marks.get(letter, letter) for letter in shown)
