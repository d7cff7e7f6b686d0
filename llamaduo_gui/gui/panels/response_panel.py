"""One response in full: the prompt, what the judges wrote, and the response against its target."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSignalBlocker, Qt
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QStackedLayout, QVBoxLayout, QWidget

from llamaduo_gui.core.types import Message
from llamaduo_gui.gui.models.response_view import ResponseDetail
from llamaduo_gui.gui.models.results_view import judge_label
from llamaduo_gui.gui.models.text_lines import is_code
from llamaduo_gui.gui.theme.fonts import mono_font
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, combo_box
from llamaduo_gui.gui.widgets.diff_view import DiffView
from llamaduo_gui.gui.widgets.flow_text import FlowText
from llamaduo_gui.gui.widgets.judge_card import JudgeCard
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label, restyle
from llamaduo_gui.gui.widgets.page import scroll_area
from llamaduo_gui.gui.widgets.segmented import SegmentedControl

_FOLDED_LETTERS = 180
_FOLDED_LINES = 4
_LEAST_DIFF_LINES = 6
_MOST_DIFF_LINES = 18


class ResponsePanel(QWidget):
    """Shows the response that is selected in the list."""

    def __init__(self) -> None:
        super().__init__()
        self._detail: ResponseDetail | None = None
        self.prompt = FoldedText("Prompt")
        self.judge = combo_box((), "Judge whose words are shown")
        self.judge.currentIndexChanged.connect(lambda _: self._show_notes())
        self._no_words = Label("No judgement of this response is stored.", tone="text2", wrap=True)
        self._cards = QVBoxLayout()
        self._cards.setSpacing(SPACE.s)
        self.comparison = Comparison()
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.s)
        column.addWidget(self.prompt)
        words = QHBoxLayout()
        words.addWidget(Label("Judge's words", "heading"))
        words.addStretch(1)
        words.addWidget(self.judge)
        column.addLayout(words)
        column.addWidget(self._no_words)
        column.addLayout(self._cards)
        column.addWidget(self.comparison, 1)
        self._scroll = scroll_area(content, "Response in full")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._scroll, 1)

    @property
    def detail(self) -> ResponseDetail | None:
        """The response shown."""
        return self._detail

    def cards(self) -> list[JudgeCard]:
        """What the chosen judge said, a card a metric."""
        items = (self._cards.itemAt(i) for i in range(self._cards.count()))
        widgets = [item.widget() for item in items if item is not None]
        return [widget for widget in widgets if isinstance(widget, JudgeCard)]

    def show_detail(self, detail: ResponseDetail, judge: str = "") -> None:
        """Show a response; `judge` is whose words to show, if it judged this one."""
        old = self._detail
        self._detail = detail
        self.prompt.set_text(
            _prompt_text(detail.prompt_turns), detail.facts, _question(detail.prompt_turns)
        )
        self._offer_judges(detail.judges, judge or self.judge.currentData())
        self._show_notes()
        self.comparison.show_detail(detail)
        if old is None or old.candidate.id != detail.candidate.id:
            self._scroll.verticalScrollBar().setValue(0)

    def choose_judge(self, judge: str) -> None:
        """Show another judge's words, if it judged this response."""
        place = self.judge.findData(judge)
        if place >= 0:
            self.judge.setCurrentIndex(place)

    def _offer_judges(self, judges: Sequence[str], wanted: str | None) -> None:
        known = [self.judge.itemData(i) for i in range(self.judge.count())]
        with QSignalBlocker(self.judge):
            if known != list(judges):
                self.judge.clear()
                for name in judges:
                    self.judge.addItem(judge_label(name, judges), name)
            self.judge.setCurrentIndex(max(0, self.judge.findData(wanted)))
        self.judge.setVisible(len(judges) > 1)

    def _show_notes(self) -> None:
        if self._detail is None:
            return
        notes = self._detail.notes.get(self.judge.currentData(), ())
        cards = self.cards()
        for note in notes[len(cards) :]:
            self._cards.addWidget(JudgeCard(note))
        for card, note in zip(cards, notes, strict=False):
            card.set_note(note)
        for number, card in enumerate(self.cards()):
            card.setVisible(number < len(notes))
        self._no_words.setVisible(not notes)


