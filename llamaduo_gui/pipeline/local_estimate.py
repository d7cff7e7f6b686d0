"""Memory and time of the work on this computer: fine-tuning the student, and its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.base_model import read_model_config
from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.machine import Machine, read_machine
from llamaduo_gui.core.model_family import detect_family
from llamaduo_gui.core.model_shape import ModelShape, read_shape
from llamaduo_gui.core.types import RunStatus, Split, Stage
from llamaduo_gui.core.weights_folder import find_base_model
from llamaduo_gui.pipeline.forecast import Range
from llamaduo_gui.pipeline.forecast_text import time_range
from llamaduo_gui.training.estimate import (
    BYTES,
    CUDA_CONTEXT_BYTES,
    MemoryEstimate,
    TrainingSetup,
    generation_flops,
    inference_memory,
    trained_parameters,
    training_flops,
    training_memory,
)
from llamaduo_gui.training.hardware import Hardware, resolve
from llamaduo_gui.training.measured import Calibration, calibrate, read_measurements
from llamaduo_gui.training.memory import read_sizes
from llamaduo_gui.training.recipes import Recipe, load_recipe

if TYPE_CHECKING:
    from llamaduo_gui.store.project import Project

# Text of many languages and kinds comes to about so many bytes a token.
_BYTES_A_TOKEN = 3.7
_TEMPLATE_TOKENS = 20
# Where nothing was measured the speed may be this far off, and after a run of another model less.
_GUESSED, _OTHER_MODEL, _SAME_MODEL = (
    Range(0.4, 1.0, 2.5),
    Range(0.6, 1.0, 1.7),
    Range(0.8, 1.0, 1.3),
)
# Unpacking 4-bit weights costs about a third of the time again.
_FOUR_BIT_SLOWER = 1.35
# Generation reads all weights for each token; a batch shares the reading, up to a point.
_GENERATION_SHARE = 0.15
_SEQUENCES = 8
_TOO_LONG_S = 24 * 3600.0
# Of the memory; the rest is for activations and the system.
_WEIGHTS_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class WorkEstimate:
    """One kind of work.

    Attributes:
        memory: uncorrected, by what it is for; `needed_bytes` is corrected by past runs.
        seconds: from the least to the most.
        tokens: that are trained on, or read and written.
    """

    memory: MemoryEstimate
    needed_bytes: float
    seconds: Range
    tokens: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "memory_bytes": round(self.needed_bytes),
            "memory_parts": self.memory.to_dict(),
            "seconds": self.seconds.to_dict(),
            "tokens": round(self.tokens),
        }


@dataclass(frozen=True, slots=True)
class LocalEstimate:
    """The student on this machine.

    Attributes:
        parameters: of the base model, and how many of them, or of an adapter, are trained.
        setup: what of the recipe the figures rest on.
        calibration: what past runs on this machine say.
    """

    parameters: int
    trained: int
    is_exact: bool
    setup: TrainingSetup
    training: WorkEstimate
    inference: WorkEstimate
    machine: Machine
    calibration: Calibration

    @property
    def does_fit(self) -> bool:
        """Whether the memory that is free suffices for the training."""
        return self.training.needed_bytes <= self.machine.model_bytes_free

    @property
    def basis(self) -> str:
        """What the figures rest on, in words."""
        found = self.calibration
        if not found.runs:
            return "judged by the model's sizes; the first run on this machine corrects it"
        runs = "1 run" if found.runs == 1 else f"{found.runs} runs"
        which = "this model" if found.is_same_model else "other models"
        return f"corrected by {runs} of {which} on this machine"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "parameters": self.parameters,
            "trained_parameters": self.trained,
            "is_exact": self.is_exact,
            "training": self.training.to_dict(),
            "inference": self.inference.to_dict(),
            "does_fit": self.does_fit,
            "basis": self.basis,
            "sentences": sentences(self),
            "machine": self.machine.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Workload:
    """Tokens of the training set, its longest record, and the prompts to answer."""

    tokens: float
    longest: int
    prompts: int
    prompt_tokens: float
    answer_tokens: float


def estimate_local(
    project: Project,
    config: PipelineConfig,
    *,
    round_number: int | None = None,
    machine: Machine | None = None,
) -> LocalEstimate:
    """Estimate a round's fine-tuning and its answers; downloads nothing.

    Raises:
        UserError: the base model is not on this machine, or tells no sizes; or the recipe or its
            overrides are not valid.
    """
    student = config.student
    recipe = load_recipe(student.recipe, student.overrides)
    folder = find_base_model(student.base_model, student.revision)
    if folder is None:
        raise UserError(
            f"The base model {student.base_model} is not on this machine yet; download it to see "
            "what it needs."
        )
    found = machine or read_machine(project.folder)
    work = measure_workload(project, config, round_number)
    return estimate_for(folder, student.base_model, recipe, work, found)


def round_to_train(project: Project) -> int:
    """The next round that has data but no student yet; the last trained one otherwise."""
    trained = [
        run.round
        for run in project.runs.all(Stage.FINETUNE)
        if run.status is RunStatus.SUCCEEDED and run.round is not None
    ]
    following = max(trained, default=-1) + 1
    synthesized = project.runs.by_key(f"synthesize:r{following}")
    has_data = following == 0 or (
        synthesized is not None and synthesized.status is RunStatus.SUCCEEDED
    )
    return following if has_data else max(trained)


def estimate_for(
    folder: Path, reference: str, recipe: Recipe, work: Workload, machine: Machine
) -> LocalEstimate:
    """The estimate for a model folder; see `estimate_local`."""
    model_config = read_model_config(folder)
    shape = read_shape(model_config)
    if shape is None:
        raise UserError(f"The config.json of {reference} does not tell the model's sizes.")
    setup = make_setup(recipe, folder, model_config, machine, work.longest)
    past = calibrate(read_measurements(), machine.device_name, reference, setup.method)
    spread = _GUESSED if not past.runs else _SAME_MODEL if past.is_same_model else _OTHER_MODEL
    rate = past.flops_per_s or machine.flops_per_s
    slower = _FOUR_BIT_SLOWER if setup.method == "qlora" and not past.runs else 1.0
    tokens = work.tokens * recipe.training.epochs
    memory = training_memory(shape, setup)
    seconds = training_flops(shape, setup, tokens) * slower / rate
    return LocalEstimate(
        parameters=shape.parameters,
        trained=trained_parameters(shape, setup),
        is_exact=shape.is_exact,
        setup=setup,
        training=WorkEstimate(
            memory,
            corrected(memory, past, machine.device),
            spread * Range.exactly(seconds),
            tokens,
        ),
        inference=_answering(shape, setup, work, machine),
        machine=machine,
        calibration=past,
    )


def make_setup(
    recipe: Recipe,
    folder: Path,
    model_config: Mapping[str, Any],
    machine: Machine,
    longest: int,
) -> TrainingSetup:
    """What memory and time depend on, with the recipe's `auto` decided as the training decides."""
    is_gpu = machine.device == "cuda"
    hardware = Hardware(
        "cuda" if is_gpu else "cpu",
        has_bf16=is_gpu,
        has_flash_attention=is_gpu and find_spec("flash_attn") is not None,
        has_bitsandbytes=find_spec("bitsandbytes") is not None,
        free_bytes=machine.model_bytes_free,
    )
    choices = resolve(recipe, hardware, read_sizes(model_config))
    wanted = recipe.lora.target_modules
    targets: tuple[str, ...] | None = None if isinstance(wanted, str) else tuple(wanted)
    if wanted == "auto":
        targets = detect_family(folder).lora_targets or None
    return TrainingSetup(
        method=recipe.method,
        dtype=choices.dtype,
        rank=recipe.lora.r,
        dropout=recipe.lora.dropout,
        targets=targets,
        trained_embeddings=len(recipe.lora.modules_to_save),
        batch_size=recipe.training.batch_size,
        length=min(recipe.training.max_length, max(16, longest)),
        is_checkpointed=choices.gradient_checkpointing,
        is_8bit_optimizer="8bit" in choices.optimizer,
        device=hardware.device,
    )


