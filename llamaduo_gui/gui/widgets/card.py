"""Cards, tiles and a layout that wraps: the surfaces a page is made of."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QPoint, QRect, QSize, Qt
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLayout,
    QLayoutItem,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.gui.theme.fonts import control_height
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label, ValueLabel

_PADDING = 14
_HEAD_TOP = 10


class Card(QFrame):
    """A surface with an optional title row; put content into `body`.

    `flush` leaves out the padding round the body, for content that has its own edges.
    """

    def __init__(self, title: str = "", subtitle: str = "", *, flush: bool = False) -> None:
        super().__init__()
        self.setProperty("surface", "card")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        self._title = Label("", "heading")
        self._subtitle = ElidedLabel("", "small", tone="text2")
        self._head = self._build_head()
        outer.addWidget(self._head)
        self.body = QVBoxLayout()
        self.body.setSpacing(SPACE.s)
        outer.addLayout(self.body, 1)
        self._flush = flush
        self.set_title(title)
        self.set_subtitle(subtitle)

    def _build_head(self) -> QWidget:
        head = QWidget()
        row = QHBoxLayout(head)
        row.setContentsMargins(_PADDING, _HEAD_TOP, _PADDING, 0)
        row.setSpacing(SPACE.s)
        head.setMinimumHeight(_HEAD_TOP + control_height())
        head.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._left = QHBoxLayout()
        self._left.setSpacing(SPACE.s)
        self._left.addWidget(self._title)
        self._left.addWidget(self._subtitle)
        row.addLayout(self._left)
        row.addStretch(1)
        self._actions = QHBoxLayout()
        self._actions.setSpacing(SPACE.s)
        row.addLayout(self._actions)
        return head

    def changeEvent(self, event: QEvent) -> None:
        """Keep the title row as high as a control of the font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "_head"):
            self._head.setMinimumHeight(_HEAD_TOP + control_height())

    def set_title(self, title: str) -> None:
        """Show `title`; without title and actions the title row takes no room."""
        self._title.setText(title)
        if title:
            self.setAccessibleName(title)
        self._update_head()

    def set_subtitle(self, subtitle: str) -> None:
        """Show a line of explanation right of the title."""
        self._subtitle.setText(subtitle)
        self._subtitle.setVisible(bool(subtitle))

    def add_title_widget(self, widget: QWidget) -> None:
        """Put a widget right of the title and subtitle."""
        self._left.addWidget(widget)
        self._update_head()

    def add_action(self, widget: QWidget) -> None:
        """Put a widget at the right end of the title row."""
        self._actions.addWidget(widget)
        self._update_head()

    def _update_head(self) -> None:
        has_head = bool(self._title.text()) or self._actions.count() > 0 or self._left.count() > 2
        self._head.setVisible(has_head)
        if self._flush:
            self.body.setContentsMargins(1, SPACE.s if has_head else 1, 1, 1)
        else:
            top = SPACE.xs if has_head else SPACE.m
            self.body.setContentsMargins(_PADDING, top, _PADDING, SPACE.m)


class Tile(QFrame):
    """One number: what it is, its value with unit and interval, and a line about it."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.setProperty("surface", "card")
        self._label = Label(label, "small", tone="text2", wrap=True)
        self._value = ValueLabel()
        self._note = Label("", "small", tone="text2", wrap=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(_PADDING, 10, _PADDING, 10)
        column.setSpacing(1)
        for part in (self._label, self._value, self._note):
            column.addWidget(part)
        column.addStretch(1)
        self.set_value("\u2014")

    def set_value(self, value: str, suffix: str = "", note: str = "") -> None:
        """Show a value, its interval or total beside it, and a note below."""
        self._value.set_value(value, suffix)
        self._note.setText(note)
        parts = (self._label.text(), self._value.text(), note)
        self.setAccessibleName(", ".join(part for part in parts if part))

    def value_text(self) -> str:
        """Value and suffix as shown."""
        return self._value.text()


class TileRow(QWidget):
    """Tiles side by side, all of one width."""

    def __init__(self, tiles: Sequence[Tile]) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE.m)
        for tile in tiles:
            policy = tile.sizePolicy()
            policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)
            tile.setSizePolicy(policy)
            row.addWidget(tile, 1)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)


class FlowLayout(QLayout):
    """Lays widgets in lines and starts a new line when one is full."""

    def __init__(self, spacing: int = SPACE.s) -> None:
        super().__init__()
        self._items: list[QLayoutItem] = []
        self.setContentsMargins(0, 0, 0, 0)
        self.setSpacing(spacing)

    def addItem(self, item: QLayoutItem) -> None:
        """Append an item (Qt calls this)."""
        self._items.append(item)

    def count(self) -> int:
        """Number of items."""
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:
        """Item at `index`, or None."""
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:
        """Remove and return the item at `index`."""
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def expandingDirections(self) -> Qt.Orientation:
        """It asks for no spare room."""
        return Qt.Orientation(0)

    def hasHeightForWidth(self) -> bool:
        """The number of lines depends on the width."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Height in px at `width`."""
        return self._arrange(QRect(0, 0, width, 0), move=False)

    def setGeometry(self, rect: QRect) -> None:
        """Place the items inside `rect`."""
        super().setGeometry(rect)
        self._arrange(rect, move=True)

    def sizeHint(self) -> QSize:
        """Everything on one line."""
        widths = [item.sizeHint().width() for item in self._items]
        heights = [item.sizeHint().height() for item in self._items]
        gaps = self.spacing() * max(0, len(widths) - 1)
        return QSize(sum(widths) + gaps, max(heights, default=0))

    def minimumSize(self) -> QSize:
        """The largest single item."""
        size = QSize()
        for item in self._items:
            size = size.expandedTo(item.minimumSize())
        return size

    def _arrange(self, rect: QRect, *, move: bool) -> int:
        x, y, line = rect.x(), rect.y(), 0
        for item in self._items:
            if item.isEmpty():
                continue
            size = item.sizeHint()
            if x > rect.x() and x + size.width() > rect.right() + 1:
                x, y, line = rect.x(), y + line + self.spacing(), 0
            if move:
                item.setGeometry(QRect(QPoint(x, y), size))
            x += size.width() + self.spacing()
            line = max(line, size.height())
        return y + line - rect.y()
