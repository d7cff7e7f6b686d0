"""The fine-tuning stage: the merged training set of a round in, an adapter or a model out."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaduo_gui.core.base_model import read_model_config, resolve_base_model
from llamaduo_gui.core.causal_lm import load_tokenizer
from llamaduo_gui.core.chat_templates import lent_template, template_sentence
from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.ml_libraries import prepare_ml_libraries
from llamaduo_gui.core.model_family import detect_family, stop_token_ids, unknown_family_sentences
from llamaduo_gui.core.types import Origin, Split
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RecordRow, RunRow
from llamaduo_gui.training.recipes import Recipe, load_recipe

_SOURCE = "finetune"


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything the trained weights depend on, resolved."""

    recipe: Recipe
    base: Path
    reference: str
    target: Path
    checkpoints: Path
    fingerprint: str
    round_number: int


def run_finetune(
    project: Project,
    run: RunRow,
    context: JobContext,
    *,
    round_number: int,
    config: PipelineConfig,
) -> dict[str, Any]:
    """Train the base model on the training set of a round; go on where an earlier attempt stopped.

    Every round starts from the base model again, on coverage records plus the synthetic ones
    kept so far. The result goes to `artifacts/round-N/adapter` (`model` after full
    fine-tuning) and is registered as an artifact of that kind.

    Returns:
        The summary: losses, steps, epochs, parameters, tokens, seconds, memory, records used
        and left out, the recipe.

    Raises:
        UserError: recipe, base model or data are not fit for training, or memory or disk space
            does not suffice.
        JobCancelledError: the user asked to stop; a checkpoint was saved.
    """
    prepare_ml_libraries()
    student = config.student
    recipe = load_recipe(student.recipe, student.overrides)
    base = resolve_base_model(student.base_model, student.revision)
    records = project.records.training_set(round_number)
    if not records:
        raise UserError("There is no training record; add coverage data to the project.")
    round_dir = project.paths.round_dir(round_number)
    plan = _Plan(
        recipe=recipe,
        base=base,
        reference=student.base_model,
        target=round_dir / ("model" if recipe.method == "full" else "adapter"),
        checkpoints=round_dir / "checkpoints",
        fingerprint=_fingerprint(config, recipe, run.seed, records),
        round_number=round_number,
    )
    summary = _finished_summary(plan)
    if summary is None:
        resolved = {"recipe": recipe.model_dump(mode="json"), "base_model": student.base_model}
        project.runs.set_config(run.id, {**run.config, **resolved})
        summary = _train(project, run, context, plan, records)
    _register(project, run, plan, summary)
    shutil.rmtree(plan.checkpoints, ignore_errors=True)
    context.changed("artifacts", "training_log")
    return summary


def _train(
    project: Project,
    run: RunRow,
    context: JobContext,
    plan: _Plan,
    records: Sequence[RecordRow],
) -> dict[str, Any]:
    started = time.monotonic()
    context.log(_SOURCE, _start_text(plan, records), run_id=run.id)
    # Seconds of imports, so they follow everything that can be wrong without them.
    from llamaduo_gui.training.artifact import save_trained
    from llamaduo_gui.training.callbacks import RunReporter
    from llamaduo_gui.training.checkpoints import open_checkpoints
    from llamaduo_gui.training.trainer import explained_failures, train

    resume_from = open_checkpoints(plan.checkpoints, plan.fingerprint)
    if resume_from is not None:
        context.log(_SOURCE, f"Going on from {resume_from.name}.", run_id=run.id)
    task = _make_task(project, run, context, plan, records, resume_from)
    outcome = train(task, [RunReporter(project, run.id, context)])
    if not outcome.is_finished:
        context.check_cancelled()
    summary = {
        "method": plan.recipe.method,
        "train_loss": outcome.train_loss,
        "eval_loss": outcome.eval_loss,
        "steps": outcome.steps,
        "epochs": outcome.epochs,
        "trainable_parameters": outcome.trainable_parameters,
        "parameters": outcome.parameters,
        "tokens": round(task.train.tokens * plan.recipe.training.epochs),
        "learnt_tokens": round(task.train.learnt_tokens * plan.recipe.training.epochs),
        "records_used": len(task.train.examples),
        "records_left_out": task.train.too_long,
        "validation_records": len(task.validation.examples),
        "validation_left_out": task.validation.too_long,
        "longest_record": task.train.longest,
        "resumed_from_step": _step_of(resume_from),
        "family": task.family.title if task.family.is_known else f"unknown ({task.family.name})",
        "chat_template": template_sentence(task.tokenizer) or "the base model's own",
        "device": task.numerics.device,
        "dtype": str(task.numerics.compute).removeprefix("torch."),
        "seed": run.seed,
        "recipe": plan.recipe.model_dump(mode="json"),
        "seconds": round(time.monotonic() - started, 3),
        "peak_memory_mb": _peak_memory_mb(task.numerics.device),
    }
    note = {"fingerprint": plan.fingerprint, "round": plan.round_number, **summary}
    with explained_failures(task):
        lent = lent_template(task.tokenizer)
        save_trained(
            outcome.model,
            plan.base,
            plan.target,
            reference=plan.reference,
            note=note,
            lent_template=lent.text if lent else "",
        )
    context.log(_SOURCE, _end_text(summary), run_id=run.id)
    del outcome, task
    _free_memory()
    return summary


