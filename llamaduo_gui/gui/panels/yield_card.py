"""What a round's synthesis brings, while it does: kept, rejected by reason, and the cost."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout

from llamaduo_gui.core.types import RejectReason
from llamaduo_gui.gui.models.synthesise_view import (
    REASONS,
    SynthesiseView,
    YieldCounts,
    reject_title,
)
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.progress import Bar
from llamaduo_gui.gui.widgets.wording import format_count, format_money, format_percent

_ROWS = (None, *REASONS)


class YieldCard(Card):
    """A bar for the kept pairs and one for each reason; a reason's name filters the table.

    Signals:
        reason_chosen(RejectReason | None): the name of a bar was pressed; None is for kept.
    """

    reason_chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__("Yield")
        self._line = Label("", "small", tone="text2", wrap=True)
        self._line.setAccessibleName("Yield in words")
        self._names: dict[RejectReason | None, Button] = {}
        self._bars: dict[RejectReason | None, Bar] = {}
        self._numbers: dict[RejectReason | None, Label] = {}
        grid = QGridLayout()
        grid.setHorizontalSpacing(SPACE.s)
        grid.setVerticalSpacing(0)
        for place, reason in enumerate(_ROWS):
            self._add_row(grid, place, reason)
        for column in (1, 4):
            grid.setColumnStretch(column, 1)
        self.body.addLayout(grid)
        self.body.addWidget(self._line)
        self.body.addStretch(1)

    def _add_row(self, grid: QGridLayout, place: int, reason: RejectReason | None) -> None:
        title = reject_title(reason) if reason else "Kept"
        name = Button(title, "quiet", name=f"Show pairs: {title.lower()}")
        name.clicked.connect(lambda: self.reason_chosen.emit(reason))
        bar, number = Bar(f"{title}, share of the pairs"), Label("0", "small")
        line, block = place % 4, 3 * (place // 4)
        grid.addWidget(name, line, block)
        grid.addWidget(bar, line, block + 1)
        grid.addWidget(number, line, block + 2)
        self._names[reason], self._bars[reason], self._numbers[reason] = name, bar, number

    def button(self, reason: RejectReason | None) -> Button:
        """The name of a bar; None is the one of the kept pairs."""
        return self._names[reason]

    def number(self, reason: RejectReason | None) -> str:
        """What stands beside a bar."""
        return self._numbers[reason].text()

    def line(self) -> str:
        """The sentence below the bars."""
        return self._line.text()

    def show_view(self, view: SynthesiseView, asked: int) -> None:
        """Show a round's counts; `asked` is how many pairs were asked for so far."""
        counts = view.counts
        self.set_subtitle(f"round {view.round}")
        for reason in _ROWS:
            number = counts.kept if reason is None else counts.rejects.get(reason, 0)
            self._bars[reason].set_progress(number, max(1, counts.total))
            self._numbers[reason].setText(format_count(number))
        self._line.setText(" ".join(filter(None, (_yield_text(counts, asked), _cost_text(view)))))


def _yield_text(counts: YieldCounts, asked: int) -> str:
    if not counts.total:
        return "No pair has come yet."
    share = format_percent(100 * counts.kept / counts.total, 0)
    came = f"{format_count(counts.total)} came"
    start = f"{format_count(asked)} pairs asked for, {came}" if asked else came
    hand = f", {format_count(counts.by_hand)} rejected by hand" if counts.by_hand else ""
    return f"{start}, {share} kept{hand}."


def _cost_text(view: SynthesiseView) -> str:
    usage = view.usage
    if not usage.requests:
        return ""
    requests = f"{format_count(usage.requests)} requests"
    if usage.cost_usd > 0:
        unpriced = f", {format_count(usage.unpriced)} without a price" if usage.unpriced else ""
        return f"{requests}, {format_money(usage.cost_usd)} so far{unpriced}."
    return f"{requests}, {'price not known' if usage.unpriced else 'no cost'}."
