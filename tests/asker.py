"""Uses the request engine as a stage does, and keeps what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.events import Event
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.providers.ledger import EngineStats, StoredReply
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project
from tests.fakes.openai_server import FakeOpenAI

PAIRS = [(f"question number {n}", f"answer {n}") for n in range(400)]


class Asker:
    """Runs the engine the way a stage does and keeps what it is told."""

    def __init__(self, project: Project, server: FakeOpenAI, **limits: Any) -> None:
        self.project = project
        self.service = ServiceConfig(
            **{
                "provider": "openai_compatible",
                "model": "fake-model",
                "base_url": server.url,
                "timeout_s": 10,
                **limits,
            }
        )
        self.events: list[Event] = []
        self.context = JobContext(emit=self.events.append)
        self.replies: dict[int, StoredReply] = {}

    def request(self, number: int) -> ChatRequest:
        return ChatRequest.for_service(
            self.service, (Message("user", PAIRS[number][0]),), "answer", temperature=0.0
        )

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

    def engine(self) -> RequestEngine:
        provider = make_provider(self.service, {"openai_compatible": "k"})
        return RequestEngine(provider, self.service, self.project.replies, None, self.context)

    def ask(self, count: int) -> EngineStats:
        return self.engine().run_blocking(self.requests(count), self.take)

    def assert_all_right(self, count: int) -> None:
        assert {number: reply.text for number, reply in self.replies.items()} == {
            number: PAIRS[number][1] for number in range(count)
        }

    def ask_again(self, count: int) -> EngineStats:
        """The same as a run of its own, as after a restart."""
        self.replies.clear()
        return self.ask(count)
