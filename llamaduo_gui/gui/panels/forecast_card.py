"""The card that says what is left of the loop will cost, and sets the budget."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QScrollArea, QWidget

from llamaduo_gui.gui.models.forecast_view import LINES, ForecastView
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, decimal_box
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import IconLabel, Label

_MOST_USD = 1_000_000.0
_NUMBERS = (1, 2, 3)


class ForecastCard(Card):
    """Calls, dollars and time of what is to come as ranges, the sum, prices and the budget.

    Signals:
        budget_set(object): dollars, or None for no budget.
        pilot_requested(): the user wants real calls to judge by.
    """

    budget_set = Signal(object)
    pilot_requested = Signal()

    def __init__(self) -> None:
        super().__init__("What it will cost")
        self._table = QGridLayout()
        self._table.setHorizontalSpacing(SPACE.xl)
        self._table.setVerticalSpacing(SPACE.s)
        self._table.setColumnStretch(len(LINES), 1)
        self.body.addLayout(self._table)
        self._total = Label("", wrap=True, selectable=True)
        self._notes = Label("", "small", tone="text2", wrap=True, selectable=True)
        for label, name in ((self._total, "Sum"), (self._notes, "Prices and notes")):
            label.setAccessibleName(name)
            label.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.body.addWidget(self._total)
        self.body.addWidget(self._warning_row())
        self.body.addWidget(self._notes)
        self.body.addLayout(self._budget_row())
        self.pilot_button = Button("Try about 20 calls...", icon="play")
        self.pilot_button.clicked.connect(self.pilot_requested)
        self.add_action(self.pilot_button)
        self.show_forecast(ForecastView())

    def _warning_row(self) -> QWidget:
        self._warning = Label("", wrap=True)
        self._warning_line = QWidget()
        row = QHBoxLayout(self._warning_line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE.s)
        row.addWidget(IconLabel("warning", "warn", 14), 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self._warning, 1)
        return self._warning_line

    def _budget_row(self) -> QHBoxLayout:
        self.budget_box = decimal_box("Budget in dollars", 0.0, _MOST_USD, 0.0)
        self.budget_box.setPrefix("$")
        self.budget_box.setSingleStep(5.0)
        self.budget_box.setSpecialValueText("no limit")
        self.set_button = Button("Set budget")
        self.budget_box.valueChanged.connect(self._update_button)
        self.budget_box.lineEdit().returnPressed.connect(self._set_budget)
        self.set_button.clicked.connect(self._set_budget)
        self._spent = Label("", "small", tone="text2", wrap=True)
        row = QHBoxLayout()
        row.setSpacing(SPACE.s)
        row.addWidget(Label("Budget", tone="text2"))
        row.addWidget(self.budget_box)
        row.addWidget(self.set_button)
        row.addWidget(self._spent, 1)
        return row

    def show_forecast(self, view: ForecastView) -> None:
        """Show a forecast; a budget that is being typed stays."""
        is_typing = self.set_button.isEnabled() and self.budget_box.hasFocus()
        self._stored_usd = view.budget_usd or 0.0
        if not is_typing:
            self.budget_box.setValue(self._stored_usd)
        self._fill(view)
        self.set_subtitle(view.basis)
        self._total.setText(view.total)
        self._total.setVisible(bool(view.total))
        self._warning.setText(view.warning)
        self._warning_line.setVisible(bool(view.warning))
        self._notes.setText("\n".join(view.notes))
        self._notes.setVisible(bool(view.notes))
        self._spent.setText(view.spent)
        self.pilot_button.setVisible(view.can_pilot)
        self._update_button()

    def focus_budget(self) -> None:
        """Put the cursor into the budget field, scrolled into view."""
        area = self.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        if isinstance(area, QScrollArea):
            area.ensureWidgetVisible(self.budget_box)
        self.budget_box.setFocus(Qt.FocusReason.OtherFocusReason)
        self.budget_box.selectAll()

    def text(self) -> str:
        """Everything the table and the sentences say, for tests."""
        widgets = [self._table.itemAt(place) for place in range(self._table.count())]
        found = [item.widget() for item in widgets if item is not None]
        cells = [widget.text() for widget in found if isinstance(widget, Label)]
        labels = (self._total, self._warning, self._notes, self._spent)
        return " | ".join([*cells, *(label.text() for label in labels if label.text())])

    def _fill(self, view: ForecastView) -> None:
        while (item := self._table.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        if not view.lines:
            return
        for column, title in enumerate(LINES):
            self._table.addWidget(Label(title, "small", tone="text2"), 0, column, _side(column))
        for row, line in enumerate(view.lines, start=1):
            texts = (line.title, line.calls, line.cost, line.time, line.basis)
            for column, text in enumerate(texts):
                label = Label(text, tone="text2" if column == len(LINES) - 1 else "text")
                label.setAccessibleName(f"{LINES[column]}: {text}")
                label.setToolTip(line.details)
                self._table.addWidget(label, row, column, _side(column))

    def _update_button(self) -> None:
        self.set_button.setEnabled(self.budget_box.value() != self._stored_usd)

    def _set_budget(self) -> None:
        if self.set_button.isEnabled():
            self.budget_set.emit(self.budget_box.value() or None)


def _side(column: int) -> Qt.AlignmentFlag:
    is_number = column in _NUMBERS
    return Qt.AlignmentFlag.AlignRight if is_number else Qt.AlignmentFlag.AlignLeft
