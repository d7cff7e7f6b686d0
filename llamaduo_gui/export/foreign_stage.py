"""The export stage for a model of an unknown family: llama.cpp's own converter writes the file."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.core.model_family import detect_family, stop_token_ids, unknown_family_sentences
from llamaduo_gui.export.converter import convert_student, find_converter
from llamaduo_gui.export.gguf_writer import DIRECT_TYPES
from llamaduo_gui.export.provenance import describe_export, file_name
from llamaduo_gui.export.quantize import quantize
from llamaduo_gui.export.shards import open_shards
from llamaduo_gui.export.tokenizer import TokenizerSpec, exported_template, load_tokenizer
from llamaduo_gui.export.verify import PROBES, Findings, verify_gguf
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import ArtifactRow, RunRow

_SOURCE = "export"
_INTERMEDIATE = "F16"
_STEPS = 3


@dataclass(frozen=True, slots=True)
class ForeignExport:
    """What is exported: of which student, from which base folder, in which quantisation, where.

    `base` is the student's own folder after full fine-tuning; `out` is None for the usual place.
    """

    student: ArtifactRow
    base: Path
    round_number: int
    quant: str
    out: Path | None

    @property
    def is_direct(self) -> bool:
        """Whether the converter writes the quantisation itself."""
        return self.quant in DIRECT_TYPES


def export_foreign(
    project: Project,
    run: RunRow,
    context: JobContext,
    config: PipelineConfig,
    export: ForeignExport,
) -> dict[str, Any]:
    """Export a student whose family this program does not know; see `run_export`.

    The merged model lies on the disk while the converter reads it, and its loading takes the
    memory of the whole model: the price of a family that is not written directly.

    Raises:
        UserError: no llama.cpp checkout is named, or its converter refuses the model.
    """
    started = time.monotonic()
    family = detect_family(export.base)
    script = find_converter(family)
    warnings = [unknown_family_sentences(family)]
    context.log(_SOURCE, warnings[0], level="warning", run_id=run.id)
    target = _target(project, config, export)
    meter = ProgressMeter(context, run.id, _STEPS, "steps")
    partial = target.with_name(target.name + ".part")
    wide = partial.with_name(partial.name + ".f16")
    try:
        findings = _write(project, context, meter, script, export, (partial, wide))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
        wide.unlink(missing_ok=True)
    for text in findings.sentences(export.quant):
        warnings.append(text)
        context.log(_SOURCE, text, level="warning", run_id=run.id)
    types = findings.file.tensor_types
    artifact = project.artifacts.add(
        run.id,
        "gguf",
        target,
        round_number=export.round_number,
        meta={"quant": export.quant, "tensor_types": types},
    )
    meter.update(message="Done", force=True)
    context.changed("artifacts")
    return {
        "path": artifact.path,
        "quant": export.quant,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "architecture": findings.file.architecture,
        "parameters": findings.file.parameters,
        "tensors": len(findings.file.tensors),
        "tensor_types": types,
        "fallbacks": findings.fallbacks,
        "pre_tokenizer": str(findings.file.metadata.get("tokenizer.ggml.pre", "")),
        "texts_compared": len(PROBES),
        "texts_differing": len(findings.differing_probes),
        "warnings": warnings,
        "written_by": "llama.cpp's converter",
        "seconds": round(time.monotonic() - started, 3),
    }


def _target(project: Project, config: PipelineConfig, export: ForeignExport) -> Path:
    description = describe_export(
        project.name,
        config,
        export.base,
        round_number=export.round_number,
        student_hash=export.student.sha256,
    )
    weights = sum(int(tensor.array.size) for tensor in open_shards(export.base).values())
    folder = project.paths.round_dir(export.round_number)
    target = export.out or folder / file_name(description, weights, export.quant)
    target = target.expanduser().resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _write(
    project: Project,
    context: JobContext,
    meter: ProgressMeter,
    script: Path,
    export: ForeignExport,
    files: tuple[Path, Path],
) -> Findings:
    """Merge, convert, quantise and check; `files` are the result and what it is quantised from."""
    partial, wide = files
    folder = project.artifacts.absolute(export.student)
    adapter = folder if export.student.kind == "adapter" else None
    family, tokenizer = detect_family(export.base), load_tokenizer(export.base, adapter)
    meter.update(0, message="Merging and converting with llama.cpp", force=True)
    convert_student(
        script,
        export.base,
        adapter,
        partial if export.is_direct else wide,
        kind=export.quant if export.is_direct else _INTERMEDIATE,
        chat_template=exported_template(tokenizer, family.template_arguments),
        check_cancelled=context.check_cancelled,
    )
    if not export.is_direct:
        meter.update(1, message=f"Quantising to {export.quant}", force=True)
        quantize(wide, partial, export.quant, lambda _number: None)
    context.check_cancelled()
    meter.update(_STEPS - 1 - meter.done, message="Checking the file", force=True)
    stops = stop_token_ids(tokenizer, family, _declared_stops(export.base))
    return verify_gguf(partial, export.quant, tokenizer, _only_stops(stops))


def _declared_stops(base: Path) -> int | list[int] | None:
    path = base / "generation_config.json"
    if not path.is_file():
        return None
    found: int | list[int] | None = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return found


def _only_stops(stop_ids: tuple[int, ...]) -> TokenizerSpec:
    """What the check needs of a tokeniser that the converter described."""
    return TokenizerSpec(
        pre="",
        tokens=(),
        token_types=(),
        merges=(),
        special_ids={},
        add_bos=False,
        add_eos=False,
        normalizer="",
        chat_template="",
        stop_ids=stop_ids,
        warnings=(),
    )
