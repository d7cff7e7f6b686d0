"""Exports a project's data: what the student is trained and tested on, as a dataset to share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llamaduo_gui import __version__
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.types import Origin, RecordStatus, Split
from llamaduo_gui.data.card import CardFacts, write_card
from llamaduo_gui.data.splits import SplitNotes, describe_notes
from llamaduo_gui.data.writing import record_to_row, write_jsonl_rows, write_parquet_rows
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RecordFilter, RecordRow

ExportFormat = Literal["messages", "parquet"]
FORMATS: tuple[ExportFormat, ...] = ("messages", "parquet")
CARD = "README.md"
_SUFFIXES: dict[ExportFormat, str] = {"messages": "jsonl", "parquet": "parquet"}
_PAGE_ROWS = 500
_SETTINGS = (
    "near_duplicate_jaccard",
    "seed_rouge_l",
    "contamination_ngram",
    "strategy",
    "temperature",
    "pairs_per_request",
)


@dataclass(slots=True)
class Exported:
    """What was written; JSON-able through `to_dict`."""

    folder: str
    files: list[str] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """One line for a person."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.records.items())
        return f"Wrote {len(self.files)} files to {self.folder} ({counts})."

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"folder": self.folder, "files": self.files, "records": self.records}


@dataclass(slots=True)
class _Census:
    """Counts of the rows that went by."""

    origins: Counter[tuple[str, int]] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    generators: Counter[str] = field(default_factory=Counter)

    def add(self, row: RecordRow) -> None:
        self.origins[row.origin.value, row.round] += 1
        if row.split is Split.TRAIN:
            self.categories[row.record.category] += 1
        if row.record.generator:
            self.generators[row.record.generator] += 1


@dataclass(slots=True)
class _Meter:
    """Counts records over all files."""

    total: int
    on_progress: Callable[[int, int], None] | None
    done: int = 0

    def add(self, count: int) -> None:
        self.done += count
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


def export_data(
    project: Project,
    folder: Path,
    formats: Sequence[ExportFormat] = ("messages",),
    on_progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write every split (training with the kept synthetic pairs) and a dataset card.

    Args:
        project: stays as it is.
        folder: new, empty, or with an earlier export, which is replaced.
        formats: one or both.
        on_progress: called with (records written, records in all); what it raises stops it.

    Raises:
        UserError: the folder holds something else or cannot be written.
    """
    target = folder.expanduser().resolve()
    names = {f"{split.value}.{suffix}" for split in Split for suffix in _SUFFIXES.values()}
    _check_folder(target, {*names, CARD})
    ids = {split: list(project.records.ids(_filter(split))) for split in Split}
    total = sum(map(len, ids.values())) * len(formats)
    exported = Exported(str(target), records={s.value: len(found) for s, found in ids.items()})
    files: dict[str, dict[str, str]] = {}
    progress = _Meter(total, on_progress)
    census = _Census()
    for kind in dict.fromkeys(formats):
        write = write_jsonl_rows if kind == "messages" else write_parquet_rows
        census = _Census()
        files[kind] = {}
        for split, numbers in ids.items():
            if not numbers:
                continue
            path = target / f"{split.value}.{_SUFFIXES[kind]}"
            write(_rows(project, numbers, census, progress), path)
            files[kind][split.value] = path.name
            exported.files.append(path.name)
    _write_card(target / CARD, write_card(_facts(project, files, exported.records, census)))
    exported.files.append(CARD)
    return exported


def _filter(split: Split) -> RecordFilter:
    return RecordFilter(splits=frozenset({split}), statuses=frozenset({RecordStatus.KEPT}))


def _check_folder(folder: Path, own: set[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose a folder for the export.")
    others = (
        sorted(item.name for item in folder.iterdir() if item.name not in own)
        if (folder.exists())
        else []
    )
    if others:
        raise UserError(f"{folder} holds other files ({others[0]}); choose a new or empty folder.")


def _rows(
    project: Project, ids: Sequence[int], census: _Census, progress: _Meter
) -> Iterator[dict[str, Any]]:
    """Rows of the file, a page in memory at a time."""
    for start in range(0, len(ids), _PAGE_ROWS):
        page = project.records.by_ids(ids[start : start + _PAGE_ROWS])
        for row in page:
            census.add(row)
            extra = {"origin": row.origin.value, "round": row.round}
            yield {**record_to_row(row.record), **extra}
        progress.add(len(page))


def _facts(
    project: Project,
    files: dict[str, dict[str, str]],
    records: dict[str, int],
    census: _Census,
) -> CardFacts:
    config = project.config
    rejects = project.records.reject_counts()
    notes = project.get_setting("split_notes")
    has_synthetic = any(origin == Origin.SYNTHETIC.value for origin, _ in census.origins)
    settings = {name: getattr(config.synthesis, name) for name in _SETTINGS}
    return CardFacts(
        title=config.task if config.task != "untitled" else project.name,
        files=files,
        counts=records,
        origins=[(name, number, n) for (name, number), n in sorted(census.origins.items())],
        categories=dict(census.categories.most_common()),
        teacher=config.teacher.name if config.teacher else "",
        judges=[judge.name for judge in config.judges],
        generators=dict(census.generators.most_common()),
        settings=settings if has_synthetic or rejects else {},
        rejects={reason.value: count for reason, count in rejects.items()},
        seed=config.seed,
        version=__version__,
        sources=[str(name) for name in project.get_setting("coverage_files") or ()],
        notes=describe_notes(SplitNotes(**notes)) if notes else (),
    )


def _write_card(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error
