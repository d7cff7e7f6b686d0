"""How charts look: matplotlib's settings from the tokens, without importing matplotlib."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llamaduo_gui.gui.theme.tokens import TYPE_SCALE, Tokens
from llamaduo_gui.gui.widgets.wording import NO_BREAK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ABOVE_AXES = "above-axes"  # gid of texts that need room over the axes


def rc_params(tokens: Tokens, families: list[str], points: float) -> dict[str, Any]:
    """Matplotlib settings for a theme; `families` must exist, `points` is the body size."""
    return {
        "figure.facecolor": tokens.surface,
        "axes.facecolor": tokens.surface,
        "savefig.facecolor": tokens.surface,
        "text.color": tokens.text,
        "axes.labelcolor": tokens.text2,
        "xtick.color": tokens.text2,
        "ytick.color": tokens.text2,
        "axes.edgecolor": tokens.outline,
        "grid.color": tokens.border,
        "grid.linewidth": 0.8,
        "font.family": families,
        "font.size": points,
        "axes.labelsize": points * TYPE_SCALE["small"],
        "xtick.labelsize": points * TYPE_SCALE["small"],
        "ytick.labelsize": points * TYPE_SCALE["small"],
        "legend.fontsize": points * TYPE_SCALE["caption"],
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "axes.unicode_minus": True,
    }


def percent_ticks(axes: Axes, low: float, high: float) -> None:
    """Ticks every 10, 20 or 25, with the unit on the top one only."""
    span = high - low
    step = 10 if span <= 60 else 25
    first = step * math.ceil(low / step)
    ticks = [first + step * i for i in range(int((high - first) // step) + 1)]
    labels = [f"{tick:g}" for tick in ticks]
    labels[-1] += f"{NO_BREAK}%"
    axes.set_yticks(ticks, labels)
