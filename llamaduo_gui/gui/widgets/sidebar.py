"""The sidebar: the open project, the pages, and Settings at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QObject, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QFrame, QSizePolicy, QVBoxLayout

from llamaduo_gui.gui.theme import icons
from llamaduo_gui.gui.theme.fonts import scaled, ui_font
from llamaduo_gui.gui.theme.theme import color, theme_notifier
from llamaduo_gui.gui.theme.tokens import RADIUS_CONTROL, REGULAR, SEMIBOLD
from llamaduo_gui.gui.widgets.focus import paint_focus_ring
from llamaduo_gui.gui.widgets.labels import Label, Separator

WIDE, COMPACT, BREAKPOINT = 196, 60, 1150
_MARGIN, _TEXT_LEFT = 10, 38


@dataclass(frozen=True, slots=True)
class NavItem:
    """One page in the sidebar."""

    key: str
    text: str
    icon: str


class _SidebarButton(QAbstractButton):
    """A row with an icon, and text while the sidebar is wide."""

    def __init__(self, text: str, icon: str) -> None:
        super().__init__()
        self.setText(text)
        self.setAccessibleName(text)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._icon = icon
        self._hint = ""
        self.is_compact = False

    def set_hint(self, hint: str) -> None:
        self._hint = hint
        self.set_compact(self.is_compact)

    def set_compact(self, is_compact: bool) -> None:
        self.is_compact = is_compact
        tip = self.text() if is_compact else ""
        self.setToolTip("\n".join(part for part in (tip, self._hint) if part))
        self.update()

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.sizeHint().height())

    def sizeHint(self) -> QSize:
        return QSize(WIDE, QFontMetrics(ui_font()).height() + 16)

    def _paint_icon(self, painter: QPainter, token: str) -> None:
        side = scaled(icons.DEFAULT_SIZE)
        left = (self.width() - side) / 2 if self.is_compact else 11
        image = icons.pixmap(self._icon, token, side, self.devicePixelRatioF())
        painter.drawPixmap(QPointF(left, (self.height() - side) / 2), image)

    def _fill(self, painter: QPainter, token: str) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(color(token))
        painter.drawRoundedRect(QRectF(self.rect()), RADIUS_CONTROL, RADIUS_CONTROL)


class _NavButton(_SidebarButton):
    def __init__(self, item: NavItem) -> None:
        super().__init__(item.text, item.icon)
        self.setCheckable(True)

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self.isChecked():
            self._fill(painter, "accent_soft")
        elif self.underMouse() and self.isEnabled():
            self._fill(painter, "raised")
        if not self.isEnabled():
            painter.setOpacity(0.5)
        self._paint_icon(painter, "accent" if self.isChecked() else "text2")
        if not self.is_compact:
            painter.setPen(color("text" if self.isChecked() else "text2"))
            painter.setFont(ui_font("body", SEMIBOLD if self.isChecked() else REGULAR))
            room = self.rect().adjusted(_TEXT_LEFT - 1, 0, -4, 0)
            painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, self.text())
        painter.setOpacity(1)
        paint_focus_ring(painter, self)


class _ProjectButton(_SidebarButton):
    def __init__(self) -> None:
        super().__init__("No project", "folder")
        self.detail = ""
        self.setAccessibleName("Project: none")

    def sizeHint(self) -> QSize:
        lines = QFontMetrics(ui_font("body", SEMIBOLD)).height()
        lines += QFontMetrics(ui_font("caption")).height()
        return QSize(WIDE, lines + 24)

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self.underMouse():
            self._fill(painter, "raised")
        if self.is_compact:
            self._paint_icon(painter, "text2")
        else:
            self._paint_texts(painter)
        paint_focus_ring(painter, self)

    def _paint_texts(self, painter: QPainter) -> None:
        name_font, detail_font = ui_font("body", SEMIBOLD), ui_font("caption")
        names, details = QFontMetrics(name_font), QFontMetrics(detail_font)
        side = scaled(icons.DEFAULT_SIZE)
        top = (self.height() - names.height() - details.height() - 8) / 2
        image = icons.pixmap(self._icon, "text2", side, self.devicePixelRatioF())
        painter.drawPixmap(QPointF(11, top + (names.height() - side) / 2), image)
        painter.setPen(color("text2"))
        painter.setFont(name_font)
        left = 11 + side + 5
        room = self.width() - left - 4
        name = names.elidedText(self.text(), Qt.TextElideMode.ElideMiddle, room)
        painter.drawText(QPointF(left, top + names.ascent()), name)
        painter.setFont(detail_font)
        room = self.width() - 15
        detail = details.elidedText(self.detail, Qt.TextElideMode.ElideRight, room)
        painter.drawText(QPointF(11, top + names.height() + 8 + details.ascent()), detail)


class Sidebar(QFrame):
    """Navigation; it narrows itself to icons when its window is under 1150 px wide."""

    page_selected = Signal(str)
    project_clicked = Signal()

    def __init__(self, items: Sequence[NavItem], bottom_items: Sequence[NavItem] = ()) -> None:
        super().__init__()
        self.setProperty("surface", "sidebar")
        self.setAccessibleName("Pages")
        self._group = QButtonGroup(self)
        self._keys: list[str] = []
        self._project = _ProjectButton()
        self._project.clicked.connect(self.project_clicked)
        self._badge = Label("", "badge", tone="warn", wrap=True)
        self._badge.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._badge.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(_MARGIN, 10, _MARGIN + 1, 10)
        column.setSpacing(2)
        column.addWidget(self._project)
        column.addSpacing(1)
        column.addWidget(Separator())
        column.addSpacing(8)
        for item in items:
            self._add(column, item)
        column.addStretch(1)
        column.addWidget(self._badge)
        column.addSpacing(6)
        for item in bottom_items:
            self._add(column, item)
        self._group.idToggled.connect(self._on_toggled)
        self._is_compact = False
        self._watched: QObject | None = None
        self.set_compact(False)
        theme_notifier().changed.connect(self._update_width)

    def _add(self, column: QVBoxLayout, item: NavItem) -> None:
        button = _NavButton(item)
        self._group.addButton(button, len(self._keys))
        self._keys.append(item.key)
        column.addWidget(button)

    def set_project(self, name: str, detail: str = "") -> None:
        """Show the open project and a line about it, such as `412 pairs · seed 42`."""
        self._project.setText(name or "No project")
        self._project.detail = detail
        self._project.setAccessibleName(f"Project: {name or 'none'}, {detail}".rstrip(", "))
        self._project.set_hint(detail if self._is_compact else "")
        self._project.update()

    def set_badge(self, text: str) -> None:
        """Show a short notice above Settings; an empty text hides it."""
        self._badge.setText(text)
        self._badge.setVisible(bool(text) and not self._is_compact)

    def set_current(self, key: str) -> None:
        """Mark a page without emitting `page_selected`; ValueError for an unknown key."""
        blocked = self._group.blockSignals(True)
        self.button(key).setChecked(True)
        self._group.blockSignals(blocked)

    def current(self) -> str:
        """Key of the marked page, or an empty text."""
        index = self._group.checkedId()
        return self._keys[index] if index >= 0 else ""

    def button(self, key: str) -> QAbstractButton:
        """The row of a page."""
        return self._group.button(self._keys.index(key))

    def set_item_state(self, key: str, *, enabled: bool = True, hint: str = "") -> None:
        """Enable or disable a page; `hint` says why, as tooltip."""
        button = self.button(key)
        button.setEnabled(enabled)
        if isinstance(button, _NavButton):
            button.set_hint(hint)

    def set_compact(self, is_compact: bool) -> None:
        """Show icons only (60 px) or icons with words (196 px)."""
        self._is_compact = is_compact
        for button in (self._project, *self._group.buttons()):
            if isinstance(button, _SidebarButton):
                button.set_compact(is_compact)
        self._badge.setVisible(bool(self._badge.text()) and not is_compact)
        self._update_width()

    def _update_width(self) -> None:
        metrics = QFontMetrics(ui_font("body", SEMIBOLD))
        words = max(metrics.horizontalAdvance(button.text()) for button in self._group.buttons())
        needed = words + _TEXT_LEFT + 2 * _MARGIN + 12
        self.setFixedWidth(COMPACT if self._is_compact else max(WIDE, needed))

    def _on_toggled(self, index: int, is_on: bool) -> None:
        if is_on:
            self.page_selected.emit(self._keys[index])

    def showEvent(self, event: QShowEvent) -> None:
        """Watch the window's width from now on."""
        super().showEvent(event)
        window = self.window()
        if window is not self._watched and window is not self:
            window.installEventFilter(self)
            self._watched = window
            self.set_compact(window.width() < BREAKPOINT)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the window's width."""
        if watched is self._watched and isinstance(event, QResizeEvent):
            is_narrow = event.size().width() < BREAKPOINT
            if is_narrow != self._is_compact:
                self.set_compact(is_narrow)
        return False
