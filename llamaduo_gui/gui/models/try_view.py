"""What the Try page offers, read from the project; no widgets here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.types import ModelKind, Split
from llamaduo_gui.gui.chat_model import ChatOptions
from llamaduo_gui.gui.models.text_lines import one_line, shared_beginning
from llamaduo_gui.gui.widgets.wording import format_size
from llamaduo_gui.worker.protocol import JobSpec

if TYPE_CHECKING:
    from llamaduo_gui.core.config import PipelineConfig
    from llamaduo_gui.core.types import Record
    from llamaduo_gui.store.project import Project
    from llamaduo_gui.store.rows import ArtifactRow

MAX_EXAMPLES = 4
_SYSTEM_AND_USER = ("system", "user")
_USER = ("user",)


@dataclass(frozen=True, slots=True)
class ChatTarget:
    """A GGUF file, a base model, a tuned one or a service that can be loaded.

    Attributes:
        path: the file; of the others what tells them from one another.
        name: what it is called beside its marker.
        choice: one line in a list of such files.
        size_bytes: 0 if the file is gone.
        is_exported: whether a project made it, rather than the user opened it.
        project: folder of the project that has it; empty for a file.
        round: of a tuned model.
        provider: of a service, whose API key is needed.
    """

    path: Path
    name: str
    choice: str
    size_bytes: int
    is_exported: bool
    kind: ModelKind = ModelKind.GGUF
    project: str = ""
    round: int | None = None
    provider: str = ""

    @property
    def exists(self) -> bool:
        """Whether the file was there when this was read; of the others loading tells."""
        return self.size_bytes > 0 or self.kind is not ModelKind.GGUF

    @property
    def is_service(self) -> bool:
        """Whether what is asked leaves this computer and is paid for."""
        return self.kind is ModelKind.SERVICE

    def spec(self) -> JobSpec:
        """The job that loads it."""
        if self.kind is ModelKind.GGUF:
            return JobSpec("chat", self.project, {"gguf": str(self.path)})
        options: dict[str, Any] = {"kind": self.kind.value}
        if self.round is not None:
            options["round"] = self.round
        return JobSpec("chat", self.project, options)


@dataclass(frozen=True, slots=True)
class CastVote:
    """A blind vote: the sides as they were shown, each with kind, name, sha256 and answer."""

    system: str
    prompt: str
    left: Mapping[str, str]
    right: Mapping[str, str]
    choice: str


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt to start from; `label` leaves out what all prompts begin with."""

    prompt: str
    label: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class TryView:
    """The project's exported files, newest first, prompts of its test split, and settings.

    `others` are its tuned and base model and its service, to stand beside a file; `votes` are
    the blind votes so far.
    """

    targets: tuple[ChatTarget, ...] = ()
    examples: tuple[Example, ...] = ()
    options: ChatOptions = field(default_factory=ChatOptions)
    others: tuple[ChatTarget, ...] = ()
    votes: int = 0


def read_try(project: Project) -> TryView:
    """Read what can be tried; files are looked at, not opened."""
    rows = sorted(project.artifacts.all("gguf"), key=lambda row: (-row.created_at, -row.id))
    records = [row.record for row in project.records.by_split(Split.TEST)]
    try:
        config = project.config
    except ConfigError:
        options = ChatOptions()
        others: tuple[ChatTarget, ...] = ()
    else:
        others = _others(project, config)
        options = ChatOptions(
            temperature=config.inference.temperature,
            max_new_tokens=config.inference.max_new_tokens,
            seed=config.seed,
            top_p=config.inference.top_p,
        )
    return TryView(
        tuple(_exported(project.artifacts.absolute(row), row) for row in rows),
        choose_examples(records),
        options,
        others,
        len(project.votes.all()),
    )


def keep_vote(project: Project, vote: CastVote) -> str:
    """Store a vote; returns how the votes on these two stand, in a sentence."""
    from llamaduo_gui.evaluation.votes import vote_summary
    from llamaduo_gui.store.votes import VoteSide

    left, right = VoteSide(**vote.left), VoteSide(**vote.right)
    project.votes.add(
        system=vote.system,
        prompt=vote.prompt,
        left=left,
        right=right,
        choice=vote.choice,  # type: ignore[arg-type]
    )
    hashes = {left.sha256, right.sha256}
    pair = next(
        item
        for item in vote_summary(project.votes.all())
        if {item["first"]["sha256"], item["second"]["sha256"]} == hashes
    )
    text = (
        f"So far: {pair['first']['name']} better {pair['first_preferred']}, same {pair['same']}, "
        f"{pair['second']['name']} better {pair['second_preferred']}"
    )
    rate = pair["win_rate"]
    if rate is None:
        return f"{text}."
    low, high = 100 * rate["low"], 100 * rate["high"]
    return (
        f"{text}; {pair['first']['name']} wins {100 * rate['value']:.0f} % ({low:.0f}–{high:.0f})."
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


def _others(project: Project, config: PipelineConfig) -> tuple[ChatTarget, ...]:
    """The tuned model of each round, newest first, the base model and the service."""
    folder = str(project.folder)
    trained = {
        row.round: row for kind in ("model", "adapter") for row in project.artifacts.all(kind)
    }
    found = [
        ChatTarget(
            project.artifacts.absolute(row),
            f"Tuned model, round {number}",
            f"Tuned, round {number}, {format_size(row.size_bytes)}",
            row.size_bytes,
            True,
            ModelKind.TUNED,
            folder,
            number,
        )
        for number, row in sorted(trained.items(), key=lambda item: -(item[0] or 0))
        if number is not None
    ]
    name = config.student.base_model
    found.append(
        ChatTarget(
            Path(name), f"Base model {name}", f"Base, {name}", 0, True, ModelKind.BASE, folder
        )
    )
    teacher = config.teacher
    if teacher is not None:
        # Imported here: the settings' library would slow the window's start down.
        from llamaduo_gui.providers.registry import service_label

        label = service_label(teacher.name)
        target = ChatTarget(
            Path(teacher.name),
            f"Service {label}",
            f"Service, {label}",
            0,
            True,
            ModelKind.SERVICE,
            folder,
            provider=teacher.provider,
        )
        found.append(target)
    return tuple(found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
