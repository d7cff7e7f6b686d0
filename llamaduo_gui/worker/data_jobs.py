"""Jobs on data files: previewing an import, making a project, exporting a project's data.

They run in a child because the libraries for Parquet and the Hub are slow to load and large
files keep a Python process busy for minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llamaduo_gui.core.config import SplitConfig, validate_config
from llamaduo_gui.core.events import Progress
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.data.conversion import ReadOptions, make_options
from llamaduo_gui.data.preview import make_preview
from llamaduo_gui.pipeline.create import create_project
from llamaduo_gui.pipeline.data_export import FORMATS, export_data
from llamaduo_gui.store.project import Project
from llamaduo_gui.worker.protocol import JobSpec


def run_preview(spec: JobSpec, context: JobContext) -> dict[str, Any]:
    """Preview an import.

    Options: `sources`, `formats`, `mapping`, `splits` (shares and seed), `is_whole`.

    Returns:
        `data.preview.Preview` as JSON.

    Raises:
        UserError: a source is no data at all.
    """
    options = spec.options
    preview = make_preview(
        [str(item) for item in options["sources"]],
        _options(options),
        splits=SplitConfig(**options.get("splits", {})),
        is_whole=bool(options.get("is_whole", True)),
        on_progress=_reporter(context, "bytes"),
    )
    return preview.to_dict()


def run_create(spec: JobSpec, context: JobContext) -> dict[str, Any]:
    """Make a project.

    Options: `folder`, `sources`, `config` (all settings), `formats`, `mapping`, `on_error`.

    Returns:
        `pipeline.create.Created` as JSON.

    Raises:
        UserError: the files, the settings or the folder are not fit.
    """
    options = spec.options
    created = create_project(
        Path(options["folder"]),
        [str(item) for item in options["sources"]],
        config=validate_config(dict(options["config"]), name="Settings"),
        options=_options(options),
        on_progress=_reporter(context, "bytes"),
    )
    return created.to_dict()


def run_export_data(spec: JobSpec, context: JobContext) -> dict[str, Any]:
    """Export the project's data.

    Options: `folder`, `formats`.

    Returns:
        `pipeline.data_export.Exported` as JSON.

    Raises:
        UserError: the folder is not fit.
    """
    chosen = [kind for kind in FORMATS if kind in spec.options["formats"]]
    with Project.open(Path(spec.project)) as project:
        report = _reporter(context, "records")
        return export_data(project, Path(spec.options["folder"]), chosen, report).to_dict()


def _options(options: Mapping[str, Any]) -> ReadOptions:
    return make_options(
        [str(name) for name in options.get("formats", ())],
        options.get("mapping", {}),
        "refuse" if options.get("on_error") == "refuse" else "keep",
    )


def _reporter(context: JobContext, units: str) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        context.check_cancelled()
        context.emit(Progress(run_id=0, done=done, total=total, units=units))

    return report
