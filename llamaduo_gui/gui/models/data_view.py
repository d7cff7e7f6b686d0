"""What the Data page shows, read from the project; no widgets here."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.types import Origin, RecordStatus, Split
from llamaduo_gui.gui.models.text_lines import shared_beginning
from llamaduo_gui.store.rows import RecordFilter

if TYPE_CHECKING:
    from llamaduo_gui.core.types import Record, RejectReason
    from llamaduo_gui.store.project import Project
    from llamaduo_gui.store.records import SortKey
    from llamaduo_gui.store.rows import RecordRow

FILTER_SETTING = "view.data_filter"
CHIPS: tuple[tuple[str, str], ...] = (
    ("train", "Train"),
    ("validation", "Validation"),
    ("test", "Test"),
    ("synthetic", "Synthetic"),
    ("kept", "Kept"),
    ("rejected", "Rejected"),
)
_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class DataView:
    """How many records of which kind there are.

    Attributes:
        splits: the user's own pairs by split.
        rejects: rejected synthetic pairs by reason, most frequent first.
        problems: (file, line number, reason) of lines that were left out at reading, the first.
        problem_count: all of them.
        split_notes: repetitions, and what was found out when the prompts were split.
        beginning: what the prompts begin with, left out in tables.
        categories: all in use, sorted.
        filter_text, filter_chips: the filters that were on when the project was last open.
    """

    splits: Mapping[Split, int] = field(default_factory=dict)
    synthetic_kept: int = 0
    synthetic_rejected: int = 0
    rejects: tuple[tuple[RejectReason, int], ...] = ()
    files: tuple[str, ...] = ()
    problems: tuple[tuple[str, int, str], ...] = ()
    problem_count: int = 0
    split_notes: tuple[str, ...] = ()
    beginning: str = ""
    categories: tuple[str, ...] = ()
    filter_text: str = ""
    filter_chips: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        """All records."""
        return sum(self.splits.values()) + self.synthetic_kept + self.synthetic_rejected


@dataclass(frozen=True, slots=True)
class RecordDetail:
    """One record, and the record whose prompt a synthetic one was made from."""

    row: RecordRow
    seed: RecordRow | None = None


def read_data(project: Project) -> DataView:
    """Read everything but the table's rows; tens of milliseconds with 256k records."""
    counts = project.records.counts()
    splits = dict.fromkeys(Split, 0)
    synthetic = dict.fromkeys(RecordStatus, 0)
    for (origin, split, status), number in counts.items():
        if origin is Origin.COVERAGE:
            splits[split] += number
        else:
            synthetic[status] += number
    rejects = sorted(project.records.reject_counts().items(), key=lambda item: -item[1])
    sample = project.records.page(RecordFilter(), offset=0, limit=_SAMPLE)
    kept: dict[str, Any] = project.get_setting(FILTER_SETTING) or {}
    return DataView(
        splits=splits,
        synthetic_kept=synthetic[RecordStatus.KEPT],
        synthetic_rejected=synthetic[RecordStatus.REJECTED],
        rejects=tuple(rejects),
        files=tuple(project.get_setting("coverage_files") or ()),
        problems=tuple(
            (str(item.get("file", "")), int(item["line_number"]), str(item["reason"]))
            for item in project.get_setting("read_problems") or ()
        ),
        problem_count=int(project.get_setting("read_problem_count") or 0),
        split_notes=_split_notes(project),
        beginning=shared_beginning([last_question(row.record) for row in sample]),
        categories=tuple(project.records.categories()),
        filter_text=str(kept.get("text", "")),
        filter_chips=frozenset(kept.get("chips", ())) & {key for key, _ in CHIPS},
    )


def _split_notes(project: Project) -> tuple[str, ...]:
    # Imported here: the numerical library behind it would slow the window's start down.
    from llamaduo_gui.data.splits import SplitNotes, describe_notes

    notes = project.get_setting("split_notes")
    copies = int(project.get_setting("read_copies") or 0)
    found = describe_notes(SplitNotes(**notes)) if notes else []
    if copies:
        repeat = (
            "1 row repeats another and was"
            if copies == 1
            else f"{copies:,} rows repeat others and were"
        )
        found.insert(0, f"{repeat} read once.")
    return tuple(found)


def read_ids(
    project: Project, view: RecordFilter, sort: SortKey, *, is_descending: bool
) -> array[int]:
    """Row ids of the table in order: 0.5 s for 256k sorted rows, so not for the GUI thread."""
    return project.records.ids(view, sort=sort, is_descending=is_descending)


def read_detail(project: Project, record_id: int) -> RecordDetail | None:
    """One record with its seed; None if it is gone."""
    row = project.records.get(record_id)
    if row is None:
        return None
    seed = row.record.seed_prompt
    return RecordDetail(row, project.records.by_prompt_id(seed) if seed else None)


def record_filter(text: str, chips: frozenset[str]) -> RecordFilter:
    """The chips as a filter: chips of one kind widen it, chips of different kinds narrow it."""
    statuses = {RecordStatus(key) for key in ("kept", "rejected") if key in chips}
    return RecordFilter(
        text=text,
        splits=frozenset(split for split in Split if split.value in chips),
        origins=frozenset({Origin.SYNTHETIC} if "synthetic" in chips else ()),
        statuses=frozenset(statuses),
    )


def last_question(record: Record) -> str:
    """The user turn that the target responds to."""
    turns = [message.content for message in record.prompt_messages if message.role == "user"]
    return turns[-1] if turns else record.instruction


def origin_text(row: RecordRow) -> str:
    """Where a record comes from: `Yours`, or the round that made it."""
    return "Yours" if row.origin is Origin.COVERAGE else f"Round {row.round}"


def status_text(row: RecordRow) -> str:
    """`Kept`, or `Rejected` with the reason, and whether a person said so."""
    if row.status is RecordStatus.KEPT:
        return "Kept by hand" if row.is_decided_by_hand else "Kept"
    reason = reason_text(row.reject_reason) if row.reject_reason else "by hand"
    return f"Rejected: {reason}"


def reason_text(reason: RejectReason) -> str:
    """A reject reason in words."""
    return reason.value.replace("_", " ")
