"""A scripted teacher and a small project, for the tests of the synthesis stage."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llamaduo_gui.core.config import PipelineConfig, ServiceConfig, SynthesisConfig
from llamaduo_gui.core.events import Event
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, Record, Split
from llamaduo_gui.providers.base import ChatRequest, ModelInfo, Reply
from llamaduo_gui.store.project import Project

TEACHER = ServiceConfig(provider="offline", model="scripted", concurrency=4)
WORDS = [f"{first}{second}" for first in "bdfgklmnprstvz" for second in ("ando", "elix", "umar")]
PER_REQUEST = 4

Script = Callable[[ChatRequest], Reply]


def make_text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=9))


def make_pairs(request: ChatRequest) -> Reply:
    """Four new pairs that depend on nothing but the request."""
    rng = random.Random(request.key())
    pairs = [
        {"instruction": make_text(rng), "response": rng.choice(WORDS)} for _ in range(PER_REQUEST)
    ]
    return Reply(json.dumps({"pairs": pairs}), prompt_tokens=10, completion_tokens=5, cost_usd=0.5)


@dataclass(slots=True)
class ScriptedTeacher:
    """A provider that answers by a function, after a delay of its own for each request.

    Attributes:
        asked: every request it was sent, in order.
        jitter: seed of the delays; another one lets replies overtake each other differently.
        slowest_s: longest delay of a reply.
        after: called after each reply with the number of replies so far.
    """

    script: Script = make_pairs
    jitter: int = 0
    slowest_s: float = 0.004
    after: Callable[[int], None] | None = None
    asked: list[ChatRequest] = field(default_factory=list)
    name: str = "offline"

    async def complete(self, request: ChatRequest) -> Reply:
        self.asked.append(request)
        share = random.Random(f"{self.jitter}{request.key()}").random()
        await asyncio.sleep(share * self.slowest_s)
        reply = self.script(request)
        if self.after:
            self.after(len(self.asked))
        return reply

    async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        yield self.script(request).text

    async def list_models(self) -> Sequence[ModelInfo]:
        """None: a script has no models."""
        return []

    async def close(self) -> None:
        """Nothing is held open."""


def make_config(**synthesis: object) -> PipelineConfig:
    values: dict[str, object] = {"pairs_per_round": 40, "pairs_per_request": PER_REQUEST}
    return PipelineConfig(
        teacher=TEACHER, synthesis=SynthesisConfig.model_validate(values | synthesis)
    )


def make_coverage() -> list[tuple[Record, Split, str]]:
    """Thirty records of two categories: twenty to train, five to validate, five to test."""
    rng = random.Random(99)
    items = []
    for number in range(30):
        split = Split.TRAIN if number < 20 else Split.VALIDATION if number < 25 else Split.TEST
        turns = (
            Message("user", f"{split.value} {make_text(rng)}"),
            Message("assistant", f"label{number}"),
        )
        record = Record(turns, "ab"[number % 2], f"id-{number:02}")
        items.append((record, split, f"coverage.jsonl:{number + 1}"))
    return items


def make_project(
    folder: Path,
    config: PipelineConfig,
    coverage: Sequence[tuple[Record, Split, str]] | None = None,
) -> Project:
    project = Project.create(folder, config)
    project.records.add_coverage(coverage or make_coverage())
    return project


def weigh(**by_category: float) -> dict[str, float]:
    """Weights of the training records, by prompt_id."""
    return {
        record.prompt_id: by_category[record.category]
        for record, split, _ in make_coverage()
        if split is Split.TRAIN
    }


def reply_with(*pairs: tuple[str, str]) -> Reply:
    items = [{"instruction": asked, "response": answered} for asked, answered in pairs]
    return Reply(json.dumps({"pairs": items}))


def make_context(events: list[Event] | None = None) -> JobContext:
    return JobContext(emit=(events if events is not None else []).append)
