"""What the Export page shows, read from the project; no widgets here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.errors import ConfigError, LlamaDuoError
from llamaduo_gui.core.quants import load_quants
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.gui.widgets.wording import NO_VALUE, format_size

if TYPE_CHECKING:
    from llamaduo_gui.store.project import Project
    from llamaduo_gui.store.rows import ArtifactRow, RunRow

_SHORT_HASH = 12


@dataclass(frozen=True, slots=True)
class QuantChoice:
    """A type to export in: its name and a line that says what it costs."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file of the project and, if it was certified, what was found.

    Attributes:
        row: the cells of the table.
        certificate: empty if it was not certified since it was written.
    """

    path: Path
    quant: str
    row: tuple[str, ...]
    certificate: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The verdict and its causes."""
        if not self.path.is_file():
            return f"{self.path} was moved or deleted. Export it again."
        if not self.certificate:
            return "This file was not certified yet."
        if self.certificate["is_certified"]:
            return "Certified: the file is and answers as the student that was trained."
        return "Not certified. " + " ".join(self.certificate["causes"])

    @property
    def is_certified(self) -> bool | None:
        """None if it is not known."""
        return self.certificate.get("is_certified")


@dataclass(frozen=True, slots=True)
class ExportView:
    """The student to export, the types to choose from, and the files there are."""

    round: int | None = None
    quant: str = "Q4_K_M"
    choices: tuple[QuantChoice, ...] = ()
    files: tuple[ExportedFile, ...] = ()


def read_export(project: Project) -> ExportView:
    """Read the page's contents; files are looked at, not opened."""
    trained = [
        run
        for run in project.runs.all(Stage.FINETUNE)
        if run.status is RunStatus.SUCCEEDED and run.round is not None
    ]
    rows = sorted(project.artifacts.all("gguf"), key=lambda row: (-row.created_at, -row.id))
    try:
        quant = project.config.export.quant
    except ConfigError:
        quant = "Q4_K_M"
    weights = max((_weights(run) for run in trained), default=0)
    return ExportView(
        _round_to_export(project, trained),
        quant,
        _choices(weights),
        tuple(_exported(project, row) for row in rows),
    )


def copy_file(source: Path, target: Path) -> Path:
    """Copy an exported file; a file of that name is replaced when the copy is whole.

    Raises:
        LlamaDuoError: it cannot be read or written.
    """
    partial = target.with_name(target.name + ".part")
    try:
        shutil.copyfile(source, partial)
        return partial.replace(target)
    except OSError as error:
        text = f"{target} cannot be written ({error.strerror}); choose another place."
        raise LlamaDuoError(text) from error
    finally:
        partial.unlink(missing_ok=True)


def _round_to_export(project: Project, trained: list[RunRow]) -> int | None:
    """The best round of the last decision, else the last one trained."""
    decided = [
        run for run in project.runs.all(Stage.DECIDE) if run.summary and run.round is not None
    ]
    if trained and decided:
        best = max(decided, key=lambda run: run.round or 0).summary.get("best_round")
        if best is not None:
            return int(best)
    return max((run.round for run in trained if run.round is not None), default=None)


def _weights(run: RunRow) -> int:
    return int(run.summary.get("parameters") or 0)


def _choices(weights: int) -> tuple[QuantChoice, ...]:
    found = []
    for quant in load_quants().values():
        size = f"about {format_size(quant.expected_bytes(weights))}, " if weights else ""
        found.append(QuantChoice(quant.name, f"{quant.name}: {size}expected loss: {quant.loss}"))
    return tuple(found)


def _exported(project: Project, row: ArtifactRow) -> ExportedFile:
    quant = str(row.meta.get("quant", ""))
    run = project.runs.by_key(f"certify:{quant}:r{row.round}")
    found: dict[str, Any] = {}
    if run is not None and run.summary.get("sha256") == row.sha256:
        found = dict(run.summary)
    divergence, speed = found.get("divergence"), found.get("performance")
    verdict = str(found.get("verdict", "Not checked"))
    cells = (
        row.path.rpartition("/")[2],
        verdict,
        format_size(row.size_bytes),
        f"{divergence['mean_kl']:.1e}" if divergence else NO_VALUE,
        f"{100 * divergence['agreement']:.1f}\u00a0%" if divergence else NO_VALUE,
        f"{speed['generation_tokens_per_second']:,.0f}" if speed else NO_VALUE,
        row.sha256[:_SHORT_HASH],
    )
    return ExportedFile(project.artifacts.absolute(row), quant, cells, found)
