"""What the Try page offers, read from the project; no widgets here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.types import Split
from llamaduo_gui.gui.chat_model import ChatOptions
from llamaduo_gui.gui.models.text_lines import one_line, shared_beginning
from llamaduo_gui.gui.widgets.wording import format_size

if TYPE_CHECKING:
    from llamaduo_gui.core.types import Record
    from llamaduo_gui.store.project import Project
    from llamaduo_gui.store.rows import ArtifactRow

MAX_EXAMPLES = 4
_SYSTEM_AND_USER = ("system", "user")
_USER = ("user",)


@dataclass(frozen=True, slots=True)
class ChatTarget:
    """A GGUF file that can be loaded.

    Attributes:
        name: what it is called beside its marker.
        choice: one line in a list of such files.
        size_bytes: 0 if the file is gone.
        is_exported: whether a project made it, rather than the user opened it.
    """

    path: Path
    name: str
    choice: str
    size_bytes: int
    is_exported: bool

    @property
    def exists(self) -> bool:
        """Whether the file was there when this was read."""
        return self.size_bytes > 0


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt to start from; `label` leaves out what all prompts begin with."""

    prompt: str
    label: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class TryView:
    """The project's exported files, newest first, prompts of its test split, and settings."""

    targets: tuple[ChatTarget, ...] = ()
    examples: tuple[Example, ...] = ()
    options: ChatOptions = field(default_factory=ChatOptions)


def read_try(project: Project) -> TryView:
    """Read what can be tried; files are looked at, not opened."""
    rows = sorted(project.artifacts.all("gguf"), key=lambda row: (-row.created_at, -row.id))
    records = [row.record for row in project.records.by_split(Split.TEST)]
    try:
        config = project.config
    except ConfigError:
        options = ChatOptions()
    else:
        options = ChatOptions(
            temperature=config.inference.temperature,
            max_new_tokens=config.inference.max_new_tokens,
            seed=config.seed,
        )
    return TryView(
        tuple(_exported(project.artifacts.absolute(row), row) for row in rows),
        choose_examples(records),
        options,
    )


def opened_file(path: Path) -> ChatTarget:
    """A file the user chose."""
    size = _size(path)
    return ChatTarget(path, path.stem, f"{path.name}, {format_size(size)}", size, False)


def choose_examples(records: Sequence[Record]) -> tuple[Example, ...]:
    """A few single-turn prompts, of as many categories as there are."""
    fitting = [record for record in records if _roles(record) in (_USER, _SYSTEM_AND_USER)]
    chosen: dict[str, Record] = {}
    for record in fitting:
        chosen.setdefault(record.category, record)
    picked = list(chosen.values())
    picked += [record for record in fitting if record not in picked]
    beginning = shared_beginning([record.prompt_messages[-1].content for record in fitting])
    return tuple(_example(record, beginning) for record in picked[:MAX_EXAMPLES])


def _roles(record: Record) -> tuple[str, ...]:
    return tuple(message.role for message in record.prompt_messages)


def _example(record: Record, beginning: str) -> Example:
    prompt = record.prompt_messages[-1].content
    system = record.messages[0].content if record.messages[0].role == "system" else ""
    return Example(prompt, one_line(prompt, beginning), system)


def _exported(path: Path, row: ArtifactRow) -> ChatTarget:
    quant = str(row.meta.get("quant", ""))
    size = _size(path)
    parts = [quant or path.stem]
    if row.round is not None:
        parts.append(f"round {row.round}")
    parts.append(format_size(size) if size else "file missing")
    return ChatTarget(path, f"Exported GGUF {quant}".strip(), ", ".join(parts), size, True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
