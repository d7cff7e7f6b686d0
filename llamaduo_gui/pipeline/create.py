"""Making a project: read the coverage data, freeze the splits, store both."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llamaduo_gui.core.config import PipelineConfig, load_config
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.paths import ProjectPaths, resource, user_state_dir
from llamaduo_gui.core.types import Record, Split
from llamaduo_gui.data.conversion import OnError, ReadOptions
from llamaduo_gui.data.reading import ReadReport, RecordReader
from llamaduo_gui.data.sources import Source
from llamaduo_gui.data.splits import SplitNotes, SplitPlan, SplitPlanner, describe_notes
from llamaduo_gui.store.project import PASSAGE_GROUPS, Project

_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class Created:
    """What was made from which rows; JSON-able.

    Attributes:
        formats: rows of each layout, by its title.
        problems: broken rows that were left out, the first thousand; `problem_count` is all.
        copies: rows that repeat another and were read once.
        notes: what was found out when the prompts were split (`data.splits.SplitNotes`).
        guesses: what was guessed when the files were read, one sentence each.
    """

    folder: str
    splits: dict[str, int]
    categories: int
    lines_read: int
    problems: list[dict[str, Any]] = field(default_factory=list)
    problem_count: int = 0
    copies: int = 0
    formats: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """One line for a person."""
        counts = ", ".join(f"{count} {name}" for name, count in self.splits.items())
        return f"Made {self.folder}: {sum(self.splits.values())} pairs ({counts})."

    @property
    def warnings(self) -> list[str]:
        """Rows that were left out, the first few one by one, and what was guessed or grouped."""
        shown = list(self.guesses)
        for item in self.problems[:_SHOWN_PROBLEMS]:
            place = f"{item['file']} {item.get('unit', 'line')} {item['line_number']}"
            shown.append(f"{place} {item['reason']}; left out.")
        more = self.problem_count - len(self.problems[:_SHOWN_PROBLEMS])
        if more > 0:
            shown.append(f"{more} more broken rows were left out.")
        if self.copies:
            shown.append(f"{self.copies} repeated rows were read once.")
        if self.notes:
            shown += describe_notes(SplitNotes(**self.notes))
        return shown

    def to_dict(self) -> dict[str, Any]:
        """JSON form for `new --json`."""
        return asdict(self)


def create_project(
    folder: Path,
    coverage: Sequence[Source],
    *,
    config_path: Path | None = None,
    config: PipelineConfig | None = None,
    seed: int | None = None,
    on_error: OnError = "refuse",
    options: ReadOptions | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Created:
    """Make a project; nothing is left behind when it fails.

    Args:
        folder: new or empty folder.
        coverage: files with the wanted answers in any known format, or `hub:ID@REVISION`.
        config_path: a `pipeline.yaml` to copy.
        config: settings, used when there is no `config_path`; None takes the defaults.
        seed: replaces `splits.seed`.
        on_error: keep the good rows of a file with broken ones, or refuse it as a whole.
        options: formats and columns named by the user; their `on_error` counts.
        on_progress: called with (bytes read, bytes in all); what it raises stops the reading.

    Raises:
        UserError: the files, the settings or the folder are not fit; one sentence.
    """
    settings = load_config(config_path) if config_path else (config or PipelineConfig())
    if seed is not None:
        splits = settings.splits.model_copy(update={"seed": seed})
        settings = settings.model_copy(update={"splits": splits})
    reader = RecordReader(coverage, options or ReadOptions(on_error=on_error), on_progress)
    planner = SplitPlanner(settings.splits)
    was_there = folder.expanduser().exists()
    project = Project.create(folder, settings)
    try:
        with project:
            plans: list[SplitPlan] = []

            def assign() -> Sequence[Split]:
                plans.append(planner.plan())
                return plans[0].splits

            project.records.import_coverage(_planned(reader, planner), assign)
            if config_path is not None and seed is None:
                # The user's own file, with their comments; a replaced seed rewrites it.
                shutil.copyfile(config_path, project.paths.config)
            created = _describe(project, reader.report, plans[0])
            _note_origin(project, reader, created)
            _note_groups(project, planner)
            return created
    except BaseException:
        _remove(project.folder, keep_folder=was_there)
        raise


def _planned(reader: RecordReader, planner: SplitPlanner) -> Iterator[tuple[Record, str]]:
    """Records on their way to the database, seen by the planner."""
    for record, source in reader:
        planner.add(record)
        yield record, source


def create_demo(folder: Path | None = None) -> Project:
    """The built-in demo project, opened: a new one, or the one that is in `folder` already.

    Raises:
        UserError: `folder` holds something else.
    """
    if folder is None:
        folder = _fresh_demo_folder()
    elif ProjectPaths(folder.expanduser().resolve()).database.is_file():
        return Project.open(folder)
    create_project(
        folder,
        [resource("demo", "coverage.jsonl")],
        config_path=resource("demo", "pipeline.yaml"),
    )
    return Project.open(folder)


def _fresh_demo_folder() -> Path:
    parent = user_state_dir() / "demos"
    name = time.strftime("demo-%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    raise UserError("No folder is free for the demo.")


def _note_origin(project: Project, reader: RecordReader, created: Created) -> None:
    project.set_setting("coverage_files", [item.name for item in reader.opened])
    project.set_setting("coverage_formats", created.formats)
    project.set_setting("created_at", time.time())
    project.set_setting("read_problems", created.problems)
    project.set_setting("read_problem_count", created.problem_count)
    project.set_setting("read_copies", created.copies)
    project.set_setting("split_notes", created.notes)


def _note_groups(project: Project, planner: SplitPlanner) -> None:
    """Keep which evaluation prompts belong together: the statistics draw them together."""
    groups = {}
    for split in (Split.VALIDATION, Split.TEST):
        for row in project.records.by_split(split):
            group = planner.group_of(row.record.instruction)
            if group is not None:
                groups[row.record.prompt_id] = group
    project.set_setting(PASSAGE_GROUPS, groups)


def _describe(project: Project, report: ReadReport, plan: SplitPlan) -> Created:
    return Created(
        folder=str(project.folder),
        splits={split.value: plan.splits.count(split) for split in Split},
        categories=len(report.category_counts),
        lines_read=report.lines_read,
        problems=[asdict(problem) for problem in report.problems],
        problem_count=report.problem_count,
        copies=report.copies,
        formats=dict(report.shape_counts.most_common()),
        notes=asdict(plan.notes),
        guesses=report.notes,
    )


def _remove(folder: Path, *, keep_folder: bool) -> None:
    """Take back a half-made project; only files this module made can be in the folder."""
    if keep_folder:
        for item in folder.iterdir():
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