def measure_workload(
    project: Project, config: PipelineConfig, round_number: int | None = None
) -> Workload:
    """Count the tokens of the project's records by their bytes."""
    number = round_number if round_number is not None else 0
    sizes = [_tokens_of(row.record) for row in project.records.training_set(number)]
    split = Split(config.decision.split)
    asked = [row.record for row in project.records.by_split(split)]
    prompts = [len(record.instruction.encode()) / _BYTES_A_TOKEN for record in asked]
    answers = [len(record.target.encode()) / _BYTES_A_TOKEN for record in asked]
    if number > 0 and not any(row.round == number for row in project.records.training_set(number)):
        # The round's pairs are still to come, and are about as long as those there are.
        mean = fmean(sizes) if sizes else 0.0
        sizes += [mean] * config.synthesis.pairs_per_round
    return Workload(
        tokens=sum(sizes),
        longest=round(max(sizes, default=0)),
        prompts=len(asked) * config.inference.samples,
        prompt_tokens=fmean(prompts) if prompts else 0.0,
        answer_tokens=min(
            float(config.inference.max_new_tokens), fmean(answers) if answers else 0.0
        ),
    )


def corrected(memory: MemoryEstimate, past: Calibration, device: str) -> float:
    """The peak, corrected by past ones; those of a GPU are without its context."""
    fixed = CUDA_CONTEXT_BYTES if device == "cuda" else 0.0
    return (memory.total - fixed) * past.memory_factor + fixed


