"""What every page and component is checked for: names, and text that is not cut off."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QAbstractSpinBox,
    QLabel,
    QPushButton,
    QScrollBar,
    QWidget,
)

from llamaduo_gui.gui.widgets.labels import ElidedLabel, IconLabel, MarkerLabel, ValueLabel
from llamaduo_gui.gui.widgets.pill import Pill

# These draw themselves and cut their text on purpose, or have none.
_SELF_FITTING = (ElidedLabel, IconLabel, MarkerLabel, ValueLabel, Pill)


def everything_in(root: QWidget) -> list[QWidget]:
    """`root` and all its widgets."""
    return [root, *root.findChildren(QWidget)]


def unnamed_focusables(root: QWidget) -> list[str]:
    """Widgets in `root` that the keyboard or a click can focus and that have no name."""
    return [
        f"{type(widget).__name__} {widget.objectName()}".strip()
        for widget in everything_in(root)
        if widget.focusPolicy() != Qt.FocusPolicy.NoFocus
        and widget.isVisibleTo(root)
        and not _is_part_of_control(widget)
        and not _name(widget)
    ]


def _name(widget: QWidget) -> str:
    # Qt reads a button's and a label's text out as its name.
    own_text = widget.text() if isinstance(widget, (QAbstractButton, QLabel)) else ""
    return widget.accessibleName() or own_text


def _is_part_of_control(widget: QWidget) -> bool:
    """Whether Qt made the widget as an inner part of another, which carries the name."""
    parent = widget.parentWidget()
    return (
        isinstance(widget, QScrollBar)
        or isinstance(parent, QAbstractSpinBox)
        or (isinstance(parent, QAbstractScrollArea) and widget is parent.viewport())
        or widget.objectName().startswith("qt_")
        or type(widget).__name__ in ("QHeaderView", "QTableCornerButton")
    )


def clipped_texts(root: QWidget) -> list[str]:
    """Visible labels and buttons in `root` whose text has less room than it needs."""
    clipped = []
    for widget in everything_in(root):
        if not widget.isVisibleTo(root) or isinstance(widget, _SELF_FITTING):
            continue
        if isinstance(widget, QLabel) and widget.text() and _is_label_cut(widget):
            clipped.append(f"label {widget.text()!r} in {widget.width()} x {widget.height()}")
        if isinstance(widget, QPushButton) and widget.width() < widget.sizeHint().width():
            clipped.append(f"button {widget.text()!r} in {widget.width()}")
    return clipped


def _is_label_cut(label: QLabel) -> bool:
    if label.wordWrap():
        return label.heightForWidth(label.width()) > label.height() + 1
    return label.sizeHint().width() > label.width() + 1


def picture(widget: QWidget) -> QImage:
    """The widget as drawn."""
    return widget.grab().toImage()


def share_of_color(image: QImage, color: str, step: int = 3) -> float:
    """Share (0..1) of sampled pixels that have exactly this colour."""
    places = [(x, y) for x in range(0, image.width(), step) for y in range(0, image.height(), step)]
    hits = sum(image.pixelColor(x, y).name().upper() == color.upper() for x, y in places)
    return hits / len(places)
