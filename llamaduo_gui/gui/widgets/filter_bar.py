"""Search, chips, the count of what is left, and Clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QObject, QPointF, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QSizePolicy, QWidget

from llamaduo_gui.gui.theme import icons
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, ToggleChip
from llamaduo_gui.gui.widgets.labels import Label

SEARCH_DELAY_MS = 200


@dataclass(frozen=True, slots=True)
class FilterState:
    """What is asked for: words that must occur, and the keys of the chips that are on."""

    text: str = ""
    chips: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is filtered."""
        return not self.text and not self.chips


class SearchField(QLineEdit):
    """A line to search with: a magnifier, a clear button, Escape empties it."""

    def __init__(self, placeholder: str) -> None:
        super().__init__()
        self.setPlaceholderText(placeholder)
        self.setAccessibleName(placeholder)
        self.setClearButtonEnabled(True)
        for action in self.findChildren(QAction):
            icons.set_icon(action, "x", "text3")
        # Room for the magnifier, which is painted: an action there could be clicked in vain.
        self.setTextMargins(scaled(20), 0, 0, 0)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the field and its magnifier."""
        super().paintEvent(event)
        side = scaled(15)
        image = icons.pixmap("search", "text2", side, self.devicePixelRatioF())
        QPainter(self).drawPixmap(QPointF(8, (self.height() - side) / 2), image)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape empties the field first; in an empty field it goes on to the page."""
        if event.key() == Qt.Key.Key_Escape and self.text():
            self.clear()
        else:
            super().keyPressEvent(event)


class FilterBar(QWidget):
    """Filters for a list; `changed` comes when typing pauses and at once for chips."""

    changed = Signal(object)

    def __init__(self, placeholder: str, chips: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__()
        self._search = SearchField(placeholder)
        self._search.setMinimumWidth(140)
        self._search.setMaximumWidth(scaled(340))
        self._search.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._chips = {key: ToggleChip(text) for key, text in chips}
        self._count = Label("", "small", tone="text2")
        self._clear = Button("Clear", "quiet", name="Clear all filters")
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(SPACE.s)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._row.addWidget(self._search, 10)
        for chip in self._chips.values():
            self._row.addWidget(chip)
            chip.toggled.connect(self._emit_now)
        self._row.addStretch(1)
        self._row.addWidget(self._count)
        self._row.addWidget(self._clear)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SEARCH_DELAY_MS)
        self._timer.timeout.connect(self._emit_now)
        self._search.textChanged.connect(self._on_text)
        self._search.returnPressed.connect(self._emit_now)
        self._clear.clicked.connect(self.clear)
        self._last = FilterState()
        self._update_clear()

    def add_widget(self, widget: QWidget) -> None:
        """Put a widget, such as a combo box for the order, after the chips."""
        self._row.insertWidget(1 + len(self._chips), widget)

    def set_count(self, shown: int, total: int) -> None:
        """Show how many are left, `12 of 400`."""
        self._count.setText(f"{shown:,} of {total:,}")

    def state(self) -> FilterState:
        """The filters as they stand."""
        chips = frozenset(key for key, chip in self._chips.items() if chip.isChecked())
        return FilterState(self._search.text().strip(), chips)

    def set_state(self, state: FilterState) -> None:
        """Set the filters without emitting `changed`, as when a project is opened again."""
        for widget in (self._search, *self._chips.values()):
            widget.blockSignals(True)
        self._search.setText(state.text)
        for key, chip in self._chips.items():
            chip.setChecked(key in state.chips)
        for widget in (self._search, *self._chips.values()):
            widget.blockSignals(False)
        self._last = self.state()
        self._update_clear()

    def clear(self) -> None:
        """Take all filters off."""
        self.set_state(FilterState())
        self.changed.emit(self._last)

    def focus_search(self) -> None:
        """Put the cursor into the search field (Ctrl+F)."""
        self._search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self._search.selectAll()

    def search_field(self) -> QLineEdit:
        """The search field itself."""
        return self._search

    def chip(self, key: str) -> QObject:
        """The chip of that key."""
        return self._chips[key]

    def _on_text(self) -> None:
        self._update_clear()
        self._timer.start()

    def _emit_now(self) -> None:
        self._timer.stop()
        self._update_clear()
        state = self.state()
        if state != self._last:
            self._last = state
            self.changed.emit(state)

    def _update_clear(self) -> None:
        self._clear.setVisible(not self.state().is_empty)
