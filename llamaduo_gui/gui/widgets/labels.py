"""Text labels with a role and a tone, labels that elide, icons and model markers."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import QPointF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QFrame, QLabel, QSizePolicy, QWidget

from llamaduo_gui.gui.theme import icons
from llamaduo_gui.gui.theme.fonts import scaled, ui_font
from llamaduo_gui.gui.theme.series import paint_marker
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import SEMIBOLD

Role = Literal[
    "title", "tile", "verdict", "heading", "strong", "body", "small", "caption", "badge", "mono"
]
Tone = Literal["text", "text2", "text3", "accent", "ok", "warn", "bad"]


def restyle(widget: QWidget, **properties: object) -> None:
    """Set dynamic properties that the style sheet selects on, and apply its rules again."""
    changed = False
    for name, value in properties.items():
        if widget.property(name) != value:
            widget.setProperty(name, value)
            changed = True
    if changed and widget.testAttribute(Qt.WidgetAttribute.WA_WState_Polished):
        widget.style().unpolish(widget)
        widget.style().polish(widget)


class Label(QLabel):
    """Plain text in one of the type roles; text from models and files is never markup."""

    def __init__(
        self,
        text: str = "",
        role: Role = "body",
        *,
        tone: Tone = "text",
        wrap: bool = False,
        selectable: bool = False,
    ) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setProperty("tone", tone)
        self.setText(text)
        if wrap:
            self.setWordWrap(True)
            # Not Minimum: the hint is taken at a narrow width and would stretch the page.
            policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
            policy.setHeightForWidth(True)
            self.setSizePolicy(policy)
        if selectable:
            self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def set_role(self, role: Role) -> None:
        """Change the type role."""
        restyle(self, role=role)

    def set_tone(self, tone: Tone) -> None:
        """Change the colour."""
        restyle(self, tone=tone)


class ElidedLabel(Label):
    """One line that is cut with an ellipsis when narrow; the tooltip then has all of it."""

    def __init__(
        self,
        text: str = "",
        role: Role = "body",
        *,
        tone: Tone = "text",
        mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight,
    ) -> None:
        super().__init__(text, role, tone=tone)
        self._mode = mode
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        """Room for a few letters, so that the label never widens its window."""
        full = super().minimumSizeHint()
        few = self.fontMetrics().horizontalAdvance("mmm…")
        return QSize(min(full.width(), few), full.height())

    def is_elided(self) -> bool:
        """Whether the text is cut at the present width."""
        return self.fontMetrics().horizontalAdvance(self.text()) > self.contentsRect().width()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the text, cut to the width."""
        painter = QPainter(self)
        painter.setFont(self.font())
        tone = "text3" if not self.isEnabled() else self.property("tone")
        painter.setPen(color(tone))
        room = self.contentsRect()
        shown = self.fontMetrics().elidedText(self.text(), self._mode, room.width())
        painter.drawText(room, self.alignment() | Qt.AlignmentFlag.AlignVCenter, shown)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Offer the whole text as tooltip only while it is cut."""
        super().resizeEvent(event)
        self._update_tip()

    def setText(self, text: str) -> None:
        """Show `text`."""
        super().setText(text)
        self._update_tip()

    def _update_tip(self) -> None:
        self.setToolTip(self.text() if self.is_elided() else "")


class ValueLabel(QLabel):
    """A large value and a smaller suffix on one baseline, as in a tile."""

    def __init__(self) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._value, self._suffix = "", ""
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def set_value(self, value: str, suffix: str = "") -> None:
        """Show `value`, then `suffix`; the plain text of both is what a screen reader gets."""
        self._value, self._suffix = value, suffix
        self.setText(f"{value} {suffix}".strip())
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        """Both parts side by side."""
        big, small = self._metrics()
        width = big.horizontalAdvance(self._value) + 1
        if self._suffix:
            width += scaled(6) + small.horizontalAdvance(self._suffix) + 1
        return QSize(width, big.height())

    def minimumSizeHint(self) -> QSize:
        """The value alone: the suffix gives way first."""
        big, _small = self._metrics()
        return QSize(big.horizontalAdvance(self._value) + 1, big.height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw both parts; a suffix that does not fit is cut and told by the tooltip."""
        big, small = self._metrics()
        painter = QPainter(self)
        baseline = (self.height() - big.height()) / 2 + big.ascent()
        painter.setFont(ui_font("tile", SEMIBOLD))
        painter.setPen(color("text"))
        painter.drawText(QPointF(0, baseline), self._value)
        left = big.horizontalAdvance(self._value) + scaled(6)
        shown = small.elidedText(
            self._suffix, Qt.TextElideMode.ElideRight, max(0, self.width() - left)
        )
        painter.setFont(ui_font())
        painter.setPen(color("text2"))
        painter.drawText(QPointF(left, baseline), shown)
        self.setToolTip(self.text() if shown != self._suffix else "")

    @staticmethod
    def _metrics() -> tuple[QFontMetrics, QFontMetrics]:
        return QFontMetrics(ui_font("tile", SEMIBOLD)), QFontMetrics(ui_font())


class IconLabel(QLabel):
    """One line icon; it decorates, so give the words beside it."""

    def __init__(self, name: str, token: str = "text2", size: int = icons.DEFAULT_SIZE) -> None:
        super().__init__()
        self._name, self._token, self._size = name, token, size
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def set_icon(self, name: str, token: str | None = None) -> None:
        """Show another icon, in another colour if `token` is given."""
        self._name = name
        self._token = token or self._token
        self.update()

    def sizeHint(self) -> QSize:
        """The icon at the text scale in force."""
        side = scaled(self._size)
        return QSize(side, side)

    def minimumSizeHint(self) -> QSize:
        """Icons do not shrink."""
        return self.sizeHint()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the icon, centred."""
        side = scaled(self._size)
        image = icons.pixmap(self._name, self._token, side, self.devicePixelRatioF())
        QPainter(self).drawPixmap(
            QPointF((self.width() - side) / 2, (self.height() - side) / 2), image
        )


class MarkerLabel(QLabel):
    """The square, triangle, circle or diamond of a model."""

    def __init__(self, kind: str, size: int = 10) -> None:
        super().__init__()
        self._kind, self._size = kind, size
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def set_kind(self, kind: str) -> None:
        """Show the marker of another model kind."""
        self._kind = kind
        self.update()

    def sizeHint(self) -> QSize:
        """The marker with room for the diamond's corners."""
        return QSize(scaled(self._size) + 8, scaled(self._size) + 4)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the marker, centred."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        paint_marker(painter, self._kind, QPointF(self.rect().center()), scaled(self._size))


class Separator(QFrame):
    """A one pixel line, horizontal unless `vertical`."""

    def __init__(self, *, vertical: bool = False) -> None:
        super().__init__()
        self.setProperty("surface", "line")
        if vertical:
            self.setFixedWidth(1)
        else:
            self.setFixedHeight(1)
