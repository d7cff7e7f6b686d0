"""Applies a theme to the application: palette, fonts and one generated style sheet."""

from __future__ import annotations

from functools import cache
from typing import Literal

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QAction, QColor, QPalette
from PySide6.QtWidgets import QApplication

from llamaduo_gui.gui.theme import fonts, icons
from llamaduo_gui.gui.theme.sheet import build_sheet
from llamaduo_gui.gui.theme.state import LOOK, current_tokens
from llamaduo_gui.gui.theme.tokens import THEMES, ThemeName, Tokens

ThemeMode = Literal["light", "dark", "system"]

_STYLED = "llamaduoFusionSet"

__all__ = [
    "ThemeMode",
    "ThemeNotifier",
    "apply_theme",
    "color",
    "current_mode",
    "current_tokens",
    "theme_notifier",
]


class ThemeNotifier(QObject):
    """Tells what draws by itself (charts) that colours or text sizes have changed."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.mode: ThemeMode = "system"
        self._follows_system = False

    def follow_system(self, app: QApplication) -> None:
        """Re-apply the theme when the desktop switches between light and dark, once set up."""
        if not self._follows_system:
            app.styleHints().colorSchemeChanged.connect(self._on_scheme_changed)
            self._follows_system = True

    def _on_scheme_changed(self) -> None:
        app = QApplication.instance()
        if self.mode == "system" and isinstance(app, QApplication):
            apply_theme(app, "system", fonts.text_scale())


@cache
def theme_notifier() -> ThemeNotifier:
    """The one notifier of the process."""
    return ThemeNotifier()


def current_mode() -> ThemeMode:
    """The mode last applied: light, dark or system."""
    return theme_notifier().mode


def color(token: str) -> QColor:
    """A token of the current theme as QColor."""
    return QColor(current_tokens().get(token))


def resolve_mode(app: QApplication, mode: ThemeMode) -> ThemeName:
    """The theme that `mode` means now; a desktop that does not say counts as light."""
    if mode != "system":
        return mode
    scheme = app.styleHints().colorScheme()
    return "dark" if scheme == Qt.ColorScheme.Dark else "light"


def apply_theme(app: QApplication, mode: ThemeMode, text_scale: float = 1.0) -> Tokens:
    """Give the whole application the theme of `mode` at `text_scale` times the standard text.

    The mode is the application's own setting, because the offscreen platform ignores a colour
    scheme set through Qt. Palette first, then the sheet set anew: `palette(...)` in a sheet that
    stays set would keep the old colours. Returns the tokens now in force.
    """
    notifier = theme_notifier()
    notifier.mode = mode
    notifier.follow_system(app)
    tokens = THEMES[resolve_mode(app, mode)]
    LOOK.tokens, LOOK.text_scale = tokens, text_scale
    if not app.property(_STYLED):  # the sheet hides the base style's name
        app.setStyle("fusion")
        app.setProperty(_STYLED, True)
    app.setPalette(build_palette(tokens))
    app.setFont(fonts.ui_font())
    app.setStyleSheet(build_sheet(tokens))
    _retint_icons(app)
    notifier.changed.emit()
    return tokens


def _retint_icons(app: QApplication) -> None:
    for widget in app.allWidgets():
        icons.refresh_icon(widget)
        for action in widget.actions():
            icons.refresh_icon(action)
    for action in app.findChildren(QAction):
        icons.refresh_icon(action)


def build_palette(tokens: Tokens) -> QPalette:
    """The Qt palette of a theme, for whatever the style sheet does not reach."""
    role = QPalette.ColorRole
    palette = QPalette()
    for which, token in {
        role.Window: "bg",
        role.WindowText: "text",
        role.Base: "surface",
        role.AlternateBase: "raised",
        role.Text: "text",
        role.PlaceholderText: "text3",
        role.Button: "surface",
        role.ButtonText: "text",
        role.BrightText: "bad",
        role.ToolTipBase: "raised",
        role.ToolTipText: "text",
        role.Highlight: "fill",
        role.HighlightedText: "on_fill",
        role.Link: "accent",
        role.LinkVisited: "accent",
        role.Accent: "fill",
        role.Light: "surface",
        role.Midlight: "raised",
        role.Mid: "border",
        role.Dark: "outline",
        role.Shadow: "outline",
    }.items():
        palette.setColor(which, QColor(tokens.get(token)))
    disabled = QPalette.ColorGroup.Disabled
    for which in (role.WindowText, role.Text, role.ButtonText, role.HighlightedText):
        palette.setColor(disabled, which, QColor(tokens.text3))
    palette.setColor(disabled, role.Highlight, QColor(tokens.border))
    return palette
