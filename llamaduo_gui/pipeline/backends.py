"""Which weights answer, and what computes: backends for the base, the student and the GGUF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from llamaduo_gui.core.base_model import read_model_config, resolve_base_model
from llamaduo_gui.core.config import InferenceConfig, PipelineConfig, PriceConfig, ServiceConfig
from llamaduo_gui.core.errors import ConfigError, UserError
from llamaduo_gui.core.model_family import detect_family
from llamaduo_gui.core.model_shape import read_shape
from llamaduo_gui.core.types import ModelKind
from llamaduo_gui.inference.base import Backend, OnNote, ignore_note
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import ArtifactRow

LocalBackend = Literal["transformers", "llama_cpp"]

_ENDPOINT_TIMEOUT_S = 600.0
_SMALL_MODEL_M = 50


def make_backend(
    project: Project,
    config: PipelineConfig,
    kind: ModelKind,
    round_number: int | None,
    quant: str | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
    on_note: OnNote = ignore_note,
) -> Backend:
    """A backend that answers with the weights of `kind` (for a GGUF, of one quantisation).

    Args:
        project: where the weights are registered.
        config: names the base model and the backend.
        kind: of the base, the student or the GGUF.
        round_number: whose student.
        quant: of the GGUF.
        check_cancelled: called while a temporary GGUF is written; what it raises ends that.
        on_note: told which backend was chosen, and why.

    Raises:
        UserError: the weights are not there yet; the text names the step that makes them.
    """
    if kind is ModelKind.GGUF:
        from llamaduo_gui.inference.llama_cpp_backend import LlamaCppBackend

        gguf = find_gguf(project, round_number, quant)
        if gguf is None:
            raise UserError("There is no GGUF file yet; export one first.")
        return LlamaCppBackend(project.artifacts.absolute(gguf))
    base, adapter = find_weights(project, config, kind, round_number)
    settings = config.inference
    choice, reason = choose_backend(settings, base)
    if reason:
        on_note(reason)
    if choice == "llama_cpp":
        from llamaduo_gui.pipeline.temporary_gguf import TemporaryGgufBackend

        name = kind.value if round_number is None else f"{kind.value}-r{round_number}"
        path = project.paths.artifacts / "inference" / f"{name}-{settings.quant}.gguf"
        try:
            return TemporaryGgufBackend(path, base, adapter, settings.quant, check_cancelled)
        except UserError as error:
            if settings.backend == "llama_cpp":
                raise
            on_note(f"transformers answers instead of llama.cpp: {error}")
    from llamaduo_gui.inference.transformers_backend import TransformersBackend

    return TransformersBackend.load(base, adapter, dtype=settings.dtype)


def choose_backend(settings: InferenceConfig, base: Path) -> tuple[LocalBackend, str]:
    """What computes on this computer, and why; the reason is empty where the user chose.

    On the CPU llama.cpp in F16 was measured to be several times as fast as transformers in
    float32, with next-token distributions that differ by a KL of 1e-6 at most and texts that are
    the same in any batch. Small models gain nothing, and are left as they are.
    """
    if settings.backend != "auto":
        return ("llama_cpp" if settings.backend == "llama_cpp" else "transformers"), ""
    import torch

    if torch.cuda.is_available():
        reason = "Backend auto: transformers in 16 bits, because there is a GPU."
        return "transformers", reason
    shape = read_shape(read_model_config(base))
    if settings.dtype != "auto" or shape is None:
        return "transformers", f"Backend auto: transformers on the CPU in {settings.dtype}."
    millions = shape.parameters / 1e6
    if millions < _SMALL_MODEL_M:
        return "transformers", (
            f"Backend auto: transformers on the CPU in 32 bits, because a model of {millions:,.0f} "
            "million parameters gains nothing from llama.cpp."
        )
    if detect_family(base).gguf_architecture is None:
        reason = "this family has no GGUF form"
        return "transformers", f"Backend auto: transformers on the CPU, because {reason}."
    return "llama_cpp", (
        f"Backend auto: llama.cpp with a temporary {settings.quant} GGUF, because there is no GPU "
        f"and it is faster than transformers from {_SMALL_MODEL_M} million parameters on."
    )


def endpoint_service(
    config: PipelineConfig, kind: ModelKind, round_number: int | None
) -> ServiceConfig:
    """The endpoint that serves the weights of `kind`, as a service that costs nothing.

    Raises:
        ConfigError: the untuned base has no name there.
    """
    settings = config.inference
    model = settings.base_name or ""
    if kind is ModelKind.TUNED:
        model = str(settings.model).replace("{round}", str(round_number))
    if not model:
        raise ConfigError(
            "inference.base_name is missing: name the untuned base as the endpoint calls it."
        )
    return ServiceConfig(
        provider="openai_compatible",
        model=model,
        base_url=settings.base_url,
        concurrency=settings.concurrency,
        temperature=settings.temperature,
        max_tokens=settings.max_new_tokens,
        timeout_s=_ENDPOINT_TIMEOUT_S,
        price=PriceConfig(input=0, output=0),
    )


def find_weights(
    project: Project, config: PipelineConfig, kind: ModelKind, round_number: int | None
) -> tuple[Path, Path | None]:
    """Folders of the model and of the adapter on it, if there is one.

    Raises:
        UserError: the round has no student.
    """
    student = None if kind is ModelKind.BASE else latest_student(project, round_number)
    if student is None and kind is not ModelKind.BASE:
        raise UserError(f"Round {round_number} has no trained student yet; fine-tune first.")
    if student is not None and student.kind == "model":
        return project.artifacts.absolute(student), None
    base = resolve_base_model(config.student.base_model, config.student.revision)
    return base, project.artifacts.absolute(student) if student else None


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
