"""One synthetic pair beside its seed, or beside the record it is too close to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from llamaduo_gui.core.types import RecordStatus
from llamaduo_gui.gui.models.data_view import last_question, status_text
from llamaduo_gui.gui.models.synthesise_view import PairDetail, PairSide, Partner, other_title
from llamaduo_gui.gui.models.text_lines import is_code
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.marked_text import MarkedText
from llamaduo_gui.gui.widgets.page import scroll_area
from llamaduo_gui.gui.widgets.pill import Pill
from llamaduo_gui.gui.widgets.segmented import SegmentedControl

if TYPE_CHECKING:
    from llamaduo_gui.gui.models.overlap import Span

_ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}


class PairPanel(Card):
    """Shows the pair that is selected in the table; the page carries out what is pressed."""

    def __init__(self) -> None:
        super().__init__("Pair")
        self._detail: PairDetail | None = None
        self.accept_button = Button("Accept", icon="check", name="Accept the selected pairs")
        self.reject_button = Button("Reject", icon="x", name="Reject the selected pairs")
        for button in (self.accept_button, self.reject_button):
            self.add_action(button)
        self.partner = SegmentedControl(
            [("too_close", "Too close to"), ("seed", "Seed")], "Compared with"
        )
        self.partner.changed.connect(lambda _: self._show_sides())
        self._status = Pill("", "ok")
        top = QHBoxLayout()
        top.setSpacing(SPACE.s)
        top.addWidget(self._status)
        top.addStretch(1)
        top.addWidget(self.partner)
        self._why = Label("", "small", tone="text2", wrap=True, selectable=True)
        self._why.setAccessibleName("Why it was rejected")
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(SPACE.s)
        self._grid.setVerticalSpacing(SPACE.s)
        self._grid.setColumnStretch(0, 1)
        self._grid.setColumnStretch(1, 1)
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, SPACE.xs, 0)
        column.setSpacing(SPACE.s)
        column.addWidget(self._why)
        column.addLayout(self._grid)
        column.addStretch(1)
        self._scroll: QScrollArea = scroll_area(content, "Pair side by side")
        self._top = QWidget()
        self._top.setLayout(top)
        top.setContentsMargins(0, 0, 0, 0)
        self.body.addWidget(self._top)
        self.body.addWidget(self._scroll, 1)
        self._hint = Label("Select a pair to see it beside its seed.", tone="text2", wrap=True)
        self._hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.body.addWidget(self._hint, 1)
        self.show_detail(None)

    @property
    def detail(self) -> PairDetail | None:
        """The pair shown."""
        return self._detail

    def show_detail(self, detail: PairDetail | None) -> None:
        """Show a pair, or the invitation to select one."""
        before, self._detail = self._detail, detail
        for part in (self._top, self._scroll):
            part.setVisible(detail is not None)
        self._hint.setVisible(detail is None)
        for button in (self.accept_button, self.reject_button):
            button.setEnabled(detail is not None)
        if detail is None:
            self.set_subtitle("")
            return
        row = detail.row
        is_kept = row.status is RecordStatus.KEPT
        self.set_subtitle(f"round {row.round}, {row.record.category}")
        self._status.set("ok" if is_kept else "warn", status_text(row), "check" if is_kept else "x")
        self.accept_button.setEnabled(not is_kept)
        self.reject_button.setEnabled(is_kept)
        self._why.setText(row.reject_detail)
        self._why.setVisible(bool(row.reject_detail))
        self.partner.setVisible(len(detail.sides) > 1)
        if before is None or before.row.id != row.id:
            self.partner.set_current(next(iter(detail.sides)))
            self._scroll.verticalScrollBar().setValue(0)
        self._show_sides()

    def texts(self) -> list[MarkedText]:
        """What is shown of pair and partner, row by row."""
        items = (self._grid.itemAt(number) for number in range(self._grid.count()))
        frames = (item.widget() for item in items if item is not None)
        found = (frame.findChild(MarkedText) for frame in frames if frame is not None)
        return [text for text in found if text is not None]

    def _show_sides(self) -> None:
        while item := self._grid.takeAt(0):
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        detail = self._detail
        if detail is None:
            return
        chosen: Partner = "too_close" if self.partner.current() == "too_close" else "seed"
        partner = chosen if chosen in detail.sides else "seed"
        comparison = detail.sides[partner]
        self._add_side(0, "New pair", comparison.pair)
        if comparison.other is None:
            missing = Label("The record is not in the project any more.", tone="text2", wrap=True)
            self._grid.addWidget(missing, 1, 1)
        else:
            self._add_side(1, other_title(detail, partner), comparison.other)

    def _add_side(self, column: int, title: str, side: PairSide) -> None:
        top = Qt.AlignmentFlag.AlignTop
        self._grid.addWidget(Label(title, "heading", wrap=True), 0, column, top)
        record = side.row.record
        question = _block("Prompt", last_question(record), side.question_spans)
        self._grid.addWidget(question, 1, column, top)
        response = _block("Response", record.target, side.target_spans)
        self._grid.addWidget(response, 2, column, top)
        earlier = record.messages[:-2]
        if earlier:
            text = "\n\n".join(f"{_ROLES[turn.role]}: {turn.content}" for turn in earlier)
            self._grid.addWidget(_block("Turns before the prompt", text, ()), 3, column, top)


def _block(title: str, text: str, spans: tuple[Span, ...]) -> QFrame:
    frame = QFrame()
    frame.setProperty("surface", "raised")
    column = QVBoxLayout(frame)
    column.setContentsMargins(SPACE.m, SPACE.s, SPACE.m, SPACE.s)
    column.setSpacing(SPACE.xs)
    column.addWidget(Label(title, "badge", tone="text2"))
    body = MarkedText(title, is_code=is_code(text))
    body.set_marked(text or "(empty)", spans if text else ())
    column.addWidget(body)
    return frame
