"""Design tokens: colours of both themes, spacing, radii and the type scale (Qt-free)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

ThemeName = Literal["light", "dark"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Colours of one theme as `#rrggbb`.

    `text*` are read on `bg`, `sidebar`, `surface` and `raised`; `*_soft` are fills behind the
    colour of the same name; `outline` draws controls (3:1) and `border` only decorates;
    `fill` carries white text. `service`, `base`, `tuned` and `gguf` are the four models.
    """

    name: ThemeName
    bg: str
    sidebar: str
    surface: str
    raised: str
    border: str
    outline: str
    text: str
    text2: str
    text3: str
    accent: str
    accent_soft: str
    fill: str
    fill_hover: str
    on_fill: str
    ok: str
    ok_soft: str
    warn: str
    warn_soft: str
    bad: str
    bad_soft: str
    service: str
    base: str
    tuned: str
    gguf: str

    def get(self, token: str) -> str:
        """Hex value of the token called `token`; KeyError if there is none of that name."""
        if token not in COLOR_NAMES:
            raise KeyError(token)
        value: str = getattr(self, token)
        return value

    def as_dict(self) -> dict[str, str]:
        """Every colour by name."""
        return {name: self.get(name) for name in COLOR_NAMES}


COLOR_NAMES: frozenset[str] = frozenset(f.name for f in fields(Tokens)) - {"name"}

LIGHT = Tokens(
    name="light",
    bg="#F4F5F8",
    sidebar="#E9ECF1",
    surface="#FFFFFF",
    raised="#F0F2F6",
    border="#D5DAE2",
    outline="#7F8896",
    text="#171A21",
    text2="#4A5260",
    text3="#626B7A",
    accent="#1B5CC0",
    accent_soft="#E2ECFB",
    fill="#1B5CC0",
    fill_hover="#164C9F",
    on_fill="#FFFFFF",
    ok="#0F6B3C",
    ok_soft="#DBF2E5",
    warn="#835000",
    warn_soft="#FCEED3",
    bad="#B0241C",
    bad_soft="#FBE4E2",
    service="#C24E00",
    base="#6B7280",
    tuned="#0072B2",
    gguf="#00805E",
)

DARK = Tokens(
    name="dark",
    bg="#14161A",
    sidebar="#0F1114",
    surface="#1C1F25",
    raised="#262A32",
    border="#343A45",
    outline="#7A8494",
    text="#E9EBEF",
    text2="#B4BBC7",
    text3="#939CAB",
    accent="#83B4FF",
    accent_soft="#1D2F4D",
    fill="#2B68CF",
    fill_hover="#2F6FD8",
    on_fill="#FFFFFF",
    ok="#63CE95",
    ok_soft="#17352A",
    warn="#F0B657",
    warn_soft="#3A2D14",
    bad="#FF8F86",
    bad_soft="#43201F",
    service="#F0883E",
    base="#9AA3B2",
    tuned="#56B4E9",
    gguf="#2FBF95",
)

THEMES: dict[ThemeName, Tokens] = {"light": LIGHT, "dark": DARK}


@dataclass(frozen=True, slots=True)
class _Space:
    """Gaps in device-independent pixels; nothing between these values is used."""

    xs: int = 4
    s: int = 8
    m: int = 12
    l: int = 16  # noqa: E741 - the scale's own letter, always read as SPACE.l
    xl: int = 20


SPACE = _Space()
RADIUS_CONTROL = 6
RADIUS_CARD = 8
RADIUS_PILL = 11
FOCUS_WIDTH = 2

TYPE_SCALE: dict[str, float] = {
    "caption": 0.88,
    "small": 0.92,
    "body": 1.0,
    "verdict": 1.1,
    "tile": 1.45,
    "title": 1.55,
}
REGULAR, MEDIUM, SEMIBOLD = 400, 500, 600


def relative_luminance(color: str) -> float:
    """WCAG 2 relative luminance (0..1) of `#rrggbb`."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast_ratio(first: str, second: str) -> float:
    """WCAG 2 contrast ratio (1..21) of two colours given as `#rrggbb`."""
    bright, dim = sorted((relative_luminance(first), relative_luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)
