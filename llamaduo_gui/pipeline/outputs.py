"""Report files where the user wants them, written from what the database holds now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.evaluation.report import build_report
from llamaduo_gui.evaluation.report_html import render_report
from llamaduo_gui.evaluation.stage_report import write_score_table
from llamaduo_gui.store.project import Project


def write_report_files(
    folder: Path, html: Path | None = None, csv: Path | None = None
) -> dict[str, Any]:
    """Write the report of a project; without targets, into its `artifacts/report`.

    Args:
        folder: the project.
        html: where the page goes, or None.
        csv: where the table of scores goes, or None.

    Returns:
        The report with `files`, the absolute paths written.

    Raises:
        UserError: nothing has been judged yet, or a file cannot be written.
    """
    with Project.open(folder) as project:
        report = build_report(project)
        if html is None and csv is None:
            html = project.paths.artifacts / "report" / "report.html"
        files = []
        try:
            if html is not None:
                path = _prepare(html)
                temporary = path.with_name(f"{path.name}.new")
                temporary.write_text(render_report(report), encoding="utf-8", errors="replace")
                files.append(temporary.replace(path))
            if csv is not None:
                path = _prepare(csv)
                write_score_table(project, path)
                files.append(path)
        except OSError as error:
            raise UserError(
                f"{error.filename} cannot be written ({error.strerror}); choose another place."
            ) from error
    return {**report, "files": [str(path) for path in files]}


def _prepare(path: Path) -> Path:
    path = path.expanduser().resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
