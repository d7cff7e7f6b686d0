"""The export stage: a round's student in, one GGUF file out, checked by loading it."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaduo_gui.core.base_model import resolve_base_model
from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.gguf_file import GgufFile
from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.core.model_family import detect_family
from llamaduo_gui.core.quants import load_quants
from llamaduo_gui.export.foreign_stage import ForeignExport, export_foreign
from llamaduo_gui.export.gguf_writer import (
    DIRECT_TYPES,
    Description,
    estimate_bytes,
    tensor_bytes,
    tensor_type,
    write_gguf,
)
from llamaduo_gui.export.provenance import describe_export, file_name
from llamaduo_gui.export.quantize import K_QUANTS, quantize
from llamaduo_gui.export.tensors import ModelTensors, open_model
from llamaduo_gui.export.tokenizer import TokenizerSpec, describe_tokenizer, load_tokenizer
from llamaduo_gui.export.verify import PROBES, Findings, verify_gguf
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import ArtifactRow, RunRow

QUANTS = (*DIRECT_TYPES, *K_QUANTS)
_SOURCE = "export"
_INTERMEDIATE = "F16"
# Share of the F16 file a K-quant takes at most: small models keep a large Q6_K embedding.
_K_QUANT_SHARE = 0.5
_RESERVE_BYTES = 32_000_000
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class _Export:
    """One export's inputs."""

    model: ModelTensors
    tokenizer: Any
    spec: TokenizerSpec
    description: Description
    quant: str
    target: Path

    @property
    def is_k_quant(self) -> bool:
        """Whether a 16-bit file is written first."""
        return self.quant in K_QUANTS


def run_export(
    project: Project,
    run: RunRow,
    context: JobContext,
    *,
    round_number: int,
    quant: str,
    config: PipelineConfig,
    out: Path | None = None,
    merge: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Export the student of a round; a file of the same name is replaced when the new one is whole.

    The base model's shards and the adapter are merged a few rows at a time into the GGUF; no merged
    copy is made. Progress counts megabytes written, those of the 16-bit file before a K-quant
    included, and names the step; the last one is the check.

    Args:
        project: where the student and the new file are registered.
        run: the run of this export.
        context: reports and cancels.
        round_number: whose student.
        quant: one of QUANTS.
        config: names the base model.
        out: the file to write, default `artifacts/round-N/NAME.gguf` in the project.
        merge: what the adapter is merged onto and why, for the summary; its `quantized_from` names
            the number format of the 4-bit weights a QLoRA adapter is merged onto.

    Returns:
        path (relative to the project if inside it), size, hash, tensor types, fallbacks, warnings
        and what was checked.

    Raises:
        UserError: there is no student, it cannot be exported, or the disk has no room.
        JobCancelledError: the user asked to stop; nothing is left behind.
    """
    started = time.monotonic()
    if quant not in QUANTS:
        raise UserError(f"The type {quant} is unknown; choose one of {', '.join(QUANTS)}.")
    student = _find_student(project, round_number)
    base = _base_of(project, config, student)
    if detect_family(base).gguf_architecture is None:
        foreign = ForeignExport(student, base, round_number, quant, out)
        return export_foreign(project, run, context, config, foreign)
    merge = dict(merge or {})
    quantized_from = merge.get("quantized_from")
    export = _prepare(project, config, student, round_number, quant, out, quantized_from)
    _require_room(export)
    meter = ProgressMeter(context, run.id, _megabytes(_written_bytes(export)) + 1, "MB written")
    partial = export.target.with_name(export.target.name + ".part")
    with _cleaned_up(partial, partial.with_name(partial.name + ".f16"), export):
        _write(export, partial, meter, context)
        context.check_cancelled()
        meter.update(meter.total - 1 - meter.done, message="Checking the file", force=True)
        findings = verify_gguf(partial, quant, export.tokenizer, export.spec)
        partial.replace(export.target)
    warnings = [*export.model.architecture.warnings, *export.spec.warnings]
    warnings += findings.sentences(quant)
    for text in warnings:
        context.log(_SOURCE, text, level="warning", run_id=run.id)
    artifact = project.artifacts.add(
        run.id,
        "gguf",
        export.target,
        round_number=round_number,
        meta={
            "quant": quant,
            "tensor_types": findings.file.tensor_types,
            "quantized_from": quantized_from,
        },
    )
    meter.update(message="Done", force=True)
    context.changed("artifacts")
    seconds = time.monotonic() - started
    context.log(_SOURCE, _done_text(export.target, findings.file, seconds), run_id=run.id)
    return _summary(export, findings, artifact, warnings, seconds) | {"merge": merge}


def _find_student(project: Project, round_number: int) -> ArtifactRow:
    found = [
        row
        for kind in ("adapter", "model")
        if (row := project.artifacts.latest(kind, round_number)) is not None
    ]
    if not found:
        raise UserError(f"Round {round_number} has no trained student yet; fine-tune first.")
    return max(found, key=lambda row: (row.created_at, row.id))


def _base_of(project: Project, config: PipelineConfig, student: ArtifactRow) -> Path:
    """Folder of the base model, which is the student's own after full fine-tuning."""
    folder = project.artifacts.absolute(student)
    if student.kind == "model" and folder.is_dir():
        return folder
    return resolve_base_model(config.student.base_model, config.student.revision)


def _prepare(
    project: Project,
    config: PipelineConfig,
    student: ArtifactRow,
    round_number: int,
    quant: str,
    out: Path | None,
    quantized_from: str | None,
) -> _Export:
    folder = project.artifacts.absolute(student)
    if not folder.is_dir():
        raise UserError(
            f"The student of round {round_number} is missing from {folder}; fine-tune again."
        )
    if student.kind == "model":
        base, adapter = folder, None
    else:
        reference = config.student
        base, adapter = resolve_base_model(reference.base_model, reference.revision), folder
    model = open_model(base, adapter, quantized_from=quantized_from)
    tokenizer = load_tokenizer(base, adapter)
    spec = describe_tokenizer(tokenizer, base, model.embedding_rows)
    description = describe_export(
        project.name,
        config,
        base,
        round_number=round_number,
        student_hash=student.sha256,
        quantized_from=quantized_from,
    )
    target = out or project.paths.round_dir(round_number) / file_name(
        description, model.weights, quant
    )
    return _Export(model, tokenizer, spec, description, quant, target.expanduser().resolve())


def _write(export: _Export, partial: Path, meter: ProgressMeter, context: JobContext) -> None:
    intermediate = partial.with_name(partial.name + ".f16")
    first = intermediate if export.is_k_quant else partial
    direct = _INTERMEDIATE if export.is_k_quant else export.quant
    sizes = _sizes(export.model, direct)
    written_bytes = 0

    def written(name: str) -> None:
        nonlocal written_bytes
        context.check_cancelled()
        written_bytes += sizes[name]
        meter.update(_megabytes(written_bytes) - meter.done, message=f"Writing {name}")

    write_gguf(first, export.model, export.spec, export.description, direct, written)
    if not export.is_k_quant:
        return
    share = _quantised_bytes(export) / len(export.model.tensors)

    def quantised(number: int) -> None:
        done = _megabytes(written_bytes + share * number)
        meter.update(max(0, done - meter.done), message=f"Quantising to {export.quant}")

    meter.update(0, message=f"Quantising to {export.quant}", force=True)
    quantize(intermediate, partial, export.quant, quantised)
    intermediate.unlink()


def _sizes(model: ModelTensors, quant: str) -> dict[str, int]:
    """Bytes of each tensor in the file, by name."""
    return {item.name: tensor_bytes(item, tensor_type(item, quant)) for item in model.tensors}


def _quantised_bytes(export: _Export) -> int:
    return load_quants()[export.quant].expected_bytes(export.model.weights)


def _written_bytes(export: _Export) -> int:
    """About how much will be written, the 16-bit file before a K-quant included."""
    if not export.is_k_quant:
        return sum(_sizes(export.model, export.quant).values())
    return sum(_sizes(export.model, _INTERMEDIATE).values()) + _quantised_bytes(export)


def _megabytes(size_bytes: float) -> int:
    return round(size_bytes / 1e6)


def _needed_bytes(export: _Export) -> int:
    if not export.is_k_quant:
        return estimate_bytes(export.model, export.quant, export.spec)
    wide = estimate_bytes(export.model, _INTERMEDIATE, export.spec)
    return int(wide * (1 + _K_QUANT_SHARE))


def _require_room(export: _Export) -> None:
    """Refuse before the first byte is written, rather than at 90 per cent."""
    folder = export.target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); choose another place."
        ) from error
    if free < _needed_bytes(export) + _RESERVE_BYTES:
        raise _no_room(export)


