"""Buttons, chips, check boxes, combo and spin boxes set up the way every page wants them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QToolButton,
)

from llamaduo_gui.gui.theme.icons import set_icon

ButtonKind = Literal["primary", "secondary", "danger", "quiet"]
_ICON_TOKENS = {
    "primary": "on_fill",
    "secondary": "text",
    "danger": "bad",
    "quiet": "text2",
    "chip": "text2",
}


class Button(QPushButton):
    """A push button; `name` is the accessible name where the text alone does not tell.

    A click does not take the focus away from a field, so typing can go on; Tab reaches it.
    """

    def __init__(
        self, text: str, kind: ButtonKind = "secondary", icon: str = "", name: str = ""
    ) -> None:
        super().__init__(text)
        self.setProperty("kind", kind)
        self.setAutoDefault(False)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        if name:
            self.setAccessibleName(name)
        if icon:
            self.set_icon(icon)

    def set_icon(self, icon: str) -> None:
        """Show the icon of that name before the text; "" removes it."""
        set_icon(self, icon, _ICON_TOKENS[self.property("kind")])


class IconButton(QToolButton):
    """A quiet square button with an icon only; `name` is read out and shown as tooltip."""

    def __init__(self, icon: str, name: str, *, token: str = "text2") -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setToolTip(name)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._token = token
        set_icon(self, icon, token)

    def set_icon(self, icon: str, name: str = "") -> None:
        """Show another icon, and another name if given."""
        set_icon(self, icon, self._token)
        if name:
            self.setAccessibleName(name)
            self.setToolTip(name)


class ToggleChip(QPushButton):
    """A filter that is on or off."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.setCheckable(True)
        self.setAutoDefault(False)
        self.setProperty("kind", "chip")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)


def check_box(text: str, *, checked: bool = False) -> QCheckBox:
    """A check box with its text."""
    box = QCheckBox(text)
    box.setChecked(checked)
    return box


def combo_box(items: Iterable[tuple[str, Any]], name: str) -> QComboBox:
    """A combo box of (text, data) items, named for screen readers.

    It keeps the width of its widest item and ignores the wheel while it has no focus, so that
    scrolling a page does not change a setting.
    """
    box = _Combo()
    box.setAccessibleName(name)
    box.view().setAccessibleName(name)
    for text, data in items:
        box.addItem(text, data)
    return box


def spin_box(name: str, minimum: int, maximum: int, value: int, *, suffix: str = "") -> QSpinBox:
    """A field for a whole number; `suffix` is its unit, as in " pairs"."""
    box = _SpinBox()
    box.setAccessibleName(name)
    box.setRange(minimum, maximum)
    box.setValue(value)
    box.setSuffix(suffix)
    _indent(box)
    return box


def decimal_box(
    name: str, minimum: float, maximum: float, value: float, *, decimals: int = 2, suffix: str = ""
) -> QDoubleSpinBox:
    """A field for a number with decimals; a step changes its last decimal but one."""
    box = _DecimalBox()
    box.setAccessibleName(name)
    box.setDecimals(decimals)
    box.setSingleStep(10.0 ** (1 - decimals))
    box.setRange(minimum, maximum)
    box.setValue(value)
    box.setSuffix(suffix)
    _indent(box)
    return box


def _indent(box: QAbstractSpinBox) -> None:
    """Qt's style sheets leave the left padding of a spin box out; its line edit has margins."""
    box.lineEdit().setTextMargins(8, 0, 0, 0)
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)


class _Combo(QComboBox):
    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class _SpinBox(QSpinBox):
    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class _DecimalBox(QDoubleSpinBox):
    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()
