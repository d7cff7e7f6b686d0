"""Writes the report where the user wants it: the HTML page and the scores as CSV beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.types import RunStatus, Stage

if TYPE_CHECKING:
    from llamaduo_gui.store.project import Project


def export_report(project: Project, path: Path) -> list[Path]:
    """Write the report to `path` and its scores to a CSV file of the same name.

    The loop's own report is copied while nothing has run since it was written; else it is built
    anew, which takes seconds. A file that is there is replaced at the end.

    Returns:
        The page and the table.

    Raises:
        UserError: a file could not be written.
    """
    from llamaduo_gui.evaluation.report import build_report
    from llamaduo_gui.evaluation.report_html import render_report
    from llamaduo_gui.evaluation.stage_report import write_score_table

    page = path if path.suffix.lower() in (".html", ".htm") else path.with_name(f"{path.name}.html")
    table = page.with_suffix(".csv")
    temporary = page.with_name(f"{page.name}.new")
    made = current_report(project)
    try:
        if made is not None:
            shutil.copyfile(made, temporary)
        else:
            text = render_report(build_report(project))
            # A model can answer with half a surrogate pair, which UTF-8 cannot hold.
            temporary.write_text(text, encoding="utf-8", errors="replace")
        temporary.replace(page)
        write_score_table(project, table)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"The report could not be written to {page.parent} ({error.strerror}); "
            "choose another folder."
        ) from error
    return [page, table]


def current_report(project: Project) -> Path | None:
    """The loop's report, if it is there and nothing has run since."""
    runs = project.runs.all()
    written = next((run for run in runs if run.stage is Stage.REPORT), None)
    if written is None or written.status is not RunStatus.SUCCEEDED:
        return None
    since = written.started_at or 0.0
    others = [run for run in runs if run.stage not in (Stage.REPORT, Stage.PIPELINE, Stage.CHAT)]
    if any(run.finished_at is None or run.finished_at > since for run in others if run.attempts):
        return None
    artifact = project.artifacts.latest("report")
    path = project.artifacts.absolute(artifact) if artifact else None
    return path if path is not None and path.is_file() else None
