"""Making a project: read the coverage files, freeze the splits, store both."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from llamaduo_gui.core.config import PipelineConfig, load_config
from llamaduo_gui.core.errors import DataError, UserError
from llamaduo_gui.core.paths import ProjectPaths, resource, user_state_dir
from llamaduo_gui.core.types import Split
from llamaduo_gui.data.reading import ReadResult, read_records
from llamaduo_gui.data.splits import assign_splits
from llamaduo_gui.store.project import Project

_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class Created:
    """What was made from which lines."""

    folder: str
    splits: dict[str, int]
    categories: int
    lines_read: int
    problems: list[dict[str, Any]] = field(default_factory=list)
    copies: int = 0

    @property
    def sentence(self) -> str:
        """One line for a person."""
        counts = ", ".join(f"{count} {name}" for name, count in self.splits.items())
        return f"Made {self.folder}: {sum(self.splits.values())} pairs ({counts})."

    @property
    def warnings(self) -> list[str]:
        """Lines that were left out, the first few one by one."""
        shown = [
            f"{item['file']} line {item['line_number']} {item['reason']}; left out."
            for item in self.problems[:_SHOWN_PROBLEMS]
        ]
        more = len(self.problems) - len(shown)
        if more:
            shown.append(f"{more} more broken lines were left out.")
        if self.copies:
            shown.append(f"{self.copies} repeated lines were read once.")
        return shown

    def to_dict(self) -> dict[str, Any]:
        """JSON form for `new --json`."""
        return asdict(self)


def create_project(
    folder: Path,
    coverage: Sequence[Path],
    *,
    config_path: Path | None = None,
    config: PipelineConfig | None = None,
    seed: int | None = None,
    on_error: Literal["keep", "refuse"] = "refuse",
    on_progress: Callable[[int, int], None] | None = None,
) -> Created:
    """Make a project; nothing is left behind when it fails.

    Args:
        folder: new or empty folder.
        coverage: JSONL files with the wanted answers.
        config_path: a `pipeline.yaml` to copy.
        config: settings, used when there is no `config_path`; None takes the defaults.
        seed: replaces `splits.seed`.
        on_error: keep the good lines of a file with broken ones, or refuse it as a whole.
        on_progress: called with (bytes read, bytes in all).

    Raises:
        UserError: the files, the settings or the folder are not fit; one sentence.
    """
    settings = load_config(config_path) if config_path else (config or PipelineConfig())
    if seed is not None:
        splits = settings.splits.model_copy(update={"seed": seed})
        settings = settings.model_copy(update={"splits": splits})
    result = read_records([*coverage], on_error=on_error, on_progress=on_progress)
    assigned = assign_splits(result.records, settings.splits)
    was_there = folder.expanduser().exists()
    project = Project.create(folder, settings)
    try:
        with project:
            project.records.add_coverage(zip(result.records, assigned, result.sources, strict=True))
            if config_path is not None and seed is None:
                # The user's own file, with their comments; a replaced seed rewrites it.
                shutil.copyfile(config_path, project.paths.config)
            _note_origin(project, coverage, result)
            return _describe(project, result, assigned)
    except BaseException:
        _remove(project.folder, keep_folder=was_there)
        raise


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


def _note_origin(project: Project, coverage: Sequence[Path], result: ReadResult) -> None:
    project.set_setting("coverage_files", [path.name for path in coverage])
    project.set_setting("created_at", time.time())
    project.set_setting("read_problems", [asdict(problem) for problem in result.problems])


def _describe(project: Project, result: ReadResult, assigned: Sequence[Split]) -> Created:
    if not result.records:
        raise DataError("The coverage files hold no usable record.")
    return Created(
        folder=str(project.folder),
        splits={split.value: sum(item is split for item in assigned) for split in Split},
        categories=len(result.categories()),
        lines_read=result.lines_read,
        problems=[asdict(problem) for problem in result.problems],
        copies=result.copies,
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
