"""The project's own line icons, tinted per theme and cached at every device pixel ratio."""

from __future__ import annotations

from functools import cache, lru_cache

from PySide6.QtCore import QByteArray, QObject, QRectF, Qt
from PySide6.QtGui import QAction, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QAbstractButton

from llamaduo_gui.core.paths import resource
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.state import current_tokens

RATIOS = (1.0, 1.5, 2.0, 3.0)
DEFAULT_SIZE = 16
_NAME_PROPERTY = "themeIconName"
_TOKEN_PROPERTY = "themeIconToken"


@cache
def icon_names() -> tuple[str, ...]:
    """Names of all shipped line icons, sorted."""
    return tuple(sorted(path.stem for path in resource("icons").glob("*.svg")))


@cache
def svg_source(name: str) -> str:
    """SVG text of an icon with `currentColor` as its colour; KeyError for an unknown name."""
    path = resource("icons") / f"{name}.svg"
    if not path.is_file():
        raise KeyError(f"No icon is called {name!r}.")
    return path.read_text(encoding="utf-8")


def tinted_svg(name: str, hex_color: str) -> bytes:
    """SVG bytes of an icon in one colour (QtSvg does not inherit `currentColor`)."""
    return svg_source(name).replace("currentColor", hex_color).encode()


@lru_cache(maxsize=2048)
def _pixmap(name: str, hex_color: str, size: int, ratio: float) -> QPixmap:
    renderer = QSvgRenderer(QByteArray(tinted_svg(name, hex_color)))
    pixels = round(size * ratio)
    image = QPixmap(pixels, pixels)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    renderer.render(painter, QRectF(0, 0, pixels, pixels))
    painter.end()
    image.setDevicePixelRatio(ratio)
    return image


def pixmap(
    name: str, token: str = "text2", size: int = DEFAULT_SIZE, ratio: float = 1.0
) -> QPixmap:
    """An icon in a token's colour, `size` px square, for a screen of that pixel ratio."""
    return _pixmap(name, current_tokens().get(token), size, ratio)


@lru_cache(maxsize=512)
def _icon(name: str, hex_color: str, off_color: str, size: int) -> QIcon:
    made = QIcon()
    for ratio in RATIOS:
        made.addPixmap(_pixmap(name, hex_color, size, ratio))
        made.addPixmap(_pixmap(name, off_color, size, ratio), QIcon.Mode.Disabled)
    return made


def icon(name: str, token: str = "text2", size: int = DEFAULT_SIZE) -> QIcon:
    """An icon in a token's colour of the theme in force; use `set_icon` to follow the theme.

    On a disabled button it has the colour of the disabled text.
    """
    tokens = current_tokens()
    return _icon(name, tokens.get(token), tokens.get("text3"), size)


def set_icon(target: QAbstractButton | QAction, name: str, token: str = "text2") -> None:
    """Put an icon on a button or action and keep its tint right when the theme changes.

    An empty `name` removes the icon.
    """
    target.setProperty(_NAME_PROPERTY, name)
    target.setProperty(_TOKEN_PROPERTY, token)
    if name:
        refresh_icon(target)
    else:
        target.setIcon(QIcon())


def refresh_icon(target: QObject) -> None:
    """Tint again what `set_icon` was used on; anything else is left alone."""
    name = target.property(_NAME_PROPERTY)
    if name and isinstance(target, (QAbstractButton, QAction)):
        target.setIcon(icon(name, target.property(_TOKEN_PROPERTY), scaled(DEFAULT_SIZE)))


def app_icon() -> QIcon:
    """The application's own coloured icon, for the window and the task bar."""
    return QIcon(str(resource("icons", "app", "llamaduo.svg")))