class FoldedText(QWidget):
    """A heading and a text, of which a long one shows its beginning until asked for more."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._full = self._short = ""
        self._note = ElidedLabel("", "small", tone="text2")
        self._text = FlowText(title)
        self.more = Button("Show all", "quiet", name=f"Show all of the {title.lower()}")
        self.more.setProperty("on", "raised")
        self.more.setCheckable(True)
        self.more.toggled.connect(self._fold)
        head = QHBoxLayout()
        head.setSpacing(SPACE.s)
        head.addWidget(Label(title, "heading"))
        head.addWidget(self._note, 1)
        head.addWidget(self.more)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(self._text)

    def set_text(self, text: str, note: str = "", gist: str = "") -> None:
        """Show another text, folded if it is long, and a note beside the heading.

        `gist` is the part to show while folded, its beginning by default.
        """
        self._full, self._short = text, _folded(gist or text)
        self._note.setText(note)
        self.more.setVisible(self._short != text)
        self.more.setChecked(False)
        self._fold(is_open=False)

    def shown_text(self) -> str:
        """What is on the screen now."""
        return self._text.toPlainText()

    def _fold(self, is_open: bool) -> None:
        self._text.set_text(self._full if is_open else self._short)
        self.more.setText("Show less" if is_open else "Show all")


class Comparison(QWidget):
    """The response against its target, or either of them as it stands."""

    def __init__(self) -> None:
        super().__init__()
        self._detail: ResponseDetail | None = None
        self._summary = Label("", "small", tone="bad", wrap=True)
        self.view = SegmentedControl(
            [("diff", "Compare"), ("response", "Response"), ("target", "Target")], "Text shown"
        )
        self.view.changed.connect(lambda _: self._show())
        self.diff = DiffView("Response against target")
        self.plain = QPlainTextEdit()
        self.plain.setReadOnly(True)
        self.plain.setTabChangesFocus(True)
        self.plain.setAccessibleName("Response")
        self._holder = QWidget()
        self._stack = QStackedLayout(self._holder)
        self._stack.addWidget(self.diff)
        self._stack.addWidget(self.plain)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.s)
        column.addWidget(self.view, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self._summary)
        column.addWidget(self._holder, 1)

    def show_detail(self, detail: ResponseDetail) -> None:
        """Show another response."""
        self._detail = detail
        self.diff.set_diff(detail.diff)
        self._show()

    def summary_text(self) -> str:
        """What differs, in a few words."""
        return self._summary.text()

    def _show(self) -> None:
        detail = self._detail
        if detail is None:
            return
        self._summary.set_tone("ok" if detail.diff.is_equal else "bad")
        self._summary.setText(_summary(detail))
        chosen = self.view.current()
        if chosen != "diff":
            text = detail.target if chosen == "target" else detail.candidate.text
            restyle(self.plain, role="mono" if is_code(detail.target) else "")
            self.plain.setPlainText(text)
            self.plain.setAccessibleName(chosen.capitalize())
        self._stack.setCurrentWidget(self.diff if chosen == "diff" else self.plain)
        shown = self.diff if chosen == "diff" else self.plain
        lines = min(max(shown.blockCount(), _LEAST_DIFF_LINES), _MOST_DIFF_LINES)
        self._holder.setMinimumHeight(lines * QFontMetrics(mono_font()).lineSpacing() + 20)


def _summary(detail: ResponseDetail) -> str:
    if detail.candidate.error:
        return f"No answer: {detail.candidate.error}"
    return f"Against the target: {detail.diff.summary}"


def _folded(text: str) -> str:
    """The first lines of a long text; a short one as it is."""
    lines = text.split("\n")
    short = "\n".join(lines[:_FOLDED_LINES])
    if len(short) > _FOLDED_LETTERS:
        short = short[:_FOLDED_LETTERS].rsplit(" ", 1)[0]
    # Hiding a word or two would cost more room than it saves.
    if len(text) - len(short) < _FOLDED_LETTERS // 4 and len(lines) <= _FOLDED_LINES + 1:
        return text
    return f"{short} \u2026"


def _question(turns: Sequence[Message]) -> str:
    """The last user turn: what the response answers."""
    asked = [turn.content for turn in turns if turn.role == "user"]
    return asked[-1] if asked else turns[-1].content


def _prompt_text(turns: Sequence[Message]) -> str:
    """All turns of the prompt; a single user turn stands without its role."""
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in turns)
