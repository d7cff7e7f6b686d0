"""A conversation: bubbles that fill while a model writes, and the column they stand in."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, IconButton
from llamaduo_gui.gui.widgets.fences import Segment, split_fences
from llamaduo_gui.gui.widgets.flow_text import FlowText
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label
from llamaduo_gui.gui.widgets.wording import format_count, format_money

REFRESH_MS = 100  # text that arrives faster is gathered and shown at 10 Hz
_WIDTH_SHARE = 0.82
_NEAR_END_PX = 40


@dataclass(frozen=True, slots=True)
class BubbleFooter:
    """Numbers about an answer, each left out while it is not known, and how it ended."""

    seconds: float | None = None
    tokens_per_s: float | None = None
    first_token_s: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    note: str = ""

    def text(self) -> str:
        """`42 tokens/s · first token 0.21 s · 118 tokens · $0.0012`."""
        parts = []
        if self.seconds is not None:
            parts.append(f"{self.seconds:.1f} s")
        if self.tokens_per_s is not None:
            parts.append(f"{self.tokens_per_s:.0f} tokens/s")
        if self.first_token_s is not None:
            parts.append(f"first token {self.first_token_s:.2f} s")
        if self.tokens is not None:
            parts.append(f"{format_count(self.tokens)} tokens")
        if self.cost_usd is not None:
            parts.append(format_money(self.cost_usd))
        if self.note:
            parts.append(self.note)
        return " · ".join(parts)


class _CodeBlock(QFrame):
    """Fenced code with its language and Copy."""

    def __init__(self, segment: Segment) -> None:
        super().__init__()
        self.setProperty("surface", "inset")
        self._language = Label(segment.language or "code", "caption", tone="text2")
        copy = Button("Copy", "quiet", "copy", "Copy this code")
        copy.clicked.connect(self._copy)
        self.view = FlowText("Code", is_code=True)
        head = QHBoxLayout()
        head.addWidget(self._language)
        head.addStretch(1)
        head.addWidget(copy)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 4, 10, 8)
        column.setSpacing(0)
        column.addLayout(head)
        column.addWidget(self.view)
        self.update_segment(segment)

    def update_segment(self, segment: Segment) -> None:
        self._language.setText(segment.language or "code")
        self.view.set_text(segment.text)

    def _copy(self) -> None:
        QApplication.clipboard().setText(self.view.toPlainText())


class Bubble(QFrame):
    """One turn. An answer is shown as plain text while it grows and as Markdown at its end."""

    def __init__(self, *, is_user: bool, name: str) -> None:
        super().__init__()
        self.setProperty("surface", "user" if is_user else "raised")
        self.setAccessibleName(name)
        self._is_user = is_user
        self._text = ""
        self._segments: list[Segment] = []
        self._parts: list[FlowText | _CodeBlock] = []
        self._is_writing = False
        self._footer = ElidedLabel("", "caption", tone="text2")
        self._copy = IconButton("copy", "Copy this answer")
        self._copy.clicked.connect(lambda: QApplication.clipboard().setText(self._text))
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._refresh)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(10, 6, 10, 6)
        self._column.setSpacing(6)
        self._foot = QWidget()
        foot = QHBoxLayout(self._foot)
        foot.setContentsMargins(2, 0, 0, 0)
        foot.addWidget(self._footer, 1)
        foot.addWidget(self._copy)
        self._column.addWidget(self._foot)
        self._copy.hide()
        self._foot.setVisible(not is_user)
        horizontal = QSizePolicy.Policy.Preferred if is_user else QSizePolicy.Policy.Expanding
        self.setSizePolicy(horizontal, QSizePolicy.Policy.Preferred)

    @property
    def text(self) -> str:
        """Everything said so far."""
        return self._text

    @property
    def is_writing(self) -> bool:
        """Whether the answer is still growing."""
        return self._is_writing

    def set_text(self, text: str) -> None:
        """Show a finished plain text."""
        self._text = text
        self._show([Segment("prose", text)])

    def start(self) -> None:
        """Wait for the first piece of an answer."""
        self._is_writing = True
        self._footer.setText("waiting for the first token…")

    def append(self, piece: str) -> None:
        """Add a piece of the answer; the view follows at 10 Hz."""
        self._text += piece
        if not self._timer.isActive():
            self._timer.start()

    def set_footer(self, footer: BubbleFooter) -> None:
        """Show numbers about the answer, while it is written or after."""
        words = footer.text()
        self._footer.setText(f"{words} · writing…".lstrip(" ·") if self._is_writing else words)

    def finish(self, footer: BubbleFooter | None = None) -> None:
        """End the answer: show it as Markdown, once, with its numbers."""
        self._timer.stop()
        self._is_writing = False
        self._show(split_fences(self._text))
        for segment, part in zip(self._segments, self._parts, strict=True):
            if segment.kind == "prose" and isinstance(part, FlowText):
                part.set_markdown(segment.text)
        self._set_caret(False)
        self.set_footer(footer or BubbleFooter())
        self._copy.setVisible(bool(self._text))

    def fail(self, message: str) -> None:
        """End the answer with an error: what is there stays, and `message` says the rest."""
        self.finish()
        self._footer.set_tone("bad")
        self._footer.setText(message)

    def footer_text(self) -> str:
        """The numbers as shown."""
        return self._footer.text()

    def _refresh(self) -> None:
        self._show(split_fences(self._text))
        self._set_caret(self._is_writing)
        if self._footer.text().startswith("waiting"):
            self._footer.setText("writing…")

    def _show(self, segments: list[Segment]) -> None:
        """Bring the parts in line with `segments`, touching only those that changed."""
        same = 0
        for old, new in zip(self._segments, segments, strict=False):
            if old.kind != new.kind:
                break
            same += 1
        for part in self._parts[same:]:
            self._column.removeWidget(part)
            part.hide()
            part.deleteLater()
        del self._parts[same:]
        for index, segment in enumerate(segments):
            if index >= len(self._parts):
                self._add_part(segment)
            elif self._segments[index] != segment:
                self._update_part(index, segment)
        self._segments = segments

    def _add_part(self, segment: Segment) -> None:
        if segment.kind == "code":
            part: FlowText | _CodeBlock = _CodeBlock(segment)
        else:
            part = FlowText("Prompt" if self._is_user else "Answer")
            part.set_text(segment.text)
        self._column.insertWidget(len(self._parts), part)
        self._parts.append(part)

    def _update_part(self, index: int, segment: Segment) -> None:
        part = self._parts[index]
        if isinstance(part, _CodeBlock):
            part.update_segment(segment)
        else:
            part.set_text(segment.text)

    def _set_caret(self, is_shown: bool) -> None:
        last = len(self._parts) - 1
        for index, part in enumerate(self._parts):
            view = part.view if isinstance(part, _CodeBlock) else part
            view.set_caret(is_shown and index == last)


class ChatView(QScrollArea):
    """A column of bubbles that follows its end unless the reader has scrolled up."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._content = QWidget()
        self._column = QVBoxLayout(self._content)
        self._column.setContentsMargins(14, SPACE.m, 14, SPACE.m)
        self._column.setSpacing(10)
        self._column.addStretch(1)
        self.setWidget(self._content)
        self._content.setAutoFillBackground(False)
        self.viewport().setAutoFillBackground(False)
        self._bubbles: list[Bubble] = []
        self._rows: list[QWidget] = []
        self._follows = True
        bar = self.verticalScrollBar()
        bar.valueChanged.connect(self._on_scrolled)
        bar.rangeChanged.connect(self._on_range)

    def add_user(self, text: str) -> Bubble:
        """Add what the user said."""
        bubble = Bubble(is_user=True, name="You")
        bubble.set_text(text)
        self._add(bubble, is_right=True)
        return bubble

    def start_answer(self, name: str = "Answer") -> Bubble:
        """Add an empty bubble for an answer: `append` to it, then `finish` or `fail` it."""
        bubble = Bubble(is_user=False, name=name)
        bubble.start()
        self._add(bubble, is_right=False)
        return bubble

    def remove_last(self) -> None:
        """Take the newest bubble away, as when an answer is written again."""
        if self._bubbles:
            self._bubbles.pop()
            self._discard(self._rows.pop())

    def clear(self) -> None:
        """Take all bubbles away."""
        for row in self._rows:
            self._discard(row)
        self._bubbles.clear()
        self._rows.clear()
        self._follows = True

    def _discard(self, row: QWidget) -> None:
        self._column.removeWidget(row)
        row.hide()
        row.deleteLater()

    def bubbles(self) -> list[Bubble]:
        """All bubbles, oldest first."""
        return list(self._bubbles)

    def _add(self, bubble: Bubble, *, is_right: bool) -> None:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(0)
        if is_right:
            line.addStretch(1)
        line.addWidget(bubble, 1000 if not is_right else 0)
        if not is_right:
            line.addStretch(1)
        self._bubbles.append(bubble)
        self._rows.append(row)
        self._limit_width(bubble)
        self._follows = True
        self._column.insertWidget(self._column.count() - 1, row)

    def _limit_width(self, bubble: Bubble) -> None:
        room = self.viewport().width() - 28
        bubble.setMaximumWidth(max(120, round(room * _WIDTH_SHARE)))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep bubbles narrower than the column, so that sides can be told apart."""
        super().resizeEvent(event)
        for bubble in self._bubbles:
            self._limit_width(bubble)

    def _on_scrolled(self, value: int) -> None:
        self._follows = value >= self.verticalScrollBar().maximum() - _NEAR_END_PX

    def _on_range(self, _low: int, high: int) -> None:
        if self._follows:
            self.verticalScrollBar().setValue(high)
