"""The table of synthetic pairs, with its filters and columns."""

from __future__ import annotations

from array import array

from PySide6.QtCore import QItemSelectionModel, QModelIndex, QSignalBlocker, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QStackedLayout, QTableView, QWidget

from llamaduo_gui.core.types import RejectReason
from llamaduo_gui.gui.models.record_model import RecordModel
from llamaduo_gui.gui.models.synthesise_view import CHIPS, REASONS, pair_filter, reject_title
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.widgets.buttons import combo_box
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.filter_bar import FilterBar, FilterState
from llamaduo_gui.gui.widgets.tables import setup_table
from llamaduo_gui.store.rows import RecordFilter

PROMPT, RESPONSE, CATEGORY, SPLIT, ROUND, STATUS = range(6)
_CELL_SIDES = 20
# Keys that decide on the selected pair; the page has them.
_PAGE_KEYS = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_A, Qt.Key.Key_R, Qt.Key.Key_U)


class PairFilters(FilterBar):
    """The filter bar with a list of reject reasons and one of rounds.

    Signals:
        wanted(): a filter changed.
    """

    wanted = Signal()

    def __init__(self) -> None:
        super().__init__("Search every text", CHIPS)
        reasons = [(reject_title(reason), reason.value) for reason in REASONS]
        self.reason = combo_box([("All reasons", ""), *reasons], "Reject reason")
        self.round = combo_box([("All rounds", None)], "Round")
        for box in (self.round, self.reason):
            self.add_widget(box)
            box.currentIndexChanged.connect(self._note_choice)
        self.changed.connect(lambda _: self.wanted.emit())

    def record_filter(self) -> RecordFilter:
        """All filters together."""
        state, name = self.state(), self.reason.currentData()
        reason = RejectReason(name) if name else None
        return pair_filter(state.text, state.chips, reason, self.round.currentData())

    def set_rounds(self, rounds: tuple[int, ...]) -> None:
        """Offer these rounds; the chosen one stays chosen."""
        if [self.round.itemData(place) for place in range(1, self.round.count())] == [*rounds]:
            return
        chosen = self.round.currentData()
        blocker = QSignalBlocker(self.round)
        self.round.clear()
        self.round.addItem("All rounds", None)
        for number in rounds:
            self.round.addItem(f"Round {number}", number)
        self.round.setCurrentIndex(max(0, self.round.findData(chosen)))
        del blocker

    def show_reason(self, reason: RejectReason | None) -> None:
        """Show what was rejected for a reason; None shows what is kept."""
        blocker = QSignalBlocker(self.reason)
        self.reason.setCurrentIndex(self.reason.findData(reason.value if reason else ""))
        del blocker
        self.set_state(FilterState("", frozenset() if reason else frozenset({"kept"})))
        self._note_choice()

    def clear(self) -> None:
        """Take all filters off."""
        blockers = [QSignalBlocker(box) for box in (self.reason, self.round)]
        self.reason.setCurrentIndex(0)
        self.round.setCurrentIndex(0)
        del blockers
        super().clear()

    def _note_choice(self) -> None:
        self._update_clear()
        self.wanted.emit()

    def _update_clear(self) -> None:
        super()._update_clear()
        boxes = [box for name in ("reason", "round") if (box := getattr(self, name, None))]
        if any(box.currentIndex() > 0 for box in boxes):
            self._clear.setVisible(True)


class PairTable(Card):
    """Pairs by id, fetched a page at a time; the pair that is open stays open where it can.

    Signals:
        opened(int): a pair was selected; 0 when there is none.
        clear_wanted(): nothing matches, and the filters are to be taken off.
    """

    opened = Signal(int)
    clear_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.model = RecordModel()
        self.table = _Table(self.model)
        self.table.selectionModel().currentRowChanged.connect(self._open)
        self._nothing = EmptyState(
            "search", "No pair matches", "Take a filter off to see more.", "Clear filters"
        )
        self._nothing.action_clicked.connect(self.clear_wanted)
        holder = QWidget()
        self._stack = QStackedLayout(holder)
        self._stack.addWidget(self.table)
        self._stack.addWidget(self._nothing)
        self.body.addWidget(holder, 1)

    def set_ids(self, ids: array[int], opened: int | None) -> None:
        """Show these pairs; `opened` stays open, else the pair in its row comes up."""
        row = max(0, self.table.currentIndex().row())
        self.model.set_ids(ids)
        self._stack.setCurrentIndex(0 if ids else 1)
        if not ids:
            self.opened.emit(0)
            return
        if not self.table.currentIndex().isValid():
            found = self.model.row_of(opened) if opened is not None else None
            self.go_to(min(row, len(ids) - 1) if found is None else found)

    def selected_ids(self) -> list[int]:
        """The selected pairs, from the top."""
        rows = sorted(index.row() for index in self.table.selectionModel().selectedRows())
        found = (self.model.record_id(row) for row in rows)
        return [record_id for record_id in found if record_id is not None]

    def step(self, by: int) -> None:
        """Open the next (1) or previous (-1) pair."""
        row = self.table.currentIndex().row() + by
        if 0 <= row < self.model.rowCount():
            self.go_to(row)

    def go_to(self, row: int) -> None:
        """Open the pair of a row, and select it alone."""
        index = self.model.index(row, PROMPT)
        flags = QItemSelectionModel.SelectionFlag
        self.table.selectionModel().setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)
        self.table.scrollTo(index)

    def _open(self, current: QModelIndex, _previous: QModelIndex) -> None:
        found = self.model.record_id(current.row()) if current.isValid() else None
        if found is not None:
            self.opened.emit(found)


class _Table(QTableView):
    """The prompt takes what the narrow columns leave."""

    def __init__(self, model: RecordModel) -> None:
        super().__init__()
        self.setModel(model)
        setup_table(self, "Synthetic pairs", stretch_column=None)
        header = self.horizontalHeader()
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setSortIndicatorClearable(True)
        self.setSortingEnabled(True)
        self.setSelectionMode(QTableView.SelectionMode.ExtendedSelection)
        for column in (RESPONSE, SPLIT):
            self.setColumnHidden(column, True)
        self.verticalScrollBar().rangeChanged.connect(self.fit_later)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the prompt the room that is left."""
        super().resizeEvent(event)
        self.fit_later()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Leave the keys that decide to the page."""
        if event.key() in _PAGE_KEYS and not event.modifiers():
            event.ignore()
        else:
            super().keyPressEvent(event)

    def fit_later(self) -> None:
        """Share the width once the layout has settled."""
        QTimer.singleShot(0, self, self._fit)

    def _fit(self) -> None:
        metrics = self.fontMetrics()
        widths = {
            STATUS: metrics.horizontalAdvance("Too close to seed"),
            ROUND: metrics.horizontalAdvance("Round 10"),
            CATEGORY: min(scaled(90), metrics.horizontalAdvance("Category name")),
        }
        room = self.viewport().width()
        for column, text in widths.items():
            width = text + _CELL_SIDES
            is_shown = column == STATUS or room - width >= scaled(160)
            self.setColumnHidden(column, not is_shown)
            if is_shown:
                self.setColumnWidth(column, width)
                room -= width
        self.setColumnWidth(PROMPT, max(scaled(100), room))
