"""Which theme is in force; apart from `theme` so that icons and fonts need not import it."""

from __future__ import annotations

from dataclasses import dataclass

from llamaduo_gui.gui.theme.tokens import LIGHT, Tokens


@dataclass(slots=True)
class LookInForce:
    """What `apply_theme` chose last; nothing else changes it."""

    tokens: Tokens = LIGHT
    text_scale: float = 1.0


LOOK = LookInForce()


def current_tokens() -> Tokens:
    """Tokens of the theme in force; painted widgets read them each time they paint."""
    return LOOK.tokens