def _make_task(
    project: Project,
    run: RunRow,
    context: JobContext,
    plan: _Plan,
    records: Sequence[RecordRow],
    resume_from: Path | None,
) -> Any:
    from llamaduo_gui.training.dataset import ConversationEncoder, EncodedSet, encode_records
    from llamaduo_gui.training.model import choose_numerics
    from llamaduo_gui.training.trainer import TrainingTask

    family = detect_family(plan.base)
    tokenizer = load_tokenizer(plan.base)
    for text in (unknown_family_sentences(family), template_sentence(tokenizer)):
        if text:
            _warn(context, run, text)
    encoder = ConversationEncoder(
        tokenizer,
        family,
        stop_token_ids(tokenizer, family, _declared_stops(plan.base)),
        is_assistant_only=plan.recipe.training.assistant_only_loss,
    )
    limit = _max_length(plan)

    def encode(rows: Sequence[RecordRow]) -> EncodedSet:
        conversations = (row.record.messages for row in rows)
        return encode_records(
            encoder, conversations, max_length=limit, check_cancelled=context.check_cancelled
        )

    train_set = encode(records)
    _report_too_long(train_set, "training", limit, lambda text: _warn(context, run, text))
    if not train_set.examples:
        raise UserError(
            f"Every training record is longer than {limit} tokens (the longest has "
            f"{train_set.longest}); set student.overrides.max_length higher."
        )
    validation = EncodedSet()
    if plan.recipe.training.eval != "never":
        validation = encode(project.records.by_split(Split.VALIDATION))
        _report_too_long(validation, "validation", limit, lambda text: _warn(context, run, text))
        # Like lengths share a batch, so that little of it is padding.
        validation.examples.sort(key=lambda example: -len(example.input_ids))
    return TrainingTask(
        recipe=plan.recipe,
        base=plan.base,
        family=family,
        numerics=choose_numerics(plan.recipe),
        tokenizer=tokenizer,
        train=train_set,
        validation=validation,
        checkpoints=plan.checkpoints,
        resume_from=resume_from,
        seed=run.seed,
    )


def _fingerprint(
    config: PipelineConfig, recipe: Recipe, seed: int, records: Sequence[RecordRow]
) -> str:
    """A hash of the recipe, the base model, the seed and the training records."""
    digest = hashlib.sha256()
    parts = {
        "recipe": recipe.model_dump(mode="json", exclude={"description"}),
        "base_model": config.student.base_model,
        "revision": config.student.revision,
        "seed": seed,
    }
    digest.update(json.dumps(parts, sort_keys=True).encode())
    for row in records:
        turns = [message.to_dict() for message in row.record.messages]
        digest.update(json.dumps(turns, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()


def _finished_summary(plan: _Plan) -> dict[str, Any] | None:
    from llamaduo_gui.training.artifact import read_note

    note = read_note(plan.target)
    if note is None or note.pop("fingerprint", None) != plan.fingerprint:
        return None
    note.pop("round", None)
    return note


def _register(project: Project, run: RunRow, plan: _Plan, summary: Mapping[str, Any]) -> None:
    project.artifacts.add(
        run.id,
        plan.target.name,
        plan.target,
        round_number=plan.round_number,
        meta={
            "method": plan.recipe.method,
            "base_model": plan.reference,
            "eval_loss": summary["eval_loss"],
            "steps": summary["steps"],
        },
    )


def _declared_stops(base: Path) -> list[int]:
    """`eos_token_id` of generation_config.json and config.json."""
    found: list[int] = []
    sources = [read_model_config(base)]
    path = base / "generation_config.json"
    if path.is_file():
        sources.append(json.loads(path.read_text(encoding="utf-8")))
    for source in sources:
        value = source.get("eos_token_id")
        found += [value] if isinstance(value, int) else list(value or [])
    return found


def _max_length(plan: _Plan) -> int:
    context_length = read_model_config(plan.base).get("max_position_embeddings")
    wanted = plan.recipe.training.max_length
    return min(wanted, int(context_length)) if context_length else wanted


def _report_too_long(encoded: Any, name: str, limit: int, warn: Callable[[str], None]) -> None:
    if encoded.too_long:
        total = encoded.too_long + len(encoded.examples)
        warn(
            f"{encoded.too_long} of {total} {name} records are longer than {limit} tokens (the "
            f"longest has {encoded.longest}) and are left out, since a cut answer would teach "
            "the model to stop half-way; raise max_length to use them."
        )


def _warn(context: JobContext, run: RunRow, text: str) -> None:
    context.log(_SOURCE, text, level="warning", run_id=run.id)


def _start_text(plan: _Plan, records: Sequence[RecordRow]) -> str:
    synthetic = sum(row.origin is Origin.SYNTHETIC for row in records)
    return (
        f"Round {plan.round_number}: {plan.recipe.method} fine-tuning of {plan.reference} on "
        f"{len(records)} records ({synthetic} synthetic)."
    )


def _end_text(summary: Mapping[str, Any]) -> str:
    losses = [
        f"{name} {summary[key]:.3f}"
        for name, key in (("training loss", "train_loss"), ("validation loss", "eval_loss"))
        if summary[key] is not None
    ]
    return f"Trained {summary['steps']} steps in {summary['seconds']:.0f} s: {', '.join(losses)}."


def _step_of(checkpoint: Path | None) -> int | None:
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else None


def _peak_memory_mb(device: str) -> float:
    """Most memory held so far: of the GPU when it trains, else of this process."""
    if device == "cuda":
        import torch

        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 2**20, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _free_memory() -> None:
    """Give the model's memory back: inference follows in the same process."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
