"""Shows a candidate against its target: signs and colour for lines, stronger for words."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QTextCharFormat, QTextCursor, QTextFormat, QTextOption
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QTextEdit, QVBoxLayout, QWidget

from llamaduo_gui.gui.theme.theme import color, theme_notifier
from llamaduo_gui.gui.theme.tokens import SEMIBOLD, SPACE
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.text_diff import Diff, compare

_INDENT = 2  # sign and blank before each line


class DiffPanel(QWidget):
    """A heading, the summary beside it, and the comparison below."""

    def __init__(self, title: str = "Candidate against target") -> None:
        super().__init__()
        self.view = DiffView(title)
        self._summary = Label("", "small", tone="bad", wrap=True)
        head = QHBoxLayout()
        head.setSpacing(SPACE.s)
        head.addWidget(Label(title, "heading"))
        head.addWidget(self._summary, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.s)
        column.addLayout(head)
        column.addWidget(self.view, 1)

    def set_texts(self, target: str, candidate: str) -> Diff:
        """Compare and show; returns the comparison."""
        diff = self.view.set_texts(target, candidate)
        self._summary.set_tone("ok" if diff.is_equal else "bad")
        self._summary.setText(diff.summary)
        return diff


class DiffView(QPlainTextEdit):
    """Lines in a monospace face; `summary_changed` carries the sentence to put above it."""

    summary_changed = Signal(str)

    def __init__(self, name: str = "Candidate against target") -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setReadOnly(True)
        self.setTabChangesFocus(True)
        self.setProperty("role", "mono")
        self.setUndoRedoEnabled(False)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self._name = name
        self._diff = Diff("", ())
        theme_notifier().changed.connect(self._paint_marks)

    def set_texts(self, target: str, candidate: str) -> Diff:
        """Compare and show; returns the comparison."""
        return self.set_diff(compare(target, candidate))

    def set_diff(self, diff: Diff) -> Diff:
        """Show a comparison made elsewhere: long texts take too long for the GUI thread."""
        self._diff = diff
        self.setPlainText("\n".join(f"{line.sign} {line.text}" for line in self._diff.lines))
        self._paint_marks()
        self.setAccessibleDescription(self._diff.summary)
        self.summary_changed.emit(self._diff.summary)
        return self._diff

    def summary_text(self) -> str:
        """The sentence that sums the comparison up."""
        return self._diff.summary

    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return self._diff.is_equal

    def _paint_marks(self) -> None:
        selections: list[QTextEdit.ExtraSelection] = []
        tones = {"-": ("bad", "bad_soft"), "+": ("ok", "ok_soft")}
        for number, line in enumerate(self._diff.lines):
            if line.sign == " ":
                continue
            ink, fill = tones[line.sign]
            start = self.document().findBlockByNumber(number).position()
            whole = QTextCharFormat()
            whole.setForeground(color(ink))
            whole.setBackground(color(fill))
            whole.setProperty(QTextFormat.Property.FullWidthSelection, True)
            selections.append(self._selection(start, start, whole))
            # A full-width selection tints the line it starts in; the letters need their own.
            letters = QTextCharFormat()
            letters.setForeground(color(ink))
            letters.setBackground(color(fill))
            end = start + _INDENT + len(line.text)
            selections.append(self._selection(start, end, letters))
            for first, last in line.marks:
                word = QTextCharFormat(letters)
                word.setFontWeight(SEMIBOLD)
                word.setFontUnderline(True)
                at = start + _INDENT
                selections.append(self._selection(at + first, at + last, word))
        self.setExtraSelections(selections)

    def _selection(self, start: int, end: int, look: QTextCharFormat) -> QTextEdit.ExtraSelection:
        selection = QTextEdit.ExtraSelection()
        cursor = QTextCursor(self.document())
        cursor.setPosition(start)
        cursor.setPosition(end, QTextCursor.MoveMode.KeepAnchor)
        selection.cursor = cursor
        selection.format = look
        return selection
