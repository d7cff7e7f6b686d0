"""Certification alone, of a file the project exported or of any GGUF of its student."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.core.types import ModelKind, Split, Stage
from llamaduo_gui.pipeline.backends import find_gguf
from llamaduo_gui.pipeline.certify import find_student, hash_file, run_certification
from llamaduo_gui.pipeline.execute import Executor, installed_versions
from llamaduo_gui.pipeline.plan import answer_steps, certify_step
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import ArtifactRow

_SHORT_HASH = 12


def certify(executor: Executor, options: Mapping[str, Any], best_round: int) -> dict[str, Any]:
    """Certify a file.

    A file with the bytes of an exported one counts as that one; its answers to the test split are
    judged first if `judge` asks for it and they are not yet. A file from elsewhere is compared with
    the student of the round it names, else of the best round, without judged answers.

    Args:
        executor: of the project.
        options: `gguf` (a path; default the newest exported file), `quant`, `judge`.
        best_round: the round to export.

    Raises:
        UserError: there is no such file, or nothing was exported yet.
    """
    project = executor.project
    path = Path(options["gguf"]).expanduser() if options.get("gguf") else None
    if path is not None and not path.is_file():
        raise UserError(f"{path} does not exist; check the path or export the model again.")
    exported = _exported(project, path, options.get("quant"))
    if exported is None:
        if path is None:
            raise UserError("There is no GGUF file yet; export one first.")
        return _certify_other(executor, path, best_round)
    number, quant = exported.round, exported.meta.get("quant")
    if number is None or quant is None:
        raise UserError(f"{exported.path} does not say what was exported; export it again.")
    if options.get("judge"):
        executor.config.require_services()
        for kind, tag in ((ModelKind.TUNED, ""), (ModelKind.GGUF, quant)):
            for step in answer_steps(kind, Split.TEST, number, tag):
                executor.run(step)
    return dict(executor.run(certify_step(number, quant), again=True).summary)


def _exported(project: Project, path: Path | None, quant: str | None) -> ArtifactRow | None:
    if path is None:
        return find_gguf(project, quant=quant)
    resolved, sha256 = path.resolve(), hash_file(path)
    rows = project.artifacts.all("gguf")
    for row in rows:
        if project.artifacts.absolute(row).resolve() == resolved:
            return row
    return next((row for row in rows if row.sha256 == sha256), None)


def _certify_other(executor: Executor, path: Path, best_round: int) -> dict[str, Any]:
    project, config = executor.project, executor.config
    student = find_student(project, config, _named_round(path, best_round))
    row = project.runs.find_or_create(
        f"certify:file:{hash_file(path)[:_SHORT_HASH]}",
        Stage.CERTIFY,
        round_number=student.round,
        label=ModelKind.GGUF.value,
        config=config.model_dump(mode="json"),
        seed=config.seed,
    )
    done = executor.record(
        row,
        lambda: run_certification(
            project,
            row,
            executor.context,
            config=config,
            path=path,
            student=student,
            quant=None,
            versions=installed_versions(),
        ),
    )
    return dict(done.summary)


def _named_round(path: Path, default: int) -> int:
    """The round a file of this program says it was exported from."""
    try:
        named = check_gguf(path).metadata.get("llamaduo.round", "")
    except UserError:
        # A damaged file gets its verdict from the certification.
        return default
    return int(named) if str(named).isdigit() else default
