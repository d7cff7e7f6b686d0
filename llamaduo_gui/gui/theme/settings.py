"""The user's appearance setting, kept outside any project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

from PySide6.QtCore import QSettings

from llamaduo_gui.core.paths import user_state_dir
from llamaduo_gui.gui.theme.theme import ThemeMode

TEXT_SCALES = (0.9, 1.0, 1.15, 1.3)


@dataclass(frozen=True, slots=True)
class Appearance:
    """Theme mode, and text size as a factor of the standard one."""

    mode: ThemeMode = "system"
    text_scale: float = 1.0


def load_appearance() -> Appearance:
    """The stored setting; anything missing or unreadable falls back to its default."""
    store = _store()
    mode = store.value("appearance/mode", "system")
    if mode not in get_args(ThemeMode):
        mode = "system"
    try:
        scale = float(str(store.value("appearance/text_scale", 1.0)))
    except ValueError:
        scale = 1.0
    nearest = min(TEXT_SCALES, key=lambda choice: abs(choice - scale))
    return Appearance(cast(ThemeMode, mode), nearest)


def save_appearance(appearance: Appearance) -> None:
    """Store the setting for the next start."""
    store = _store()
    store.setValue("appearance/mode", appearance.mode)
    store.setValue("appearance/text_scale", appearance.text_scale)
    store.sync()


def _store() -> QSettings:
    return QSettings(str(user_state_dir() / "window.ini"), QSettings.Format.IniFormat)
