"""One record in full: every turn, where it comes from, and why it was rejected if it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from llamaduo_gui.core.types import Origin, RecordStatus
from llamaduo_gui.gui.models.data_view import last_question, status_text
from llamaduo_gui.gui.models.text_lines import is_code
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.flow_text import FlowText
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label, Separator
from llamaduo_gui.gui.widgets.page import scroll_area
from llamaduo_gui.gui.widgets.pill import Pill

if TYPE_CHECKING:
    from llamaduo_gui.core.types import Message
    from llamaduo_gui.gui.models.data_view import RecordDetail
    from llamaduo_gui.store.rows import RecordRow

_ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}


class RecordPanel(Card):
    """Shows the record that is selected in the table."""

    def __init__(self) -> None:
        super().__init__("Record")
        self._detail: RecordDetail | None = None
        self._split = Pill("", "neutral", "data")
        self._status = Pill("", "ok")
        pills = QHBoxLayout()
        pills.setSpacing(SPACE.s)
        pills.addWidget(self._split)
        pills.addWidget(self._status)
        pills.addStretch(1)
        self._why = Label("", "small", tone="text2", wrap=True, selectable=True)
        self._why.setAccessibleName("Why it was rejected")
        self._facts = QGridLayout()
        self._facts.setHorizontalSpacing(SPACE.m)
        self._facts.setVerticalSpacing(2)
        self._facts.setColumnStretch(1, 1)
        self._turns = QVBoxLayout()
        self._turns.setSpacing(SPACE.s)
        self._content = QWidget()
        column = QVBoxLayout(self._content)
        column.setContentsMargins(0, 0, SPACE.xs, 0)
        column.setSpacing(SPACE.s)
        column.addLayout(pills)
        column.addWidget(self._why)
        column.addLayout(self._turns)
        column.addWidget(Separator())
        column.addLayout(self._facts)
        column.addStretch(1)
        self._scroll: QScrollArea = scroll_area(self._content, "Record in full")
        self.body.addWidget(self._scroll, 1)
        self._hint = Label("Select a record to read it in full.", tone="text2", wrap=True)
        self._hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.body.addWidget(self._hint, 1)
        self.show_detail(None)

    @property
    def detail(self) -> RecordDetail | None:
        """The record shown."""
        return self._detail

    def show_detail(self, detail: RecordDetail | None) -> None:
        """Show a record, or the invitation to select one."""
        is_same = (
            detail is not None and self._detail is not None and detail.row.id == self._detail.row.id
        )
        self._detail = detail
        self._scroll.setVisible(detail is not None)
        self._hint.setVisible(detail is None)
        if detail is None:
            self.set_subtitle("")
            return
        row = detail.row
        self.set_subtitle(row.source)
        self._split.set("neutral", row.split.value.capitalize(), "data")
        if row.status is RecordStatus.KEPT:
            self._status.set("ok", "Kept")
        else:
            self._status.set("warn", status_text(row))
        self._why.setText(row.reject_detail)
        self._why.setVisible(bool(row.reject_detail))
        self._show_turns(row)
        self._show_facts(detail)
        if not is_same:
            self._scroll.verticalScrollBar().setValue(0)

    def texts(self) -> list[str]:
        """Every turn as shown, in order."""
        items = (self._turns.itemAt(number) for number in range(self._turns.count()))
        frames = (item.widget() for item in items if item is not None)
        flows = (frame.findChild(FlowText) for frame in frames if frame is not None)
        return [flow.toPlainText() for flow in flows if flow is not None]

    def _show_turns(self, row: RecordRow) -> None:
        _empty(self._turns)
        turns = row.record.messages
        for number, message in enumerate(turns):
            is_target = number == len(turns) - 1
            title = "Target response" if is_target else _ROLES[message.role]
            self._turns.addWidget(_turn(title, message, is_target=is_target))

    def _show_facts(self, detail: RecordDetail) -> None:
        _empty(self._facts)
        row = detail.row
        facts = [
            ("Category", row.record.category),
            ("Written by", row.record.generator or "You"),
            ("Prompt id", row.record.prompt_id),
        ]
        if row.origin is Origin.SYNTHETIC:
            facts.insert(0, ("Made in", f"Round {row.round}"))
            facts.append(("Seed prompt", _seed_text(detail)))
        for line, (name, value) in enumerate(facts):
            self._facts.addWidget(
                Label(name, "small", tone="text3"), line, 0, Qt.AlignmentFlag.AlignTop
            )
            # An identifier has no place to wrap at.
            is_long = name == "Prompt id"
            text = ElidedLabel(value, "small") if is_long else Label(value, "small", wrap=True)
            self._facts.addWidget(text, line, 1, Qt.AlignmentFlag.AlignTop)


def _seed_text(detail: RecordDetail) -> str:
    if detail.seed is not None:
        return last_question(detail.seed.record)
    return detail.row.record.seed_prompt or "not known"


def _turn(title: str, message: Message, *, is_target: bool) -> QFrame:
    frame = QFrame()
    frame.setProperty("surface", "inset" if is_target else "raised")
    column = QVBoxLayout(frame)
    column.setContentsMargins(SPACE.m, SPACE.s, SPACE.m, SPACE.s)
    column.setSpacing(SPACE.xs)
    column.addWidget(Label(title, "badge", tone="text2"))
    text = FlowText(title, is_code=is_code(message.content))
    text.set_text(message.content)
    column.addWidget(text)
    return frame


def _empty(layout: QVBoxLayout | QGridLayout) -> None:
    while item := layout.takeAt(0):
        if (widget := item.widget()) is not None:
            widget.hide()
            widget.deleteLater()