def _no_room(export: _Export) -> UserError:
    folder = export.target.parent
    needed = (_needed_bytes(export) + _RESERVE_BYTES) / 1e9
    free = shutil.disk_usage(folder).free / 1e9
    return UserError(
        f"The export needs {needed:.2f} GB in {folder} and {free:.2f} GB are free; "
        "make room there or export to another disk."
    )


@contextmanager
def _cleaned_up(partial: Path, intermediate: Path, export: _Export) -> Iterator[None]:
    """Remove what was written if the export does not finish, and explain a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _no_room(export) from error
        raise UserError(
            f"{export.target} cannot be written ({error.strerror or error}); choose another place."
        ) from error
    except LlamaDuoError as error:
        # llama.cpp only says that writing failed.
        is_full = shutil.disk_usage(partial.parent).free < _RESERVE_BYTES
        if is_full and not isinstance(error, UserError):
            raise _no_room(export) from error
        raise
    finally:
        for path in (partial, intermediate):
            path.unlink(missing_ok=True)


def _done_text(target: Path, file: GgufFile, seconds: float) -> str:
    types = ", ".join(f"{count} {name}" for name, count in file.tensor_types.items())
    return f"{target.name}: {file.size_bytes / 1e6:.1f} MB in {seconds:.1f} s ({types})."


def _summary(
    export: _Export,
    findings: Findings,
    artifact: ArtifactRow,
    warnings: list[str],
    seconds: float,
) -> dict[str, Any]:
    return {
        "path": artifact.path,
        "quant": export.quant,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "architecture": export.model.architecture.name,
        "parameters": findings.file.parameters,
        "tensors": len(findings.file.tensors),
        "tensor_types": findings.file.tensor_types,
        "fallbacks": findings.fallbacks,
        "pre_tokenizer": export.spec.pre,
        "texts_compared": len(PROBES),
        "texts_differing": len(findings.differing_probes),
        "warnings": warnings,
        "seconds": round(seconds, 3),
    }
