"""Who waits for which request of the batch engine, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from llamaduo_gui.core.errors import ProviderError, TransientProviderError
from llamaduo_gui.providers.base import ChatRequest, Reply
from llamaduo_gui.providers.batch_link import BatchLink
from llamaduo_gui.providers.dispatch import OnReply
from llamaduo_gui.providers.ledger import EngineStats, StoredReply

# Batches that leave a request without an answer before it is given up.
MAX_FAULTS = 3

Tag = TypeVar("Tag")


@dataclass(slots=True, eq=False)
class Work(Generic[Tag]):
    """A request that has no outcome yet, and everybody who asked for it.

    `faults` counts the batches that left it without an answer.
    """

    request: ChatRequest
    key: str
    tags: list[Tag]
    attempts: int = 0
    faults: int = 0


class RequestBook(Generic[Tag]):
    """The requests of one run, from the first time they are asked for to their outcome.

    Args:
        link: the database and the budget.
        on_reply: told every outcome once it is stored; may return a further request.
        adopt: told the batch that a request is in already; False if that batch is over.

    Attributes:
        pending: what is to be handed in next, in order.
        stats: the counts of the run.
    """

    def __init__(
        self, link: BatchLink, on_reply: OnReply[Tag], adopt: Callable[[int], bool]
    ) -> None:
        self._link = link
        self._on_reply = on_reply
        self._adopt = adopt
        self._active: dict[str, Work[Tag]] = {}
        self.pending: list[Work[Tag]] = []
        self.stats = EngineStats()

    def admit(self, request: ChatRequest, tag: Tag) -> None:
        """Answer a request from the database, wait for its batch, or note that it is pending."""
        key = request.key()
        if key in self._active:
            self._active[key].tags.append(tag)
            return
        row = self._link.replies.find(key)
        if row is not None and row.state == "done":
            self.stats.from_store += 1
            self._deliver(StoredReply.from_row(request, key, row), [tag])
            return
        self._active[key] = work = Work(request, key, [tag])
        if row is not None and row.state == "in_batch" and row.batch_id is not None:
            work.attempts = max(1, row.attempts)
            if self._adopt(row.batch_id):
                self._link.hold(key, request)
                return
        if row is not None and row.state == "in_flight":
            # It was asked live by a process that died.
            lost_usd = self._link.lost_usd(request, is_batch=False)
            self._link.replies.lose({key: lost_usd})
            self._count_lost(lost_usd)
        self.pending.append(work)

    def settle(self, key: str, outcome: Reply | ProviderError) -> None:
        """Store one result of a batch, then hand it to everybody who waits for it.

        One that may succeed another time stays in its batch until that is put away.
        """
        work = self._active.get(key)
        if isinstance(outcome, Reply):
            attempts = work.attempts if work is not None else 1
            reply = self._link.priced(work.request if work is not None else None, outcome)
            self._link.complete(key, reply, attempts)
            self.stats.done += 1
            if work is not None:
                self._finish(work, StoredReply(work.request, key, reply, attempts=attempts))
        elif not isinstance(outcome, TransientProviderError):
            self.give_up(key, str(outcome))
        elif work is not None:
            work.faults += 1
            if work.faults >= MAX_FAULTS:
                self.give_up(key, str(outcome))

    def give_up(self, key: str, error: str) -> None:
        """Store that a request cannot succeed, then tell everybody who waits for it."""
        work = self._active.get(key)
        attempts = work.attempts if work is not None else 1
        self._link.fail(key, error, attempts)
        self.stats.failed += 1
        if work is not None:
            outcome = StoredReply(work.request, key, None, error=error, attempts=attempts)
            self._finish(work, outcome)

    def put_back(self, keys: set[str]) -> None:
        """Have those of `keys` that somebody waits for handed in again."""
        for work in [work for key, work in self._active.items() if key in keys]:
            self.pending.append(work)
            self.stats.retried += 1

    def lose(self, keys: set[str]) -> dict[str, float | None]:
        """Count requests whose batch is lost; what each may have cost, None if not known."""
        works = {key: self._active.get(key) for key in keys}
        lost = {
            key: self._link.lost_usd(work.request) if work is not None else None
            for key, work in works.items()
        }
        for usd in lost.values():
            self._count_lost(usd)
        return lost

    def _count_lost(self, usd: float | None) -> None:
        self.stats.lost += 1
        self.stats.lost_usd += usd or 0.0

    def _finish(self, work: Work[Tag], outcome: StoredReply) -> None:
        del self._active[work.key]
        self._deliver(outcome, work.tags)

    def _deliver(self, outcome: StoredReply, tags: list[Tag]) -> None:
        for tag in tags:
            further = self._on_reply(tag, outcome)
            if further is not None:
                self.admit(further, tag)
