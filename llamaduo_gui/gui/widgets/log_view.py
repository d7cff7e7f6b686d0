"""The log: the last 5,000 lines, gathered and shown at 10 Hz, with a level filter."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from PySide6.QtCore import QMimeData, QTimer
from PySide6.QtGui import QFontMetrics, QResizeEvent, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QComboBox, QPlainTextEdit

from llamaduo_gui.gui.theme.fonts import mono_font
from llamaduo_gui.gui.theme.theme import color, theme_notifier
from llamaduo_gui.gui.widgets.buttons import combo_box

Level = Literal["debug", "info", "warning", "error"]
LevelFilter = Literal["all", "warning", "error"]
MAX_LINES = 5000
REFRESH_MS = 100
_SOURCE_COLUMNS = 6
_MIN_TEXT_COLUMNS = 18  # with less room beside time and source, the message goes below them
_NARROW_INDENT = 2
_HIDDEN: dict[str, frozenset[str]] = {
    "all": frozenset(),
    "warning": frozenset({"debug", "info"}),
    "error": frozenset({"debug", "info", "warning"}),
}
# Continued rows start with no-break spaces, so that copying can join them again.
_PAD = "\u00a0"
_CONTINUED = re.compile(f"\u2029{_PAD}+")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message; `time` as shown (`15:02:11`), `source` a short word such as `train`."""

    time: str
    source: str
    text: str
    level: Level = "info"

    @property
    def head(self) -> str:
        """Time and source, padded so that messages line up."""
        source = self.source
        if len(source) > _SOURCE_COLUMNS:
            source = f"{source[: _SOURCE_COLUMNS - 1]}…"
        return f"{self.time} {source:<{_SOURCE_COLUMNS}} "


class LogView(QPlainTextEdit):
    """Log lines with a hanging indent.

    A rich text document could indent by itself but lays all 5,000 lines out again when it
    drops the oldest (67 ms measured); wrapping the monospace text here costs 1 ms.
    """

    def __init__(self, name: str = "Log") -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setReadOnly(True)
        self.setTabChangesFocus(True)
        self.setUndoRedoEnabled(False)
        self.setProperty("role", "mono")
        self.setProperty("flat", True)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.setMaximumBlockCount(MAX_LINES)
        self.document().setDocumentMargin(2)
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._new: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._filter: LevelFilter = "all"
        self._columns = 0
        self._timer = _single_shot(self, REFRESH_MS, self._flush)
        self._resize_timer = _single_shot(self, 150, self._rewrap)
        theme_notifier().changed.connect(self._rebuild)

    def append(self, line: LogLine) -> None:
        """Add a line; it is shown within a tenth of a second."""
        self.extend((line,))

    def extend(self, lines: Iterable[LogLine]) -> None:
        """Add lines in their order."""
        self._new.extend(lines)
        if not self._timer.isActive():
            self._timer.start()

    def clear(self) -> None:
        """Forget all lines."""
        self._lines.clear()
        self._new.clear()
        super().clear()

    def set_level(self, level: LevelFilter) -> None:
        """Show all lines, or only those from `warning` or `error` up."""
        self._filter = level
        self._rebuild()

    def text(self) -> str:
        """All lines that the filter shows, unwrapped."""
        self._flush()
        return "\n".join(line.head + line.text for line in self._lines if self._shows(line))

    def _shows(self, line: LogLine) -> bool:
        return line.level not in _HIDDEN[self._filter]

    def _flush(self) -> None:
        self._timer.stop()
        if self._new:
            new = list(self._new)
            self._new.clear()
            self._lines.extend(new)
            self._write(new)

    def _write(self, lines: Iterable[LogLine]) -> None:
        bar = self.verticalScrollBar()
        was_at_end = bar.value() >= bar.maximum() - 2
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.beginEditBlock()
        is_empty = self.document().isEmpty()
        for line in lines:
            if self._shows(line):
                for row in self._rows(line):
                    if not is_empty:
                        cursor.insertBlock()
                    cursor.insertText(row, _look(line.level))
                    is_empty = False
        cursor.endEditBlock()
        if was_at_end:
            bar.setValue(bar.maximum())

    def _rows(self, line: LogLine) -> list[str]:
        columns, text = self._columns_now(), " ".join(line.text.split())
        indent = len(line.head)
        if columns - indent < _MIN_TEXT_COLUMNS:
            rows = wrap(text, columns - _NARROW_INDENT)
            return [line.head.rstrip(), *(_PAD * _NARROW_INDENT + row for row in rows)]
        rows = wrap(text, columns - indent)
        return [line.head + rows[0], *(_PAD * indent + row for row in rows[1:])]

    def _columns_now(self) -> int:
        if not self._columns:
            width = QFontMetrics(mono_font()).horizontalAdvance("0" * 20) / 20
            self._columns = max(16, int((self.viewport().width() - 8) / max(width, 1.0)))
        return self._columns

    def _rebuild(self) -> None:
        self._columns = 0
        self._lines.extend(self._new)
        self._new.clear()
        super().clear()
        self._write(self._lines)
        self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())

    def _rewrap(self) -> None:
        before, self._columns = self._columns, 0
        if self._lines and self._columns_now() != before:
            self._rebuild()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Wrap anew once the size has settled."""
        super().resizeEvent(event)
        self._resize_timer.start()

    def createMimeDataFromSelection(self) -> QMimeData:
        """Copy messages as they were logged, without the breaks made here."""
        data = QMimeData()
        chosen = _CONTINUED.sub(" ", self.textCursor().selectedText())
        data.setText(chosen.replace("\u2029", "\n").replace(_PAD, " "))
        return data


def wrap(text: str, columns: int) -> list[str]:
    """Rows of at most `columns` letters, broken at blanks where there are any.

    A fifth of the time that textwrap takes, which matters when 5,000 lines are wrapped anew.
    """
    rows: list[str] = []
    while len(text) > columns:
        at = text.rfind(" ", 0, columns + 1)
        if at <= 0:
            rows.append(text[:columns])
            text = text[columns:]
        else:
            rows.append(text[:at])
            text = text[at + 1 :]
    return [*rows, text]


def log_level_combo(view: LogView) -> QComboBox:
    """The combo box that sets a log's level."""
    levels = (("All levels", "all"), ("Warnings", "warning"), ("Errors", "error"))
    box = combo_box(levels, "Level of the log")
    box.currentIndexChanged.connect(lambda _index: view.set_level(box.currentData()))
    return box


def _look(level: Level) -> QTextCharFormat:
    look = QTextCharFormat()
    tone = {"error": "bad", "warning": "warn", "debug": "text3"}.get(level, "text")
    look.setForeground(color(tone))
    return look


def _single_shot(parent: LogView, interval_ms: int, slot: object) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(interval_ms)
    timer.timeout.connect(slot)
    return timer
