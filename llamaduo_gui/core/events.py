"""The events a job sends to whoever watches it, one JSON object a line (DESIGN section 4)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

Level = Literal["debug", "info", "warning", "error"]
ChatKind = Literal["loaded", "writing", "answered", "failed"]


@dataclass(frozen=True, slots=True)
class Started:
    """A run began. `units` is what its progress counts ("steps", "responses")."""

    type: ClassVar[str] = "started"
    run_id: int
    stage: str
    round: int | None = None
    label: str = ""
    units: str = ""
    total: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come; `eta_s` is None until it can be told."""

    type: ClassVar[str] = "progress"
    run_id: int
    done: int
    total: int
    units: str = ""
    eta_s: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class MetricLogged:
    """A number measured on the way, such as the training loss at a step."""

    type: ClassVar[str] = "metric"
    run_id: int
    name: str
    value: float
    step: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """Rows of these tables changed; views that show them query again."""

    type: ClassVar[str] = "changed"
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the log view; never holds a key or a prompt in full."""

    type: ClassVar[str] = "log"
    level: Level
    source: str
    text: str
    run_id: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a chat answer as it is written."""

    type: ClassVar[str] = "token"
    text: str
    chat_id: int = 0


@dataclass(frozen=True, slots=True)
class Chat:
    """What a chat process says about its model and answers, beside the tokens themselves.

    `data` describes the model (`loaded`), counts what is written so far (`writing`), has the
    answer with its measures (`answered`), or the `error` that left a question without an
    answer (`failed`); `worker.chat_job` names the keys.
    """

    type: ClassVar[str] = "chat"
    kind: ChatKind
    chat_id: int = 0
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """A run ended. The last `finished` of a child carries its `result` for `--json`."""

    type: ClassVar[str] = "finished"
    run_id: int
    status: str
    error: str = ""
    is_user_error: bool = False
    is_job: bool = False
    result: dict[str, Any] = field(default_factory=dict)


Event = Started | Progress | MetricLogged | Changed | Log | Token | Chat | Finished

_BY_TYPE: dict[str, type[Any]] = {
    kind.type: kind
    for kind in (Started, Progress, MetricLogged, Changed, Log, Token, Chat, Finished)
}


def to_line(event: Event) -> str:
    """One JSON line, without the line break."""
    return json.dumps({"type": event.type, **asdict(event)}, ensure_ascii=False)


def from_line(line: str) -> Event | None:
    """Parse one line; None if it is not an event (a library printed to standard output)."""
    try:
        data = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(data, dict):
        return None
    kind = _BY_TYPE.get(str(data.pop("type", "")))
    if kind is None:
        return None
    if kind is Changed:
        data["tables"] = tuple(data.get("tables", ()))
    try:
        event: Event = kind(**data)
    except TypeError:
        return None
    return event
