"""Which theme is in force; apart from `theme` so that icons and fonts need not import it."""

from __future__ import annotations

from llamaduo_gui.gui.theme.tokens import LIGHT, Tokens

_current: Tokens = LIGHT


def current_tokens() -> Tokens:
    """Tokens of the theme in force; painted widgets read them each time they paint."""
    return _current


def set_current(tokens: Tokens) -> None:
    """Change what `current_tokens` returns; only `apply_theme` calls it."""
    global _current
    _current = tokens
