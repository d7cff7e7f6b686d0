"""A batch API in memory that does what a test's script says, and counts what it was paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from llamaduo_gui.core.errors import ProviderError, RequestRejectedError
from llamaduo_gui.providers.base import BatchState, BatchStatus, ChatRequest, ModelInfo, Reply

Outcome = Reply | ProviderError | None
Answer = Callable[[ChatRequest], Outcome]


def echo(request: ChatRequest) -> Outcome:
    """The prompt once more, at 1,000 tokens read and 100 written."""
    return Reply(f"echo {request.messages[-1].content}", prompt_tokens=1000, completion_tokens=100)


@dataclass
class RemoteBatch:
    """A batch as the service has it. Its state after so many polls is `state`."""

    label: str
    requests: dict[str, ChatRequest]
    polls_left: int
    state: BatchState = "ended"
    problem: str = ""
    is_cancelled: bool = False
    paid: set[str] = field(default_factory=set)


@dataclass
class ScriptedBatches:
    """A provider that answers in batches.

    Attributes:
        answer: what comes of a request; None leaves it out of the results.
        polls: how often a batch is still running when it is asked after.
        faults: raised by the next calls of each name, in order, None for a call that works.
        lost_answers: so many next submissions arrive, and their answers do not.
        turned_down: problems of the next batches, which fail as a whole; None for one that does
            not.
        keeps_labels: whether batches are found by their label.
        paid: how often each prompt was answered.
    """

    answer: Answer = echo
    polls: int = 1
    limit: int = 1000
    faults: dict[str, list[ProviderError | None]] = field(default_factory=dict)
    lost_answers: list[ProviderError] = field(default_factory=list)
    turned_down: list[str | None] = field(default_factory=list)
    keeps_labels: bool = True
    batches: dict[str, RemoteBatch] = field(default_factory=dict)
    paid: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    name = "scripted"

    @property
    def batch_limit(self) -> int:
        return self.limit

    @property
    def sizes(self) -> list[int]:
        """Requests of each batch that arrived, in order."""
        return [len(batch.requests) for batch in self.batches.values()]

    async def complete(self, request: ChatRequest) -> Reply:
        self._count("complete")
        outcome = self.answer(request)
        assert isinstance(outcome, Reply)
        self.paid[request.messages[-1].content] += 1
        return outcome

    def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        raise NotImplementedError

    async def list_models(self) -> Sequence[ModelInfo]:
        return []

    async def close(self) -> None:
        self.calls["close"] += 1

    async def submit_batch(self, requests: Mapping[str, ChatRequest], label: str) -> str:
        self._count("submit")
        batch = RemoteBatch(label, dict(requests), self.polls)
        if self.turned_down and (problem := self.turned_down.pop(0)) is not None:
            batch.state, batch.problem = "failed", problem
        remote_id = f"remote-{len(self.batches)}"
        self.batches[remote_id] = batch
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        return remote_id

    async def find_batch(self, label: str) -> str | None:
        self._count("find")
        found = [name for name, batch in self.batches.items() if batch.label == label]
        return found[-1] if found and self.keeps_labels else None

    async def batch_status(self, batch_id: str) -> BatchStatus:
        self._count("status")
        batch = self._get(batch_id)
        total = len(batch.requests)
        if batch.is_cancelled:
            return BatchStatus("cancelled", 0, total)
        if batch.polls_left > 0:
            batch.polls_left -= 1
            return BatchStatus("running", total // 2, total)
        return BatchStatus(batch.state, total, total, batch.problem)

    async def batch_results(
        self, batch_id: str
    ) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
        self._count("results")
        batch = self._get(batch_id)
        for key, request in batch.requests.items():
            outcome = self.answer(request)
            # Reading results again is free.
            if isinstance(outcome, Reply) and key not in batch.paid:
                batch.paid.add(key)
                self.paid[request.messages[-1].content] += 1
            if outcome is not None:
                yield key, outcome

    async def cancel_batch(self, batch_id: str) -> None:
        self._count("cancel")
        self._get(batch_id).is_cancelled = True

    def _get(self, batch_id: str) -> RemoteBatch:
        if batch_id not in self.batches:
            raise RequestRejectedError("There is no such batch (404).")
        return self.batches[batch_id]

    def _count(self, name: str) -> None:
        self.calls[name] += 1
        if self.faults.get(name) and (fault := self.faults[name].pop(0)) is not None:
            raise fault
