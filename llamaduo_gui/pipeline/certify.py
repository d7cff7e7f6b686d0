"""Certification: whether an exported file is and answers as the student that was trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.base_model import resolve_base_model
from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.events import Level
from llamaduo_gui.core.gguf_file import GgufFile, check_gguf
from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.core.model_family import detect_family
from llamaduo_gui.core.quants import Quant, load_quants
from llamaduo_gui.core.types import Record, Split
from llamaduo_gui.core.weights_hash import hash_weights
from llamaduo_gui.export.certificate import (
    Certificate,
    Check,
    differences_check,
    divergence_check,
    scores_check,
    tokens_check,
)
from llamaduo_gui.pipeline.backends import latest_student
from llamaduo_gui.pipeline.certify_scores import judged_answers
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RunRow

if TYPE_CHECKING:
    from llamaduo_gui.export.tokenizer import TokenizerSpec
    from llamaduo_gui.inference.transformers_backend import TransformersBackend

FORMAT = 1
_SOURCE = "certify"
_STEPS = 7


@dataclass(frozen=True, slots=True)
class Student:
    """What a file is compared with: the base model and, unless all of it was trained, an adapter.

    `trained` is the folder of what training made.
    """

    base: Path
    adapter: Path | None
    round: int

    @property
    def trained(self) -> Path:
        """The folder training left."""
        return self.adapter or self.base


@dataclass(slots=True)
class _Findings:
    """Checks and numbers gathered so far."""

    checks: list[Check] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def add(self, check: Check, **numbers: Any) -> None:
        """Keep a check and the numbers behind it."""
        self.checks.append(check)
        self.numbers.update(numbers)


def find_student(project: Project, config: PipelineConfig, round_number: int) -> Student:
    """The student of a round.

    Raises:
        UserError: there is none, or its files are gone.
    """
    row = latest_student(project, round_number)
    if row is None:
        raise UserError(f"Round {round_number} has no trained student yet; fine-tune first.")
    folder = project.artifacts.absolute(row)
    if not folder.is_dir():
        raise UserError(
            f"The student of round {round_number} is missing from {folder}; fine-tune again."
        )
    if row.kind == "model":
        return Student(folder, None, round_number)
    base = resolve_base_model(config.student.base_model, config.student.revision)
    return Student(base, folder, round_number)


def run_certification(
    project: Project,
    run: RunRow,
    context: JobContext,
    *,
    config: PipelineConfig,
    path: Path,
    student: Student,
    quant: str | None,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Compare a GGUF with the student it was exported from, and say whether it may be used.

    Header and weights are compared with what the export would write; token ids and next-token
    distributions with the trained model's on the test split; the judged answers with the trained
    model's, where both have been judged. Nothing is paid for here.

    Args:
        project: holds the test split and the judged answers.
        run: of this certification.
        context: progress and cancellation.
        config: its seed draws the sample.
        path: the file.
        student: what it is compared with.
        quant: of the exported file whose answers were judged; None for another file.
        versions: of the packages in use.

    Returns:
        The certificate: verdict, causes, checks, numbers, hashes, versions, date.

    Raises:
        UserError: there is no file, or the student cannot be loaded.
        JobCancelledError: the user asked to stop.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; export the student first.")
    meter = ProgressMeter(context, run.id, _STEPS, "checks")
    found = _Findings()
    records = [row.record for row in project.records.by_split(Split.TEST)]
    file = _read_header(path, found)
    if file is not None:
        _compare_with_export(file, student, found, meter)
        _compare_answers(file, student, records, found, config, context, meter)
    meter.update(_STEPS - 1 - meter.done, message="Comparing the judged answers", force=True)
    sha256 = hash_file(path)
    comparison, why_not = judged_answers(project, config, student.round, quant, sha256)
    found.add(
        scores_check(comparison, config.decision.margin, why_not),
        scores=[asdict(item) for item in comparison],
    )
    certificate = Certificate(
        tuple(found.checks), _identity(path, sha256, file, student, found, versions)
    )
    meter.update(message="Done", force=True)
    result = certificate.to_dict()
    level: Level = "info" if certificate.is_certified else "warning"
    context.log(_SOURCE, certificate_sentence(result), level=level, run_id=run.id)
    return result


def certificate_sentence(result: Mapping[str, Any]) -> str:
    """The verdict on a file in one or two sentences."""
    if result["is_certified"]:
        return f"{result['file']} is certified: it answers as the student that was trained."
    return f"{result['file']} is not certified. {result['causes'][0]}"


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def merged_onto(file: GgufFile) -> str | None:
    """Number format of the 4-bit weights the file says its adapter was merged onto, or None."""
    text = str(file.metadata.get("llamaduo.merged_onto", ""))
    dtype = text.removeprefix("nf4 from ")
    return dtype if dtype != text and dtype in ("bfloat16", "float16", "float32") else None


def _read_header(path: Path, found: _Findings) -> GgufFile | None:
    try:
        file = check_gguf(path)
    except UserError as error:
        found.add(Check("load", "The file", "failed", str(error)))
        return None
    return file


def _compare_with_export(
    file: GgufFile, student: Student, found: _Findings, meter: ProgressMeter
) -> None:
    """Header, template and weights, against what the export would write."""
    from llamaduo_gui.export.compare import header_differences, weight_differences
    from llamaduo_gui.export.tensors import open_model
    from llamaduo_gui.export.tokenizer import describe_tokenizer, load_tokenizer

    meter.update(0, message="Comparing the header", force=True)
    if detect_family(student.base).gguf_architecture is None:
        why_not = "Another converter wrote the file: header and weights were not compared."
        found.add(Check("header", "Header and weights", "skipped", why_not))
        return
    model = open_model(student.base, student.adapter, quantized_from=merged_onto(file))
    tokenizer = load_tokenizer(student.base, student.adapter)
    spec = describe_tokenizer(tokenizer, student.base, model.embedding_rows)
    differences = header_differences(file, model, spec)
    found.add(
        differences_check(
            "header",
            "Shape, vocabulary and special tokens",
            differences,
            "The header says what the student is: shape, rotary embedding, vocabulary and "
            "special tokens are equal.",
        )
    )
    _compare_template(file, spec, found)
    meter.update(message="Comparing the weights", force=True)
    found.add(
        differences_check(
            "weights",
            "Weights",
            weight_differences(file, model),
            f"Sampled rows of all {len(model.tensors):,} tensors are the student's, as exactly "
            "as their types allow.",
        ),
        tensors={"compared": len(model.tensors), "types": file.tensor_types},
    )
    meter.update(message="Loading the file", force=True)


def _compare_template(file: GgufFile, spec: TokenizerSpec, found: _Findings) -> None:
    title = "Chat template"
    text = file.metadata.get("tokenizer.chat_template")
    if not text:
        cause = (
            "The file has lost its chat template: programs that run it would put questions to the "
            "model in another form than it was trained with."
        )
        found.add(Check("template", title, "failed", cause))
    elif text == spec.chat_template:
        found.add(Check("template", title, "passed", "The chat template is the student's."))
    else:
        cause = "The chat template in the file is not the one the student was trained with."
        found.add(Check("template", title, "failed", cause))


def _compare_answers(
    file: GgufFile,
    student: Student,
    records: list[Record],
    found: _Findings,
    config: PipelineConfig,
    context: JobContext,
    meter: ProgressMeter,
) -> None:
    """Load the file in llama.cpp and compare what it reads and computes."""
    from llamaduo_gui.core.llama_library import LlamaModel
    from llamaduo_gui.inference.transformers_backend import TransformersBackend
    from llamaduo_gui.pipeline import certify_numbers as numbers

    trained = TransformersBackend.load(student.base, student.adapter)
    try:
        if dtype := merged_onto(file):
            trained.round_base_to_4_bits(dtype)
        before = numbers.resident_bytes()
        try:
            model = LlamaModel(file.path)
        except UserError as error:
            found.add(Check("load", "Loading", "failed", str(error)))
            return
        with model:
            text = "llama.cpp loads the file."
            found.add(Check("load", "Loading", "passed", text))
            found.add(_stops_check(model.ends_answer, trained.stop_ids))
            context.check_cancelled()
            meter.update(message="Comparing token ids", force=True)
            tokens = numbers.compare_tokens(model, records, trained)
            found.add(tokens_check(tokens), tokens=asdict(tokens))
            context.check_cancelled()
            _compare_numbers(model, trained, records, found, config, context, meter, before)
    finally:
        trained.close()


def _compare_numbers(
    model: Any,
    trained: TransformersBackend,
    records: list[Record],
    found: _Findings,
    config: PipelineConfig,
    context: JobContext,
    meter: ProgressMeter,
    memory_before: int,
) -> None:
    from llamaduo_gui.pipeline import certify_numbers as numbers

    longest = min(trained.context_length, model.file.context_length or trained.context_length)
    texts = numbers.sample_texts(records, trained, seed=config.seed, longest=longest)
    title = "Next-token distributions"
    if not texts:
        why_not = "No prompt of the test split fits the model's context."
        found.add(Check("divergence", title, "skipped", why_not))
        return
    meter.update(message="Measuring speed and memory", force=True)
    speed = numbers.measure_performance(model, texts, memory_before)
    found.numbers["performance"] = asdict(speed)
    meter.update(message="Comparing next-token distributions", force=True)
    divergence = numbers.measure_divergence(model, texts, trained, context.check_cancelled)
    found.add(
        divergence_check(divergence, nearest_quant(model.file)), divergence=asdict(divergence)
    )


def nearest_quant(file: GgufFile) -> Quant:
    """The type a file is of; for one this program does not make, that of the nearest size."""
    quants = load_quants()
    if file.quant in quants:
        return quants[file.quant]
    bits = 8 * sum(tensor.size_bytes for tensor in file.tensors) / max(1, file.parameters)
    return min(quants.values(), key=lambda quant: abs(quant.bits - bits))


def _stops_check(ends_answer: Callable[[int], bool], stop_ids: tuple[int, ...]) -> Check:
    title = "Stop tokens"
    deaf = [token for token in stop_ids if not ends_answer(token)]
    if deaf:
        cause = f"llama.cpp does not stop at the tokens {deaf}, at which the student's answers end."
        return Check("stops", title, "failed", cause)
    count = len(stop_ids)
    text = f"llama.cpp stops at all {count} tokens that end an answer."
    return Check("stops", title, "passed", text)


def _identity(
    path: Path,
    sha256: str,
    file: GgufFile | None,
    student: Student,
    found: _Findings,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Which file, which student, with what, when."""
    return {
        "format": FORMAT,
        "file": path.name,
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "quant": file.quant if file else "",
        "round": student.round,
        "sha256": sha256,
        "student_sha256": hash_weights(student.trained),
        "base_sha256": hash_weights(student.base),
        "versions": dict(versions),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **found.numbers,
    }
