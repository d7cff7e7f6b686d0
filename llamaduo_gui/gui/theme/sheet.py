"""Generates the application's one style sheet from the tokens."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from string import Template

from llamaduo_gui.core.paths import resource
from llamaduo_gui.gui.theme import fonts
from llamaduo_gui.gui.theme.icons import DEFAULT_SIZE, tinted_svg
from llamaduo_gui.gui.theme.tokens import (
    RADIUS_CARD,
    RADIUS_CONTROL,
    TYPE_SCALE,
    Tokens,
)

# Images a style sheet needs: name in the template -> (icon, colour token).
_IMAGES = {
    "img_check": ("check", "on_fill"),
    "img_dash": ("minus", "on_fill"),
    "img_down": ("chevron-down", "text2"),
    "img_down_off": ("chevron-down", "border"),
    "img_up": ("chevron-up", "text2"),
    "img_right": ("chevron-right", "text2"),
    "img_dot": ("dot", "on_fill"),
}


def build_sheet(tokens: Tokens) -> str:
    """The style sheet for these tokens at the text scale in force."""
    values: dict[str, str | int | float] = dict(tokens.as_dict())
    values.update({f"pt_{name}": fonts.point_size(name) for name in TYPE_SCALE})
    values["ui_family"], values["mono_family"] = fonts.load_fonts()
    values["icon_px"] = fonts.scaled(DEFAULT_SIZE)
    values["radius"] = RADIUS_CONTROL
    values["radius_card"] = RADIUS_CARD
    values.update(_image_urls(tokens))
    return _template().substitute(values)


@cache
def _template() -> Template:
    return Template(resource("styles", "app.qss").read_text(encoding="utf-8"))


def _image_urls(tokens: Tokens) -> dict[str, str]:
    """A style sheet cannot tint an image, so each theme gets its own files."""
    urls = {}
    for key, (name, token) in _IMAGES.items():
        path = _image_dir() / f"{name}-{token}-{tokens.name}.svg"
        if not path.exists():
            path.write_bytes(tinted_svg(name, tokens.get(token)))
        urls[key] = path.as_posix()
    return urls


@cache
def _image_dir() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="llamaduo-gui-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