def sentences(found: LocalEstimate) -> list[str]:
    """What a person should know: what is needed, what there is, and what is realistic."""
    training, machine = found.training, found.machine
    place = machine.gpus[0].name if machine.gpus else "this computer"
    text = (
        f"Fine-tuning needs about {_size(training.needed_bytes)} of memory and "
        f"{_span(training.seconds)}, answering about {_size(found.inference.needed_bytes)} and "
        f"{_span(found.inference.seconds)}; {_size(machine.model_bytes_free)} of "
        f"{_size(machine.model_bytes_total)} are free on {place} ({found.basis})."
    )
    result = [text]
    if not found.does_fit:
        result.append(
            "It does not fit: choose a smaller batch or length, the qlora recipe, or a smaller "
            "base model."
        )
    if machine.device == "cpu":
        result.append(advice(found))
    return result


def advice(found: LocalEstimate) -> str:
    """What is realistic without a GPU, with numbers from the time estimate."""
    start = f"There is no NVIDIA GPU here, so the {found.machine.cores} processor cores train: "
    per_day = found.parameters * _TOO_LONG_S / max(1.0, found.training.seconds.expected)
    each = found.training.memory.weights / found.parameters
    largest = _count(min(per_day, _WEIGHTS_SHARE * found.machine.ram_total / each))
    if found.training.seconds.expected <= _TOO_LONG_S:
        return (
            f"{start}realistic for this model; with these records a day would suffice for about "
            f"{largest} parameters."
        )
    return (
        f"{start}not realistic for {_count(found.parameters)} parameters; with these records a "
        f"day suffices for about {largest}. Choose a smaller base model or a machine with a GPU."
    )


def _answering(
    shape: ModelShape, setup: TrainingSetup, work: Workload, machine: Machine
) -> WorkEstimate:
    each = BYTES[setup.dtype]
    memory = inference_memory(
        shape,
        tokens=round(work.prompt_tokens + work.answer_tokens) + 2 * _TEMPLATE_TOKENS,
        weight_bytes=each,
        cache_bytes=each,
        sequences=_SEQUENCES,
        device=setup.device,
    )
    read = work.prompts * (work.prompt_tokens + _TEMPLATE_TOKENS)
    written = work.prompts * work.answer_tokens
    rate = machine.flops_per_s * _GENERATION_SHARE
    seconds = generation_flops(shape, read * _GENERATION_SHARE, written) / rate
    tokens = read + written
    return WorkEstimate(memory, memory.total, _GUESSED * Range.exactly(seconds), tokens)


def _tokens_of(record: Any) -> float:
    turns = [message.to_dict() for message in record.messages]
    text = "".join(str(turn.get("content", "")) for turn in turns)
    return len(text.encode()) / _BYTES_A_TOKEN + _TEMPLATE_TOKENS * len(turns) / 2


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _count(parameters: float) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if parameters >= size:
            return f"{parameters / size:.3g} {unit}"
    return f"{parameters:.0f}"


def _span(seconds: Range) -> str:
    return time_range(seconds)
