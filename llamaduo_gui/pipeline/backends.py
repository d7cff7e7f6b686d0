"""Which weights answer: chooses and loads the backend for the base, the student and the GGUF."""

from __future__ import annotations

from llamaduo_gui.core.base_model import resolve_base_model
from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.types import ModelKind
from llamaduo_gui.inference.base import Backend
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import ArtifactRow


def make_backend(
    project: Project,
    config: PipelineConfig,
    kind: ModelKind,
    round_number: int | None,
    quant: str | None = None,
) -> Backend:
    """A backend that answers with the weights of `kind` (for a GGUF, of one quantisation).

    Raises:
        UserError: the weights are not there yet; the text names the step that makes them.
    """
    if kind is ModelKind.GGUF:
        from llamaduo_gui.inference.llama_cpp_backend import LlamaCppBackend

        gguf = find_gguf(project, round_number, quant)
        if gguf is None:
            raise UserError("There is no GGUF file yet; export one first.")
        return LlamaCppBackend(project.artifacts.absolute(gguf))
    from llamaduo_gui.inference.transformers_backend import TransformersBackend

    base = resolve_base_model(config.student.base_model, config.student.revision)
    if kind is ModelKind.BASE:
        return TransformersBackend.load(base)
    student = latest_student(project, round_number)
    if student is not None:
        folder = project.artifacts.absolute(student)
        is_adapter = student.kind == "adapter"
        return (
            TransformersBackend.load(base, folder)
            if is_adapter
            else TransformersBackend.load(folder)
        )
    raise UserError(f"Round {round_number} has no trained student yet; fine-tune first.")


def find_gguf(
    project: Project, round_number: int | None = None, quant: str | None = None
) -> ArtifactRow | None:
    """The newest exported file, optionally of one round and quantisation."""
    found = [
        row
        for row in project.artifacts.all("gguf")
        if (round_number is None or row.round == round_number)
        and (quant is None or row.meta.get("quant") == quant)
    ]
    return max(found, key=lambda row: (row.created_at, row.id), default=None)


def latest_student(project: Project, round_number: int | None) -> ArtifactRow | None:
    """The newest adapter or fully trained model of a round; the recipe may have changed."""
    found = [project.artifacts.latest(kind, round_number) for kind in ("adapter", "model")]
    rows = [row for row in found if row is not None]
    return max(rows, key=lambda row: (row.created_at, row.id), default=None)
