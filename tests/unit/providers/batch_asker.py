"""Runs the batch engine as a stage does, for its tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from llamaduo_gui.core.config import PriceConfig, ServiceConfig
from llamaduo_gui.core.errors import (
    JobCancelledError,
    ProviderError,
)
from llamaduo_gui.core.events import Event, Log
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, Stage
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.batch_calls import BatchPace
from llamaduo_gui.providers.batch_engine import BatchEngine
from llamaduo_gui.providers.ledger import EngineStats, StoredReply
from llamaduo_gui.store.project import Project
from tests.fakes.scripted_batches import Outcome, ScriptedBatches, echo

PACE = BatchPace(
    first_poll_s=0.01,
    longest_poll_s=0.02,
    first_backoff_s=0.005,
    patience_s=0.2,
    appears_within_s=0.0,
    gather_s=0.05,
)
# 1,000 tokens read and 100 written: 0.002 live, half of it in a batch.
PRICE = PriceConfig(input=1.0, output=10.0)


class Asker:
    """Runs the engine the way a stage does and keeps what it is told."""

    def __init__(self, project: Project, remote: ScriptedBatches) -> None:
        self.project = project
        self.remote = remote
        self.service = ServiceConfig(provider="anthropic", model="m", price=PRICE, max_tokens=100)
        self.events: list[Event] = []
        self.context = JobContext(emit=self.emit)
        self.stops_at: str | None = None
        self.stopped_at = 0.0
        self.replies: dict[int, StoredReply] = {}
        self.run_id = project.runs.find_or_create("run", Stage.JUDGE).id

    def emit(self, event: Event) -> None:
        """Keep an event; the user stops the job when the log says what `stops_at` does."""
        self.events.append(event)
        if isinstance(event, Log) and self.stops_at is not None and self.stops_at in event.text:
            self.stopped_at = time.monotonic()
            self.context.cancel_requested.set()

    def request(self, number: int) -> ChatRequest:
        turns = (Message("user", f"question {number}"),)
        return ChatRequest.for_service(self.service, turns, "judge")

    def requests(self, count: int) -> Iterator[tuple[ChatRequest, int]]:
        for number in range(count):
            yield self.request(number), number

    def take(self, number: int, reply: StoredReply) -> ChatRequest | None:
        assert number not in self.replies, "told once"
        self.replies[number] = reply
        row = self.project.replies.find(reply.key)
        assert row is not None
        assert row.state == ("failed" if reply.error else "done"), "stored before it counts"
        return None

    def engine(self, **pace: float) -> BatchEngine:
        return BatchEngine(
            self.remote,
            self.service,
            self.project.replies,
            self.project.batches,
            self.run_id,
            self.context,
            pace=BatchPace(**{**_values(PACE), **pace}),
        )

    def ask(self, count: int, **pace: float) -> EngineStats:
        return self.engine(**pace).run_blocking(self.requests(count), self.take)

    def log(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Log))

    def states(self) -> list[str]:
        return [batch.state for batch in self.project.batches.all()]

    def assert_all_right(self, count: int) -> None:
        texts = {number: reply.text for number, reply in self.replies.items()}
        assert texts == {number: f"echo question {number}" for number in range(count)}

    def assert_paid_once(self, count: int) -> None:
        paid = {number: self.remote.paid[f"question {number}"] for number in range(count)}
        assert set(paid.values()) == {1}


def _values(pace: BatchPace) -> dict[str, float]:
    return {name: getattr(pace, name) for name in BatchPace.__dataclass_fields__}


def fails(number: int, error: ProviderError | None, times: int = 1) -> Any:
    """An answer that gives request `number` this outcome so many times."""
    left = [times]

    def answer(request: ChatRequest) -> Outcome:
        if request.messages[-1].content == f"question {number}" and left[0] > 0:
            left[0] -= 1
            return error
        return echo(request)

    return answer


def hand_in_and_stop(asker: Asker, count: int) -> None:
    asker.stops_at = "Handed in"
    with pytest.raises(JobCancelledError):
        asker.ask(count, first_poll_s=60.0)
    asker.stops_at = None
    asker.context.cancel_requested.clear()


def kill_while_handing_in(asker: Asker, count: int) -> None:
    """Leave the database and the service as a kill between submission and its answer does."""

    class Killed(BaseException):
        pass

    submit = asker.remote.submit_batch

    async def submit_and_die(requests: Any, label: str) -> str:
        await submit(requests, label)
        raise Killed

    asker.remote.submit_batch = submit_and_die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        asker.ask(count)
    asker.remote.submit_batch = submit  # type: ignore[method-assign]


def echo_text(request: ChatRequest) -> str:
    return f"echo {request.messages[-1].content}"
