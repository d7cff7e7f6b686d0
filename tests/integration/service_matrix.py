"""Every provider beside its fake, and the two stages that ask it, for the matrix of tests."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from llamaduo_gui.core.config import PipelineConfig, validate_config
from llamaduo_gui.core.events import Event, Log
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.paths import resource
from llamaduo_gui.core.types import Message, Record, Split, Stage
from llamaduo_gui.evaluation.stage import run_judging
from llamaduo_gui.providers.grammar import TicketGrammar
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewCandidate, RunRow
from llamaduo_gui.synthesis.stage import run_synthesis
from tests.fakes.answers import Answers
from tests.fakes.anthropic_server import FakeAnthropic
from tests.fakes.gemini_server import FakeGemini
from tests.fakes.openai_server import FakeOpenAI

Mode = Literal["live", "batch"]
Server = FakeOpenAI | FakeAnthropic | FakeGemini

KEY = "k-matrix-1b6f"
MODEL = "fake-model"
FAKES: dict[str, Callable[..., Server]] = {
    "openai": FakeOpenAI,
    "openai_compatible": FakeOpenAI,
    "anthropic": FakeAnthropic,
    "gemini": FakeGemini,
}
BATCHING = ("openai", "anthropic", "gemini")
EVERY_WAY: list[tuple[str, Mode]] = [
    *((name, "live") for name in ("openai", "anthropic", "gemini", "openai_compatible", "offline")),
    *((name, "batch") for name in BATCHING),
]
# Dollars a million tokens: a thousand times what models cost, so that little prompts show.
PRICE = {"input": 1000.0, "output": 5000.0}
TRAIN, VALIDATION, SAMPLES, REPEATS = 20, 6, 2, 2
JUDGEMENTS = VALIDATION * SAMPLES * REPEATS
PAIRS, PAIRS_PER_REQUEST = 12, 4


@lru_cache(maxsize=1)
def rows() -> list[dict[str, Any]]:
    """Tickets of the demo: all providers can answer them, the offline tutor nothing else."""
    lines = resource("demo", "coverage.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[: TRAIN + VALIDATION]]


def make_answers() -> Answers:
    """What the fakes say: pairs of the demo's grammar, scores by overlap."""
    grammar = TicketGrammar.load(resource("demo", "grammar.toml"))
    known = {row["prompt"]: row["messages"][1]["content"] for row in rows()}
    seeds = random.Random(3)
    pool = []
    for row in rows()[:TRAIN]:
        pool += grammar.similar_pairs(row["prompt"], known[row["prompt"]], 6, seeds)
    return Answers(pool=pool, known=known)


@dataclass
class Bench:
    """A project whose teacher and judge are one provider; `server` is None for the offline one."""

    provider: str
    mode: Mode
    project: Project
    server: Server | None
    events: list[Event] = field(default_factory=list)
    on_log: Callable[[str], None] | None = None

    @property
    def config(self) -> PipelineConfig:
        return self.project.config

    def context(self) -> JobContext:
        def emit(event: Event) -> None:
            self.events.append(event)
            if isinstance(event, Log) and self.on_log is not None:
                self.on_log(event.text)

        return JobContext(emit=emit, secrets={self.provider: KEY})

    def synthesize(self) -> dict[str, Any]:
        run = self.project.runs.find_or_create("synthesize:r1", Stage.SYNTHESIZE, round_number=1)
        context = self.context()
        return run_synthesis(self.project, run, context, round_number=1, config=self.config)

    def judge(self) -> dict[str, Any]:
        return judge(self.project, self.context())

    def sizes(self) -> list[int]:
        """Requests of each batch that was handed in."""
        return [batch.total for batch in self.project.batches.all()]

    def states(self) -> list[str]:
        return [batch.state for batch in self.project.batches.all()]

    def log(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Log))

    def at_end(self, outcome: str, then: str) -> None:
        """Let the first batch end as `outcome`, and the later ones as `then`."""
        assert self.server is not None
        settings: Any = self.server.settings.batches
        settings.outcome = outcome

        def change(text: str) -> None:
            if "has ended" in text or "turned down" in text:
                settings.outcome = then

        self.on_log = change

    def assert_judged(self, summary: dict[str, Any], *, unscored: int = 0) -> None:
        assert (summary["judgements"], summary["unscored"]) == (JUDGEMENTS, unscored)
        stored = self.project.judgements.of_candidates(answers_run(self.project).id)
        assert len(stored) == JUDGEMENTS
        assert sum(row.is_scored for row in stored) == JUDGEMENTS - unscored
        good = [row.precision for row in stored if row.precision is not None]
        assert max(good) == 100, "an answer equal to the target"
        assert min(good) < 60

    def assert_delivered_once(self) -> None:
        """Nothing that was asked was answered, and so paid, a second time."""
        assert self.server is not None
        assert set(self.server.delivered.values()) == {1}


@contextmanager
def make_bench(folder: Path, provider: str, mode: Mode) -> Iterator[Bench]:
    """A project and, on loopback, the fake that its teacher and judge are."""
    if provider == "offline":
        with make_project(folder, provider, mode, None) as project:
            yield Bench(provider, mode, project, None)
        return
    with FAKES[provider](None, make_answers()) as server:
        server.settings.key = KEY
        with make_project(folder, provider, mode, server.url) as project:
            yield Bench(provider, mode, project, server)


def make_project(folder: Path, provider: str, mode: Mode, url: str | None) -> Project:
    service: dict[str, Any] = {"provider": provider, "model": MODEL, "mode": mode, "timeout_s": 20}
    if url is not None:
        service |= {"base_url": url, "price": PRICE}
    config = {
        "task": "tickets",
        "teacher": service,
        "judges": [{**service, "repeats": REPEATS}],
        "synthesis": {
            "pairs_per_round": PAIRS,
            "pairs_per_request": PAIRS_PER_REQUEST,
            "strategy": "uniform",
        },
        "decision": {"resamples": 200},
    }
    project = Project.create(folder, validate_config(config))
    splits = [Split.TRAIN] * TRAIN + [Split.VALIDATION] * VALIDATION
    project.records.add_coverage(
        (
            Record(
                tuple(Message(turn["role"], turn["content"]) for turn in row["messages"]),
                row["category"],
                f"id-{number}",
            ),
            split,
            f"f:{number}",
        )
        for number, (row, split) in enumerate(zip(rows(), splits, strict=True))
    )
    _add_answers(project)
    return project


def _add_answers(project: Project) -> None:
    """For each prompt the target itself, and one that is wrong in its own way."""
    answers = answers_run(project)
    project.candidates.add(
        [
            NewCandidate(answers.id, row.id, sample, text, seed=sample)
            for row in project.records.by_split(Split.VALIDATION)
            for sample, text in enumerate((row.record.messages[-1].content, f"no idea {row.id}"))
        ]
    )


def answers_run(project: Project) -> RunRow:
    """The inference run whose answers are judged."""
    return project.runs.find_or_create("infer:base:validation", Stage.INFER, split=Split.VALIDATION)


def judge_run(project: Project) -> RunRow:
    """The judging run."""
    return project.runs.find_or_create("judge:base:validation", Stage.JUDGE, split=Split.VALIDATION)


def judge(project: Project, context: JobContext) -> dict[str, Any]:
    """Judge all answers with the project's judge."""
    return run_judging(
        project,
        judge_run(project),
        context,
        candidate_run_id=answers_run(project).id,
        config=project.config,
    )
