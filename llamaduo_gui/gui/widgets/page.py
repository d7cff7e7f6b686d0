"""The frame of a page: a header row and a scrolling body."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QAbstractSlider,
    QHBoxLayout,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.gui.theme.fonts import control_height
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.pill import Pill, PillKind

_TOP = 14
_SCROLL_KEYS = {
    Qt.Key.Key_Up: QAbstractSlider.SliderAction.SliderSingleStepSub,
    Qt.Key.Key_Down: QAbstractSlider.SliderAction.SliderSingleStepAdd,
    Qt.Key.Key_PageUp: QAbstractSlider.SliderAction.SliderPageStepSub,
    Qt.Key.Key_PageDown: QAbstractSlider.SliderAction.SliderPageStepAdd,
    Qt.Key.Key_Home: QAbstractSlider.SliderAction.SliderToMinimum,
    Qt.Key.Key_End: QAbstractSlider.SliderAction.SliderToMaximum,
}


class PageHeader(QWidget):
    """Title, state pill and filters on the left, actions on the right."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = Label(title, "title")
        self._pill = Pill("")
        self._pill.hide()
        self._filters = QHBoxLayout()
        self._filters.setSpacing(10)
        self._actions = QHBoxLayout()
        self._actions.setSpacing(10)
        row = QHBoxLayout(self)
        row.setContentsMargins(SPACE.xl, _TOP, SPACE.xl, 0)
        row.setSpacing(SPACE.m)
        self.setMinimumHeight(_TOP + control_height())
        row.addWidget(self._title)
        row.addWidget(self._pill)
        row.addLayout(self._filters)
        row.addStretch(1)
        row.addLayout(self._actions)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def changeEvent(self, event: QEvent) -> None:
        """Keep the row as high as a control of the font, so that all pages start level."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.setMinimumHeight(_TOP + control_height())

    def set_title(self, title: str) -> None:
        """Change the title."""
        self._title.setText(title)

    def set_pill(self, kind: PillKind, text: str, icon: str = "") -> None:
        """Show the page's state beside the title."""
        self._pill.set(kind, text, icon)
        self._pill.show()

    def clear_pill(self) -> None:
        """Hide the state."""
        self._pill.hide()

    def pill_text(self) -> str:
        """The state shown, or an empty text."""
        return self._pill.text() if not self._pill.isHidden() else ""

    def add_filter(self, widget: QWidget) -> None:
        """Put a widget right of the title."""
        self._filters.addWidget(widget)

    def add_action(self, widget: QWidget) -> None:
        """Put a widget at the right end."""
        self._actions.addWidget(widget)


class Page(QWidget):
    """A page with a `header` and a `body` layout.

    The body scrolls, because wrapped text that is squeezed would be cut; `scrolls=False` is
    for pages whose parts scroll by themselves. Give a page the focus when it is shown, so that
    no control wears a focus ring before a key is pressed.
    """

    def __init__(self, title: str, *, scrolls: bool = True) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setAccessibleName(title)
        self.header = PageHeader(title)
        self._content = QWidget()
        self.body = QVBoxLayout(self._content)
        self.body.setSpacing(SPACE.m)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.m)
        column.addWidget(self.header)
        self._scroll: QScrollArea | None = None
        if scrolls:
            self._scroll = scroll_area(self._content, f"{title} page")
            self._scroll.verticalScrollBar().rangeChanged.connect(self._set_margins)
            column.addWidget(self._scroll, 1)
        else:
            column.addWidget(self._content, 1)
        self._set_margins()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Scroll by key while the page itself, and no control in it, has the focus."""
        action = _SCROLL_KEYS.get(Qt.Key(event.key()))
        if self._scroll is None or action is None:
            super().keyPressEvent(event)
        else:
            self._scroll.verticalScrollBar().triggerAction(action)

    def _set_margins(self, *_range: int) -> None:
        """Let the scroll bar use the margin, so that cards keep their width and right edge."""
        right = SPACE.xl
        if self._scroll is not None and self._scroll.verticalScrollBar().maximum() > 0:
            right -= self._scroll.verticalScrollBar().sizeHint().width()
        self.body.setContentsMargins(SPACE.xl, 0, right, _TOP)


def scroll_area(content: QWidget, name: str) -> QScrollArea:
    """A transparent scroll area that fits `content` to its width."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setAccessibleName(name)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setWidget(content)
    # setWidget turns both backgrounds on; the surface behind is meant to show through.
    content.setAutoFillBackground(False)
    area.viewport().setAutoFillBackground(False)
    return area
