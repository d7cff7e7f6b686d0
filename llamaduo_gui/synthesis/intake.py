"""Takes a round's replies in the order of the requests and stores every pair, kept or rejected."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from llamaduo_gui.core.config import ServiceConfig, SynthesisConfig
from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.core.types import Record, RecordStatus, RejectReason
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.ledger import StoredReply
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewSynthetic, RecordRow, RunRow
from llamaduo_gui.synthesis.filtering import PairFilter, Rejection
from llamaduo_gui.synthesis.parse import ParsedPair, ParseReject, parse_reply
from llamaduo_gui.synthesis.plan import RequestPlan
from llamaduo_gui.synthesis.prompts import SeedPair

# That many replies in a row without one pair to keep: more of them would only cost money.
FRUITLESS_REPLIES = 25
_KEY_DIGITS = 12
_NOTIFY_INTERVAL_S = 0.5
BY_HAND = "by_hand"


@dataclass(slots=True)
class Yield:
    """What a round's requests brought.

    Attributes:
        requests: requests whose replies were taken in.
        replies: those that were answered; the rest failed for good.
        parsed: pairs of the form that was asked for.
        kept: pairs used, by category in `kept_by_category`; `rejected` counts the others by reason.
    """

    requests: int = 0
    replies: int = 0
    parsed: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    kept_by_category: Counter[str] = field(default_factory=Counter)

    def keep(self, record: Record) -> None:
        """Count a pair that is used."""
        self.kept += 1
        self.kept_by_category[record.category] += 1


@dataclass(slots=True)
class Intake:
    """Sends no more requests than are needed, and takes their replies in request order.

    Which pairs are kept depends on the order they are compared in, so replies wait for those of
    earlier requests: the result does not depend on the network. Requests under way are never more
    than would fill the round if all their pairs were kept, so that none is paid for in vain.

    A pair that is in the database already (the run was interrupted, or a person accepted or
    rejected it) keeps the status it has there. Pairs of requests that the present settings would
    not make count as kept pairs of the round, and later ones must differ from them; so must they
    from what a person rejected.

    A category that has its quota gets no further request. A request of it waits while those under
    way could still fill the quota, so whether it is sent does not depend on the network either;
    the last reply may bring a few pairs more than the quota, and they are kept.
    """

    project: Project
    run: RunRow
    context: JobContext
    teacher: ServiceConfig
    settings: SynthesisConfig
    round_number: int
    plan: RequestPlan
    pair_filter: PairFilter
    result: Yield = field(default_factory=Yield)
    _meter: ProgressMeter = field(init=False)
    _existing: dict[str, RecordRow] = field(default_factory=dict)
    _waiting: dict[int, StoredReply] = field(default_factory=dict)
    _under_way: Counter[str] = field(default_factory=Counter)
    _passed_over: set[int] = field(default_factory=set)
    _looked_at: int = 0
    _next: int = 0
    _fruitless: int = 0
    _last_notice: float = 0.0
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Take over what an earlier attempt stored."""
        rows = self.project.records.synthetic(self.round_number)
        self._existing = {row.source: row for row in rows}
        if rows:
            self._take_over_leftovers(rows)
        self._meter = ProgressMeter(
            self.context, self.run.id, self.target, "pairs", initial=min(self.kept, self.target)
        )

    @property
    def target(self) -> int:
        """Pairs to keep."""
        return self.settings.pairs_per_round

    @property
    def kept(self) -> int:
        """Pairs kept so far."""
        return self.result.kept

    @property
    def max_requests(self) -> int:
        """Requests after which the round ends with what it has."""
        return len(self.plan)

    @property
    def is_fruitless(self) -> bool:
        """Whether the last replies brought nothing, one after the other."""
        return self._fruitless >= FRUITLESS_REPLIES

    @property
    def is_over(self) -> bool:
        """Whether no further request is wanted."""
        return self.kept >= self.target or self.is_fruitless or self.has_all_quotas

    @property
    def has_all_quotas(self) -> bool:
        """Whether every category has the pairs it may have."""
        return not self.plan.has_room_beyond_quotas and all(map(self._is_full, self.plan.quotas))

    def request(self, index: int) -> ChatRequest:
        """Request `index` of the round; the same whenever it is asked."""
        return self.plan.request(index, self.teacher)

    async def requests(self) -> AsyncIterator[tuple[ChatRequest, int]]:
        """Requests with their index, each as soon as it is sure to be needed."""
        while not self.is_over and self._looked_at < self.max_requests:
            index = self._looked_at
            category = self.plan.record(index).category
            if self._is_full(category):
                self._looked_at += 1
                self._passed_over.add(index)
                self._take_waiting()
            elif self._has_room(category):
                self._looked_at += 1
                self._under_way[category] += 1
                yield self.request(index), index
            else:
                self._room.clear()
                await self._room.wait()

    def on_reply(self, index: int, reply: StoredReply) -> None:
        """Take in a reply, and those that waited for it."""
        self._waiting[index] = reply
        self._take_waiting()
        self._room.set()

    def _take_waiting(self) -> None:
        while not self.is_over:
            if self._next in self._passed_over:
                self._next += 1
            elif (reply := self._waiting.pop(self._next, None)) is not None:
                self._take(self._next, reply)
                self._under_way[self.plan.record(self._next).category] -= 1
                self._next += 1
                self.result.requests += 1
            else:
                return

    def _has_room(self, category: str) -> bool:
        """Whether a request is needed even if all pairs of those under way are kept."""
        each = self.settings.pairs_per_request
        if self._under_way.total() * each >= self.target - self.kept:
            return False
        quota = self.plan.quotas.get(category)
        kept = self.result.kept_by_category[category]
        return quota is None or self._under_way[category] * each < quota - kept

    def _is_full(self, category: str) -> bool:
        quota = self.plan.quotas.get(category)
        return quota is not None and self.result.kept_by_category[category] >= quota

    def counts(self) -> dict[str, int]:
        """How many pairs were asked for, read, kept, and rejected by reason ("rejected.REASON")."""
        result = self.result
        rejected = {f"rejected.{name}": number for name, number in sorted(result.rejected.items())}
        asked = result.requests * self.settings.pairs_per_request
        return {"asked": asked, "parsed": result.parsed, "kept": result.kept, **rejected}

    def finish(self) -> None:
        """Count what an earlier attempt stored and this one did not get to; report the end."""
        for row in self._existing.values():
            self._count(row)
        self._existing.clear()
        self._notify(is_last=True)

    def _take(self, index: int, reply: StoredReply) -> None:
        """Check and store the pairs of one reply."""
        seed = SeedPair.of(self.plan.record(index))
        kept_before = self.kept
        new = []
        for place, item in enumerate(self._parse(reply)):
            self.result.parsed += isinstance(item, ParsedPair)
            name = f"{reply.key[:_KEY_DIGITS]}:{place}"
            source = f"{self.run.key}:{name}"
            if (row := self._existing.pop(source, None)) is not None:
                self._count(row)
            else:
                record = seed.new_record(
                    item.instruction,
                    item.response,
                    f"r{self.round_number}-{name.replace(':', '-')}",
                    self.teacher.name,
                )
                new.append(self._decide(item, record, seed, source))
        self.project.records.add_synthetic(new)
        fresh = self.kept - kept_before
        self._fruitless = 0 if fresh else self._fruitless + 1
        shown = min(fresh, max(0, self.target - self._meter.done))
        if reply.is_from_store:
            self._meter.initial += shown
        rejected = self.result.rejected.total()
        self._meter.update(shown, message=f"{self.kept} kept, {rejected} rejected")
        self._notify()

    def _parse(self, reply: StoredReply) -> list[ParsedPair | ParseReject]:
        if reply.reply is None:
            return [ParseReject(RejectReason.REFUSED, reply.error)]
        self.result.replies += 1
        return parse_reply(reply.reply.text, reply.reply.finish_reason)

    def _decide(
        self, item: ParsedPair | ParseReject, record: Record, seed: SeedPair, source: str
    ) -> NewSynthetic:
        rejection = item if isinstance(item, ParseReject) else self.pair_filter.check(record, seed)
        if rejection is None:
            self.pair_filter.keep(record)
            self.result.keep(record)
            return NewSynthetic(record, self.round_number, source)
        self.result.rejected[rejection.reason.value] += 1
        return NewSynthetic(
            record,
            self.round_number,
            source,
            RecordStatus.REJECTED,
            rejection.reason,
            rejection.detail,
            rejection.against if isinstance(rejection, Rejection) else "",
        )

    def _count(self, row: RecordRow) -> None:
        if row.status is RecordStatus.KEPT:
            self.pair_filter.keep(row.record)
            self.result.keep(row.record)
        else:
            if row.is_decided_by_hand:
                self.pair_filter.keep(row.record)
            self.result.rejected[row.reject_reason or BY_HAND] += 1

    def _take_over_leftovers(self, rows: list[RecordRow]) -> None:
        """Count pairs whose requests are not among those of the present settings."""
        names = {
            f"{self.run.key}:{self.request(index).key()[:_KEY_DIGITS]}"
            for index in range(self.max_requests)
        }
        for row in rows:
            if row.source.rpartition(":")[0] not in names:
                self._count(self._existing.pop(row.source))

    def _notify(self, *, is_last: bool = False) -> None:
        now = time.monotonic()
        if is_last or now - self._last_notice >= _NOTIFY_INTERVAL_S:
            self._last_notice = now
            self.project.runs.set_progress(self.run.id, min(self.kept, self.target), self.target)
            for name, value in self.counts().items():
                self.context.metric(self.run.id, name, value, self.result.requests)
            self.context.changed("records", "replies")
