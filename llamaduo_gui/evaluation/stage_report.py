"""The report stage: writes report.html, report.json and scores.csv from what the database holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.core.types import Split
from llamaduo_gui.evaluation.report import build_report
from llamaduo_gui.evaluation.report_html import render_report
from llamaduo_gui.evaluation.results import judged_models, score_rows
from llamaduo_gui.evaluation.score_table import write_scores
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RunRow

# In the files, but too long for a summary that views load again and again.
_NOT_IN_SUMMARY = ("responses", "curves", "config")


def run_report(project: Project, run: RunRow, context: JobContext) -> dict[str, Any]:
    """Write the report into `artifacts/report` and register it; earlier files are replaced.

    Returns:
        The report without its curves, settings and responses, and `files`: the absolute paths of
        `html`, `json`, `csv` (and `gguf`, where there is one).

    Raises:
        UserError: a file could not be written.
    """
    meter = ProgressMeter(context, run.id, 4, "parts")
    report = build_report(project)
    meter.update(message="numbers")
    context.check_cancelled()
    folder = project.paths.artifacts / "report"
    html, document, table = (folder / name for name in ("report.html", "report.json", "scores.csv"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_text(html, render_report(report))
        meter.update(message="page")
        _write_text(document, json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1))
        meter.update(message="document")
        write_score_table(project, table)
        meter.update(message="scores", force=True)
    except OSError as error:
        raise UserError(
            f"The report could not be written to {folder} ({error.strerror}); "
            "check that the disk is not full and the folder is writable."
        ) from error
    meta = {"verdict": report["verdict"]["word"], "split": report["shown_split"]}
    project.artifacts.add(run.id, "report", html, meta=meta)
    project.artifacts.add(run.id, "report_json", document)
    project.artifacts.add(run.id, "scores", table)
    context.changed("artifacts")
    context.log("report", report["verdict"]["sentence"], run_id=run.id)
    files = {"html": str(html), "json": str(document), "csv": str(table)}
    if report["gguf"]:
        files["gguf"] = str(project.folder / report["gguf"]["path"])
    summary = {name: value for name, value in report.items() if name not in _NOT_IN_SUMMARY}
    return {**summary, "files": files}


def write_score_table(project: Project, path: Path) -> None:
    """The response scores of the test split (of validation while there is no test) as CSV."""
    models = judged_models(project, Split.TEST) or judged_models(project, Split.VALIDATION)
    temporary = path.with_name(f"{path.name}.new")
    write_scores(temporary, score_rows(models, project.config.task))
    temporary.replace(path)


def _write_text(path: Path, text: str) -> None:
    """Write in one step, so that a reader never sees half a file."""
    temporary = path.with_name(f"{path.name}.new")
    # A model can answer with half a surrogate pair, which UTF-8 cannot hold.
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(path)
