"""Blind votes of a person, by pair of models: counts, and the win rate with its interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from llamaduo_gui.core.types import ModelKind
from llamaduo_gui.evaluation.report_charts import interval_strip, legend_mark
from llamaduo_gui.store.votes import VoteRow, VoteSide

_Z = 1.959963984540054  # 95 %, two sides
_DASH = "\u2013"
# Who stands first in a pair: the one that is to take another's place.
_ORDER = (ModelKind.GGUF, ModelKind.TUNED, ModelKind.BASE, ModelKind.SERVICE)
_TITLES = {
    ModelKind.GGUF: "GGUF",
    ModelKind.TUNED: "Tuned",
    ModelKind.BASE: "Base",
    ModelKind.SERVICE: "Service",
}


def vote_summary(votes: Sequence[VoteRow]) -> list[dict[str, Any]]:
    """One entry a pair of weights, most votes first.

    `win_rate` is the share (0..1) of votes for the first among those for one of the two, with its
    Wilson interval; it is None where all votes were `same`. The side a model stood on does not
    count: it was drawn for every prompt.
    """
    counts: dict[tuple[str, str], Counter[str]] = {}
    sides: dict[str, VoteSide] = {}
    for vote in votes:
        pair = sorted((vote.left, vote.right), key=_rank)
        first, second = (f"{side.kind}:{side.sha256}" for side in pair)
        sides[first], sides[second] = pair
        chosen = {"left": vote.left, "right": vote.right}.get(vote.choice)
        word = "same" if chosen is None else "first" if chosen is pair[0] else "second"
        counts.setdefault((first, second), Counter())[word] += 1
    found = [
        {
            "first": _describe(sides[first]),
            "second": _describe(sides[second]),
            "n": found.total(),
            "first_preferred": found["first"],
            "same": found["same"],
            "second_preferred": found["second"],
            "win_rate": wilson(found["first"], found["first"] + found["second"]),
        }
        for (first, second), found in counts.items()
    ]
    return sorted(found, key=lambda item: -item["n"])


def wilson(successes: int, n: int) -> dict[str, Any] | None:
    """A share with its 95 % interval; None without trials.

    Wilson's score interval: E. B. Wilson (1927), J. Am. Stat. Assoc. 22, 209-212. It keeps its
    coverage for few trials and shares near 0 and 1, where the usual one collapses.
    """
    if n == 0:
        return None
    share, squared = successes / n, _Z * _Z
    centre = (share + squared / (2 * n)) / (1 + squared / n)
    spread = math.sqrt(share * (1 - share) / n + squared / (4 * n * n))
    half = _Z * spread / (1 + squared / n)
    return {
        "value": share,
        "low": max(0.0, centre - half),
        "high": min(1.0, centre + half),
        "n": n,
    }


def votes_section(pairs: Sequence[Mapping[str, Any]]) -> str:
    """HTML of `vote_summary`; empty without votes."""
    if not pairs:
        return ""
    rows = "".join(_row(pair) for pair in pairs)
    return (
        '<div class="card"><table><caption>Answers to one prompt side by side, names hidden and '
        "sides drawn by lot; win rate of the first among votes for one of the two (95 % Wilson "
        'interval)</caption><thead><tr><th class="left">Pair</th><th>Votes</th>'
        "<th>First better</th><th>Same</th><th>Second better</th><th>Win rate</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(pair: Mapping[str, Any]) -> str:
    names = " against ".join(
        f"{legend_mark(side['kind'])}{escape(side['title'])}"
        for side in (pair["first"], pair["second"])
    )
    numbers = "".join(
        f"<td>{pair[name]:,}</td>" for name in ("n", "first_preferred", "same", "second_preferred")
    )
    rate = pair["win_rate"]
    if rate is None:
        return f'<tr><th scope="row">{names}</th>{numbers}<td>{_DASH}</td></tr>'
    percent = {name: 100 * rate[name] for name in ("value", "low", "high")}
    text = (
        f"<b>{percent['value']:.1f}\u00a0%</b> ({percent['low']:.1f}{_DASH}{percent['high']:.1f})"
    )
    strip = interval_strip({**percent, "reason": ""}, pair["first"]["kind"], 0, 100)
    return f'<tr><th scope="row">{names}</th>{numbers}<td>{text}{strip}</td></tr>'


def _rank(side: VoteSide) -> tuple[int, str]:
    kinds = [kind.value for kind in _ORDER]
    return (kinds.index(side.kind) if side.kind in kinds else len(kinds), side.sha256)


def _describe(side: VoteSide) -> dict[str, str]:
    known = {kind.value: title for kind, title in _TITLES.items()}
    title = f"{known.get(side.kind, side.kind)} {side.name}"
    if side.kind != ModelKind.SERVICE:
        title += f" ({side.sha256[:8]})"
    return {"kind": side.kind, "name": side.name, "sha256": side.sha256, "title": title}
