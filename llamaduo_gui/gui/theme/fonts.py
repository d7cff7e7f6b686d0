"""Fonts: the shipped Inter and JetBrains Mono, their sizes, and what stands in for them."""

from __future__ import annotations

import logging
import sys
from functools import cache

from PySide6.QtGui import QFont, QFontDatabase, QFontMetrics

from llamaduo_gui.core.paths import resource
from llamaduo_gui.gui.theme.state import LOOK
from llamaduo_gui.gui.theme.tokens import REGULAR, TYPE_SCALE

_log = logging.getLogger(__name__)

FONT_FILES = (
    "Inter-Regular.ttf",
    "Inter-Medium.ttf",
    "Inter-SemiBold.ttf",
    "JetBrainsMono-Regular.ttf",
)
UI_FAMILY = "Inter"
MONO_FAMILY = "JetBrains Mono"
# A Mac counts 72 points to the inch where other platforms count 96.
_BASE_POINTS = 13.0 if sys.platform == "darwin" else 9.75


@cache
def load_fonts() -> tuple[str, str]:
    """Register the shipped fonts once; returns (interface family, monospace family).

    A family that does not load is replaced by the system's own, with one log line.
    """
    found: set[str] = set()
    for name in FONT_FILES:
        number = QFontDatabase.addApplicationFont(str(resource("fonts", name)))
        if number < 0:
            _log.warning("Font file %s could not be read; a system font stands in.", name)
            continue
        found.update(QFontDatabase.applicationFontFamilies(number))
    ui = UI_FAMILY if UI_FAMILY in found else _system_family(QFontDatabase.SystemFont.GeneralFont)
    mono = (
        MONO_FAMILY if MONO_FAMILY in found else _system_family(QFontDatabase.SystemFont.FixedFont)
    )
    return ui, mono


def _system_family(which: QFontDatabase.SystemFont) -> str:
    return QFontDatabase.systemFont(which).family()


def text_scale() -> float:
    """How many times the standard size (9.75 pt, 13 px at 96 dpi) text is now."""
    return LOOK.text_scale


def scaled(pixels: float) -> int:
    """A length beside text (an icon, a marker, a bar) at the text scale in force."""
    return round(pixels * LOOK.text_scale)


def point_size(size: str = "body") -> float:
    """Points of a step of the type scale (caption, small, body, verdict, tile, title)."""
    return round(_BASE_POINTS * LOOK.text_scale * TYPE_SCALE[size], 2)


def ui_font(size: str = "body", weight: int = REGULAR) -> QFont:
    """The interface font with figures of equal width, so that counters do not jitter."""
    return _font(load_fonts()[0], size, weight)


def mono_font(size: str = "small") -> QFont:
    """The monospace font, without the ligatures that would turn `<=` into one glyph."""
    font = _font(load_fonts()[1], size, REGULAR)
    font.setStyleHint(QFont.StyleHint.Monospace)
    font.setFixedPitch(True)
    return font


def control_height() -> int:
    """Height in px of a button, field or combo box: a line, its padding and its border."""
    return QFontMetrics(ui_font()).height() + 12


def _font(family: str, size: str, weight: int) -> QFont:
    font = QFont(family)
    font.setPointSizeF(point_size(size))
    font.setWeight(QFont.Weight(weight))
    for tag, value in (("tnum", 1), ("calt", 0), ("liga", 0)):
        font.setFeature(QFont.Tag.fromString(tag), value)
    return font
