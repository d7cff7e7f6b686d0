"""The fine-tuning stage: the merged training set of a round in, an adapter or a model out."""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaduo_gui.core.base_model import read_model_config, resolve_base_model
from llamaduo_gui.core.causal_lm import load_tokenizer
from llamaduo_gui.core.chat_templates import lent_template, template_sentence
from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.ml_libraries import prepare_ml_libraries
from llamaduo_gui.core.model_family import detect_family, stop_token_ids, unknown_family_sentences
from llamaduo_gui.core.types import Origin, Split
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RecordRow, RunRow
from llamaduo_gui.training.keep_measured import keep_measured
from llamaduo_gui.training.options import TrainingOptions
from llamaduo_gui.training.plan import fingerprint, make_plan
from llamaduo_gui.training.recipes import Recipe, load_recipe

_SOURCE = "finetune"
_CHOICES = "choices.json"


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything the trained weights depend on, resolved."""

    recipe: Recipe
    base: Path
    reference: str
    target: Path
    checkpoints: Path
    events: Path
    content: dict[str, Any]
    fingerprint: str
    round_number: int
    launch: Any
    should_restart: bool


def run_finetune(
    project: Project,
    run: RunRow,
    context: JobContext,
    *,
    round_number: int,
    config: PipelineConfig,
    options: TrainingOptions | None = None,
) -> dict[str, Any]:
    """Train the base model on the training set of a round; go on where an earlier attempt stopped.

    Every round starts from the base model again, on coverage records plus the synthetic ones
    kept so far. The result goes to `artifacts/round-N/adapter` (`model` after full
    fine-tuning) and is registered as an artifact of that kind.

    Returns:
        The summary: losses, steps, epochs, parameters, tokens, seconds, memory, records used
        and left out, the recipe and what was decided of it.

    Raises:
        UserError: recipe, base model or data are not fit for training, memory or disk space does
            not suffice, or there are checkpoints of other settings.
        JobCancelledError: the user asked to stop; a checkpoint was saved.
    """
    prepare_ml_libraries()
    student = config.student
    recipe = load_recipe(student.recipe, student.overrides)
    base = resolve_base_model(student.base_model, student.revision)
    records = project.records.training_set(round_number)
    if not records:
        raise UserError("There is no training record; add coverage data to the project.")
    plan = _make_plan(
        project.paths.round_dir(round_number),
        run.seed,
        config,
        recipe=recipe,
        base=base,
        records=records,
        options=options or TrainingOptions(),
        round_number=round_number,
    )
    summary = None if plan.should_restart else _finished_summary(plan)
    if summary is None:
        resolved = {"recipe": recipe.model_dump(mode="json"), "base_model": student.base_model}
        project.runs.set_config(run.id, {**run.config, **resolved})
        summary = _train(project, run, context, plan, records)
        keep_measured(summary, recipe, student.recipe, base=base, reference=student.base_model)
    _register(project, run, plan, summary)
    shutil.rmtree(plan.checkpoints, ignore_errors=True)
    context.changed("artifacts", "training_log")
    return summary


def _make_plan(
    folder: Path,
    seed: int,
    config: PipelineConfig,
    *,
    recipe: Recipe,
    base: Path,
    records: Sequence[RecordRow],
    options: TrainingOptions,
    round_number: int,
) -> _Plan:
    if recipe.training.tensorboard:
        from llamaduo_gui.training.event_files import check_writer

        check_writer()
    from llamaduo_gui.training.distributed import plan_launch

    launch = plan_launch(options.accelerate_config)
    content = make_plan(
        recipe,
        base_model=config.student.base_model,
        revision=config.student.revision,
        seed=seed,
        conversations=(row.record.messages for row in records),
        processes=launch.processes if launch else 1,
    )
    return _Plan(
        recipe=recipe,
        base=base,
        reference=config.student.base_model,
        target=folder / ("model" if recipe.method == "full" else "adapter"),
        checkpoints=folder / "checkpoints",
        events=folder / "tensorboard",
        content=content,
        fingerprint=fingerprint(content),
        round_number=round_number,
        launch=launch,
        should_restart=options.should_restart,
    )


def _train(
    project: Project,
    run: RunRow,
    context: JobContext,
    plan: _Plan,
    records: Sequence[RecordRow],
) -> dict[str, Any]:
    started = time.monotonic()
    # Seconds of imports, so they follow everything that can be wrong without them.
    from llamaduo_gui.training.artifact import partial_folder, publish
    from llamaduo_gui.training.checkpoints import open_checkpoints, step_of
    from llamaduo_gui.training.reporting import ProjectSink
    from llamaduo_gui.training.trainer import explained_failures

    resume_from = open_checkpoints(
        plan.checkpoints, plan.content, should_restart=plan.should_restart
    )
    context.log(_SOURCE, _start_text(plan, records), run_id=run.id)
    if resume_from is not None:
        context.log(_SOURCE, f"Going on from {resume_from.name}.", run_id=run.id)
    task = _make_task(project, run, context, plan, records, resume_from)
    _note_choices(project, run, context, task)
    sink = ProjectSink(project, run.id, context)
    if plan.launch is None:
        figures, peak = _train_here(task, plan, sink, context)
    else:
        figures, peak = _train_launched(task, plan, sink, context)
    if not figures.is_finished:
        context.check_cancelled()
        raise LlamaDuoError("The training ended before its last step; resume it.")
    summary = {
        "method": plan.recipe.method,
        **_counts(figures, task, plan.recipe),
        "resumed_from_step": step_of(resume_from) if resume_from else None,
        "family": task.family.title if task.family.is_known else f"unknown ({task.family.name})",
        "chat_template": template_sentence(task.tokenizer) or "the base model's own",
        "device": task.numerics.device,
        "dtype": str(task.numerics.compute).removeprefix("torch."),
        "choices": task.choices.to_dict(),
        "processes": plan.content["processes"],
        "seed": run.seed,
        "recipe": plan.recipe.model_dump(mode="json"),
        "seconds": round(time.monotonic() - started, 3),
        "peak_memory_mb": peak,
    }
    note = {"fingerprint": plan.fingerprint, "round": plan.round_number, **summary}
    with explained_failures(task):
        publish(partial_folder(plan.target), plan.target, note)
    context.log(_SOURCE, _end_text(summary), run_id=run.id)
    return summary


def _train_here(task: Any, plan: _Plan, sink: Any, context: JobContext) -> tuple[Any, float]:
    """Train in this process; the figures, and the peak of memory in MiB."""
    from llamaduo_gui.training.artifact import partial_folder, write_trained
    from llamaduo_gui.training.callbacks import RunReporter, peak_memory_mb
    from llamaduo_gui.training.trainer import explained_failures, train

    outcome = train(task, [RunReporter(sink, context.cancel_requested.is_set)])
    figures = outcome.figures
    if figures.is_finished:
        lent = lent_template(task.tokenizer)
        with explained_failures(task):
            write_trained(
                outcome.model,
                plan.base,
                partial_folder(plan.target),
                reference=plan.reference,
                lent_template=lent.text if lent else "",
            )
    peak = peak_memory_mb(task.numerics.device)
    del outcome
    _free_memory()
    return figures, peak


def _train_launched(task: Any, plan: _Plan, sink: Any, context: JobContext) -> tuple[Any, float]:
    """Train in several processes; the figures, and the first one's peak of memory in MiB."""
    from llamaduo_gui.training.artifact import partial_folder
    from llamaduo_gui.training.distributed import run_launch, write_examples
    from llamaduo_gui.training.trainer import TrainingFigures

    folder = task.checkpoints
    write_examples(folder / "train.npz", task.train)
    write_examples(folder / "validation.npz", task.validation)
    spec = {
        "recipe": plan.recipe.model_dump(mode="json"),
        "choices": task.choices.to_dict(),
        "base": str(plan.base),
        "family": task.family.model_dump(mode="json"),
        "device": task.numerics.device,
        "train": "train.npz",
        "validation": "validation.npz",
        "events": str(task.events),
        "resume_from": str(task.resume_from) if task.resume_from else "",
        "seed": task.seed,
        "target": str(partial_folder(plan.target)),
        "reference": plan.reference,
    }
    said = run_launch(plan.launch, spec, folder, sink, context)
    return TrainingFigures(**said["figures"]), float(said["peak_memory_mb"])


