"""What parent and child say to each other, as JSON lines.

Parent to child on standard input: first a job with its secrets, then commands. Child to
parent on standard output: the events of `core.events`. Closing standard input means the
parent is gone and cancels the job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llamaduo_gui.core.errors import LlamaDuoError

CANCEL = "cancel"
PAUSE = "pause"
# Of a chat (worker.chat_job).
ASK = "ask"
STOP = "stop"
UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One piece of work for a child process.

    Attributes:
        kind: name of a job in `worker.child.JOBS`.
        project: folder of the project, or empty for a job without one.
        options: JSON-able arguments of the job.
        providers: whose API keys the job needs.
    """

    kind: str
    project: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    providers: tuple[str, ...] = ()


def encode_job(spec: JobSpec, secrets: Mapping[str, str]) -> str:
    """The first line a child reads; the only place where keys cross a process border."""
    return json.dumps(
        {
            "kind": spec.kind,
            "project": spec.project,
            "options": dict(spec.options),
            "secrets": dict(secrets),
        }
    )


def decode_job(line: str) -> tuple[JobSpec, dict[str, str]]:
    """The job and its secrets.

    Raises:
        LlamaDuoError: the line is not a job. The text never repeats the line.
    """
    try:
        data = json.loads(line)
        spec = JobSpec(data["kind"], data["project"], data["options"])
        return spec, dict(data["secrets"])
    except (json.JSONDecodeError, KeyError, TypeError):
        raise LlamaDuoError("The first line on standard input is not a job.") from None


def encode_command(name: str, **values: Any) -> str:
    """A command to a running child."""
    return json.dumps({"command": name, **values}, ensure_ascii=False)


def decode_command(line: str) -> tuple[str, dict[str, Any]] | None:
    """Name and values of a command, or None if the line is none."""
    try:
        data = json.loads(line)
        return str(data.pop("command")), data
    except (json.JSONDecodeError, KeyError, AttributeError):
        return None
