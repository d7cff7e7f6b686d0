"""Text as high as its content, with some of its words marked."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtGui import QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit

from llamaduo_gui.gui.theme.theme import color, theme_notifier
from llamaduo_gui.gui.widgets.flow_text import FlowText


class MarkedText(FlowText):
    """Plain text; marks are a tint and a line under the words, so not colour alone."""

    def __init__(self, name: str, *, is_code: bool = False) -> None:
        super().__init__(name, is_code=is_code)
        self._spans: tuple[tuple[int, int], ...] = ()
        theme_notifier().changed.connect(self._paint_marks)

    def set_marked(self, text: str, spans: Sequence[tuple[int, int]]) -> None:
        """Show `text` with the (start, end) places of it marked."""
        self.set_text(text)
        # Qt counts UTF-16 units: characters beyond the basic plane are two of them.
        wide = [place for place, letter in enumerate(text) if ord(letter) > 0xFFFF]
        self._spans = tuple((_units(start, wide), _units(end, wide)) for start, end in spans)
        self._paint_marks()

    def marked_texts(self) -> list[str]:
        """The marked places as text."""
        return [selection.cursor.selectedText() for selection in self.extraSelections()]

    def _paint_marks(self) -> None:
        look = QTextCharFormat()
        look.setBackground(color("accent_soft"))
        look.setFontUnderline(True)
        selections = []
        for start, end in self._spans:
            selection = QTextEdit.ExtraSelection()
            cursor = QTextCursor(self.document())
            cursor.setPosition(start)
            cursor.setPosition(end, QTextCursor.MoveMode.KeepAnchor)
            selection.cursor = cursor
            selection.format = look
            selections.append(selection)
        self.setExtraSelections(selections)


def _units(place: int, wide: Sequence[int]) -> int:
    return place + sum(other < place for other in wide)
