"""What a judge said about one response: the score, its repeats and every reason."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label
from llamaduo_gui.gui.widgets.pill import Pill
from llamaduo_gui.gui.widgets.wording import format_number


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """One repeat: a score 1..100 with its reason, or no score and what was replied instead."""

    score: float | None
    reason: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class JudgeNote:
    """All repeats of one judge on one metric; `mean` is over the scored ones."""

    metric: str
    mean: float | None
    replies: tuple[JudgeReply, ...]
    judge: str = ""

    @property
    def unscored(self) -> int:
        """Number of replies without a usable score."""
        return sum(reply.score is None for reply in self.replies)


class JudgeCard(QFrame):
    """Metric, score and the first reason; the other replies are one click away."""

    def __init__(self, note: JudgeNote) -> None:
        super().__init__()
        self.setProperty("surface", "raised")
        self._metric = Label("", "heading")
        self._score = Label("", "heading")
        self._repeats = ElidedLabel("", tone="text2")
        self._unscored = Pill("Unscored", "warn")
        self._reason = Label("", tone="text2", wrap=True, selectable=True)
        self._more = Button("", "quiet")
        self._more.setProperty("on", "raised")
        self._more.setCheckable(True)
        self._more.toggled.connect(self._set_expanded)
        self._others = QWidget()
        self._others_column = QVBoxLayout(self._others)
        self._others_column.setContentsMargins(0, SPACE.xs, 0, 0)
        self._others_column.setSpacing(SPACE.s)
        head = QHBoxLayout()
        head.setSpacing(SPACE.m)
        head.addWidget(self._metric)
        head.addWidget(self._score)
        head.addWidget(self._repeats)
        head.addStretch(1)
        head.addWidget(self._more)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE.m, SPACE.s, SPACE.s, SPACE.s)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(self._unscored)
        column.addWidget(self._reason)
        column.addWidget(self._others)
        self.set_note(note)

    def set_note(self, note: JudgeNote) -> None:
        """Show another note."""
        self._note = note
        self._metric.setText(note.metric)
        self._score.setText(_short(note.mean))
        scored = [_short(reply.score) for reply in note.replies if reply.score is not None]
        self._repeats.setText(f"mean of {', '.join(scored)}" if len(scored) > 1 else "")
        self._repeats.setVisible(len(scored) > 1)
        count = note.unscored
        self._unscored.set("warn", f"{count} unscored" if len(note.replies) > 1 else "Unscored")
        self._unscored.setVisible(count > 0)
        self._reason.setText(_words(note.replies[0]) if note.replies else "No reply is stored.")
        self._show_others()
        self._more.setVisible(len(note.replies) > 1)
        self._more.setChecked(False)
        self._set_expanded(False)
        said = f"{note.judge} {note.metric}: {_short(note.mean)}".strip()
        self.setAccessibleName(f"{said}. {self._reason.text()}")

    def reasons(self) -> list[str]:
        """Every reason or raw reply, in the order of the repeats."""
        return [_words(reply) for reply in self._note.replies]

    def more_button(self) -> Button:
        """The button that shows the other replies."""
        return self._more

    def _show_others(self) -> None:
        while item := self._others_column.takeAt(0):
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        for number, reply in enumerate(self._note.replies[1:], start=2):
            title = "unscored" if reply.score is None else _short(reply.score)
            self._others_column.addWidget(Label(f"Reply {number}: {title}", "small", tone="text3"))
            text = Label(_words(reply), tone="text2", wrap=True, selectable=True)
            self._others_column.addWidget(text)

    def _set_expanded(self, is_on: bool) -> None:
        self._others.setVisible(is_on)
        count = len(self._note.replies)
        self._more.setText("Less" if is_on else f"All {count}")
        verb = "Hide the other" if is_on else "Show all"
        self._more.setAccessibleName(f"{verb} {count} replies on {self._note.metric}")


def _short(score: float | None) -> str:
    """A score without needless decimals."""
    return format_number(score, 0 if score is None or float(score).is_integer() else 1)


def _words(reply: JudgeReply) -> str:
    if reply.score is None:
        return f"Reply without a usable score: {reply.raw or reply.reason or 'empty'}"
    return f"\u201c{reply.reason}\u201d" if reply.reason else "No reason was given."
