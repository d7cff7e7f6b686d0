"""Writes a project's training so that TRL alone can run it: `trl sft --config`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llamaduo_gui.core.base_model import BUILTIN_PREFIX, read_model_config, resolve_base_model
from llamaduo_gui.core.conversation import fit_turns
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import detect_family
from llamaduo_gui.core.types import Split
from llamaduo_gui.data.writing import write_jsonl_rows
from llamaduo_gui.pipeline.single import trained_rounds
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RecordRow
from llamaduo_gui.training.hardware import resolve
from llamaduo_gui.training.memory import read_sizes
from llamaduo_gui.training.recipes import load_recipe
from llamaduo_gui.training.trl_config import (
    TrlSources,
    difference_notes,
    marked_template,
    trl_settings,
    trl_text,
)


def export_recipe(folder: Path, out: Path) -> dict[str, Any]:
    """Write the resolved recipe to `out`, and beside it the data and the chat template it names.

    The records are those of the newest trained round, else of round 0. What the recipe leaves
    open is decided for this machine.

    Returns:
        `files`, `settings` (the content of the file) and a `sentence`.

    Raises:
        UserError: the recipe or the base model cannot be used, or there are no records.
    """
    from llamaduo_gui.core.causal_lm import load_tokenizer
    from llamaduo_gui.core.chat_templates import lent_template, tokenizer_has_system_role
    from llamaduo_gui.training.model import choose_targets, detect_hardware

    with Project.open(folder) as project:
        config = project.config
        records = project.records.training_set(max(trained_rounds(project), default=0))
        validation = project.records.by_split(Split.VALIDATION)
    if not records:
        raise UserError("There is no training record; add coverage data to the project.")
    recipe = load_recipe(config.student.recipe, config.student.overrides)
    base = resolve_base_model(config.student.base_model, config.student.revision)
    tokenizer = load_tokenizer(base)
    hardware = detect_hardware()
    choices = resolve(recipe, hardware, read_sizes(read_model_config(base)))
    marked = marked_template(tokenizer)
    data = out.with_name(f"{out.stem}-data")
    data.mkdir(parents=True, exist_ok=True)
    family = detect_family(base)
    is_system_known = tokenizer_has_system_role(tokenizer, family.template_arguments)
    files = []
    for name, rows in (("train", records), ("validation", validation)):
        if rows:
            path = data / f"{name}.jsonl"
            turns = _rows(rows, is_system_known=is_system_known, is_split=marked is None)
            write_jsonl_rows(turns, path)
            files.append(path)
    template = ""
    wanted = marked or tokenizer.chat_template
    if wanted != tokenizer.chat_template or lent_template(tokenizer) is not None:
        path = out.with_name(f"{out.stem}-template.jinja")
        path.write_text(wanted, encoding="utf-8")
        template = path.name
        files.append(path)
    targets = choose_targets(recipe.lora, family)
    reference = config.student.base_model
    is_local = reference.startswith(BUILTIN_PREFIX) or Path(reference).expanduser().is_dir()
    sources = TrlSources(
        base_model=str(base) if is_local else reference,
        revision=config.student.revision,
        dataset=data.name,
        template=template,
        has_marks=marked is not None,
        has_validation=bool(validation),
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
        output=f"{out.stem}-output",
        seed=config.seed,
        device=hardware.device,
    )
    settings = trl_settings(recipe, choices, sources)
    title = f"Recipe {config.student.recipe} of the project {folder.name}."
    run = f"Run it in this folder: trl sft --config {out.name}"
    notes = [title, run, *difference_notes(recipe)]
    out.write_text(trl_text(settings, notes), encoding="utf-8")
    sentence = f"Wrote {out} and {len(files)} files beside it; {run[0].lower()}{run[1:]}"
    return {
        "files": [str(path) for path in (out, *files)],
        "settings": settings,
        "sentence": sentence,
    }


def _rows(
    records: Sequence[RecordRow], *, is_system_known: bool, is_split: bool
) -> Iterator[dict[str, Any]]:
    """Conversations as TRL reads them; split in prompt and completion where nothing marks one."""
    for row in records:
        turns = fit_turns(row.record.messages, has_system_role=is_system_known)
        if is_split:
            yield {"prompt": turns[:-1], "completion": turns[-1:]}
        else:
            yield {"messages": turns}