def _note_choices(project: Project, run: RunRow, context: JobContext, task: Any) -> None:
    """Keep and say what was decided of the recipe's `auto` settings."""
    kept = project.runs.get(run.id).config
    project.runs.set_config(run.id, {**kept, "choices": task.choices.to_dict()})
    if task.choices.sentence:
        context.log(_SOURCE, task.choices.sentence, run_id=run.id)


def _counts(figures: Any, task: Any, recipe: Recipe) -> dict[str, Any]:
    """The numbers of a summary: losses, steps, parameters, tokens, records."""
    epochs = min(recipe.training.epochs, figures.epochs)
    return {
        "train_loss": figures.train_loss,
        "eval_loss": figures.eval_loss,
        "best_step": figures.best_step,
        "steps": figures.steps,
        "total_steps": figures.total_steps,
        "epochs": figures.epochs,
        "trainable_parameters": figures.trainable_parameters,
        "parameters": figures.parameters,
        "tokens": round(task.train.tokens * epochs),
        "learnt_tokens": round(task.train.learnt_tokens * epochs),
        "records_used": len(task.train.examples),
        "records_left_out": task.train.too_long,
        "validation_records": len(task.validation.examples),
        "validation_left_out": task.validation.too_long,
        "longest_record": task.train.longest,
    }


def _make_task(
    project: Project,
    run: RunRow,
    context: JobContext,
    plan: _Plan,
    records: Sequence[RecordRow],
    resume_from: Path | None,
) -> Any:
    from llamaduo_gui.training.dataset import ConversationEncoder, EncodedSet, encode_records
    from llamaduo_gui.training.memory import read_sizes
    from llamaduo_gui.training.model import numerics_of
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
    device, choices = _choose(plan, resume_from)
    return TrainingTask(
        recipe=plan.recipe,
        base=plan.base,
        family=family,
        shape=read_sizes(read_model_config(plan.base)),
        numerics=numerics_of(plan.recipe, device, choices.dtype),
        choices=choices,
        tokenizer=tokenizer,
        train=train_set,
        validation=validation,
        checkpoints=plan.checkpoints,
        events=plan.events,
        resume_from=resume_from,
        seed=run.seed,
    )


def _choose(plan: _Plan, resume_from: Path | None) -> tuple[str, Any]:
    """The device, and what the recipe leaves open: as before when a training goes on."""
    from llamaduo_gui.training.hardware import Choices, resolve
    from llamaduo_gui.training.memory import read_sizes
    from llamaduo_gui.training.model import detect_hardware

    hardware = detect_hardware(plan.content["processes"])
    choices = resolve(plan.recipe, hardware, read_sizes(read_model_config(plan.base)))
    path = plan.checkpoints / _CHOICES
    if resume_from is not None and path.is_file():
        choices = Choices.from_dict(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(choices.to_dict()), encoding="utf-8")
    return hardware.device, choices


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


def _free_memory() -> None:
    """Give the model's memory back: inference follows in the same process."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
