"""The vocabulary of the project: records, splits, stages, candidates and judgements."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


class Split(StrEnum):
    """Which part of the data a record belongs to; frozen when the project is made."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Origin(StrEnum):
    """Where a record comes from."""

    COVERAGE = "coverage"
    SYNTHETIC = "synthetic"


class RecordStatus(StrEnum):
    """Whether a record is used; rejected records are kept and shown with their reason."""

    KEPT = "kept"
    REJECTED = "rejected"


class RejectReason(StrEnum):
    """Why a synthetic pair was not used."""

    SCHEMA = "schema"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    TOO_CLOSE_TO_SEED = "too_close_to_seed"
    CONTAMINATED = "contaminated"
    REFUSED = "refused"
    TRUNCATED = "truncated"


class Stage(StrEnum):
    """A step of the loop; each is also usable alone."""

    PIPELINE = "pipeline"
    SYNTHESIZE = "synthesize"
    FINETUNE = "finetune"
    INFER = "infer"
    JUDGE = "judge"
    DECIDE = "decide"
    EXPORT = "export"
    CERTIFY = "certify"
    REPORT = "report"
    CHAT = "chat"


class RunStatus(StrEnum):
    """The state of one execution of one stage."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def is_resumable(self) -> bool:
        """Whether the run stopped before its end and can be taken up again."""
        return self in (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.INTERRUPTED)


class ModelKind(StrEnum):
    """Which weights answered: the rows of every results table.

    `CEILING` is the service LLM once more, judged against itself as a student would be.
    """

    SERVICE = "service"
    CEILING = "ceiling"
    BASE = "base"
    TUNED = "tuned"
    GGUF = "gguf"


class Metric(StrEnum):
    """What a judge scores, 1..100 each (DESIGN section 3)."""

    PRECISION = "precision"
    SIMILARITY = "similarity"


# Name of the score that is the mean over all judges, beside the names of the judges.
POOLED = "pooled"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def to_dict(self) -> dict[str, str]:
        """The turn in the wire form shared by chat APIs and chat templates."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Record:
    """One conversation; the last message is the assistant's target response.

    Attributes:
        messages: optional system turn, user turn, ..., final assistant turn.
        category: the kind of prompt, used for stratified splits and seed selection.
        prompt_id: stable identifier of the prompt within its project.
        generator: model that wrote the pair, None for the user's own data.
        seed_prompt: prompt_id of the record a synthetic pair was made from.
    """

    messages: tuple[Message, ...]
    category: str
    prompt_id: str
    generator: str | None = None
    seed_prompt: str | None = None

    @property
    def prompt_messages(self) -> tuple[Message, ...]:
        """Everything before the target response."""
        return self.messages[:-1]

    @property
    def target(self) -> str:
        """The response the user wants."""
        return self.messages[-1].content

    @property
    def instruction(self) -> str:
        """The prompt as one text: the last user turn, with earlier turns named before it."""
        return render_prompt(self.prompt_messages)


def render_prompt(messages: tuple[Message, ...]) -> str:
    """Flatten prompt turns into one text; a single user turn is returned unchanged."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in messages)


def messages_from_dicts(items: list[dict[str, Any]]) -> tuple[Message, ...]:
    """Build turns from their wire form; the caller has checked roles and contents."""
    return tuple(Message(item["role"], item["content"]) for item in items)


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one reply: `cached` and `cache_write` are in `prompt`, `reasoning` in the rest."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
