"""What queries return and accept: plain values, one dataclass a table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llamaduo_gui.core.events import Level
from llamaduo_gui.core.types import (
    Origin,
    Record,
    RecordStatus,
    RejectReason,
    RunStatus,
    Split,
    Stage,
)

ReplyState = Literal["in_flight", "in_batch", "done", "failed"]
BatchRowState = Literal["noted", "running", "finished", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A stored record: one conversation and what became of it."""

    id: int
    record: Record
    split: Split
    origin: Origin
    round: int
    status: RecordStatus
    reject_reason: RejectReason | None
    reject_detail: str
    source: str
    rejected_against: str = ""

    @property
    def is_decided_by_hand(self) -> bool:
        """Whether a person accepted or rejected the pair: its reason does not say its status.

        A pair that was accepted keeps the reason it had been rejected for; one that was rejected
        has none.
        """
        is_kept = self.status is RecordStatus.KEPT
        return is_kept == (self.reject_reason is not None)


@dataclass(frozen=True, slots=True)
class NewSynthetic:
    """A synthetic pair to store. `source` is "run:request:pair", unique in the project.

    `rejected_against` is the prompt_id of the record it is too close to, if that is the reason.
    """

    record: Record
    round: int
    source: str
    status: RecordStatus = RecordStatus.KEPT
    reject_reason: RejectReason | None = None
    reject_detail: str = ""
    rejected_against: str = ""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One execution of one stage. Times are seconds since the epoch."""

    id: int
    key: str
    parent_id: int | None
    stage: Stage
    round: int | None
    label: str
    split: Split | None
    status: RunStatus
    config: dict[str, Any]
    seed: int
    versions: dict[str, str]
    attempts: int
    done: int
    total: int
    pid: int | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    spent_s: float
    error: str
    summary: dict[str, Any]

    @property
    def elapsed_s(self) -> float:
        """Seconds worked on this run so far, over all attempts."""
        if self.status is RunStatus.RUNNING and self.started_at is not None:
            return self.spent_s + time.time() - self.started_at
        return self.spent_s


@dataclass(frozen=True, slots=True)
class ReplyRow:
    """One request to a service LLM and, when it is done, the reply."""

    id: int
    request_key: str
    run_id: int | None
    provider: str
    model: str
    purpose: str
    request: dict[str, Any]
    state: ReplyState
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    latency_s: float | None
    attempts: int
    losses: int
    error: str
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    lost_usd: float | None = None
    batch_id: int | None = None


@dataclass(frozen=True, slots=True)
class BatchRow:
    """Requests handed in together at half the price. Times are seconds since the epoch.

    `done` of the `total` requests are answered, as far as the service tells; `remote_id` is None
    until the service has named the batch.
    """

    id: int
    run_id: int | None
    provider: str
    base_url: str
    model: str
    label: str
    remote_id: str | None
    state: BatchRowState
    done: int
    total: int
    problem: str
    created_at: float
    finished_at: float | None

    @property
    def is_open(self) -> bool:
        """Whether results are still to come."""
        return self.state in ("noted", "running")


@dataclass(frozen=True, slots=True)
class NewCandidate:
    """One sampled response. `error` says why there is none (then `text` is empty)."""

    run_id: int
    record_id: int
    sample: int
    text: str
    seed: int
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A stored response with its identity."""

    id: int
    run_id: int
    record_id: int
    sample: int
    text: str
    seed: int
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float | None
    error: str


@dataclass(frozen=True, slots=True)
class NewJudgement:
    """One judgement: both scores with their reasons, or the reason why it is unscored."""

    run_id: int
    candidate_id: int
    judge: str
    repeat: int
    precision: float | None
    similarity: float | None
    precision_reason: str = ""
    similarity_reason: str = ""
    unscored_reason: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class JudgementRow:
    """A stored judgement with its identity."""

    id: int
    run_id: int
    candidate_id: int
    judge: str
    repeat: int
    precision: float | None
    similarity: float | None
    precision_reason: str
    similarity_reason: str
    unscored_reason: str
    raw: str

    @property
    def is_scored(self) -> bool:
        """Whether both scores are there."""
        return self.precision is not None and self.similarity is not None


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """A file or folder a run made. `path` is relative to the project folder."""

    id: int
    run_id: int
    kind: str
    round: int | None
    path: str
    size_bytes: int
    sha256: str
    meta: dict[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of the project's log."""

    id: int
    run_id: int | None
    at: float
    level: Level
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records a view shows. Empty values do not narrow; `text` is searched in both turns.

    `is_by_hand` leaves only what a person accepted or rejected.
    """

    text: str = ""
    splits: frozenset[Split] = frozenset()
    origins: frozenset[Origin] = frozenset()
    statuses: frozenset[RecordStatus] = frozenset()
    reasons: frozenset[RejectReason] = frozenset()
    category: str = ""
    round: int | None = None
    is_by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests, tokens and money of a set of replies; `unpriced` replies have no known price.

    `lost_usd` is what requests lost in flight may have cost at most; it is not in `cost_usd`.
    """

    requests: int = 0
    failed: int = 0
    lost_in_flight: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    lost_usd: float = 0.0
    by_purpose: Mapping[str, int] = field(default_factory=dict)
