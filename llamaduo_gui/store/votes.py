"""Queries on blind votes: which of two answers to one prompt a person liked better."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Engine, insert, select

from llamaduo_gui.store.schema import votes

Choice = Literal["left", "same", "right"]


@dataclass(frozen=True, slots=True)
class VoteSide:
    """One of the two: its kind (a `ModelKind`), name, short hash of its weights, and answer."""

    kind: str
    name: str
    sha256: str
    answer: str


@dataclass(frozen=True, slots=True)
class VoteRow:
    """One vote, sides as they were shown. `created_at` is seconds since 1970."""

    id: int
    system: str
    prompt: str
    left: VoteSide
    right: VoteSide
    choice: Choice
    created_at: float


class VoteQueries:
    """Reads and writes the `votes` table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self, *, system: str, prompt: str, left: VoteSide, right: VoteSide, choice: Choice
    ) -> None:
        """Keep a vote."""
        sides = {
            f"{side}_{name}": getattr(value, name)
            for side, value in (("left", left), ("right", right))
            for name in VoteSide.__dataclass_fields__
        }
        values = {"system": system, "prompt": prompt, "choice": choice, **sides}
        with self._engine.begin() as connection:
            connection.execute(insert(votes).values(created_at=time.time(), **values))

    def all(self) -> list[VoteRow]:
        """All votes, oldest first."""
        with self._engine.connect() as connection:
            found = connection.execute(select(votes).order_by(votes.c.id)).mappings()
            return [
                VoteRow(
                    id=item["id"],
                    system=item["system"],
                    prompt=item["prompt"],
                    left=_side(item, "left"),
                    right=_side(item, "right"),
                    choice=item["choice"],
                    created_at=item["created_at"],
                )
                for item in found
            ]


def _side(item: object, side: str) -> VoteSide:
    names = VoteSide.__dataclass_fields__
    return VoteSide(**{name: item[f"{side}_{name}"] for name in names})  # type: ignore[index]
