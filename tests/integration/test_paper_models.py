"""The paper's base models have no chat template: one is lent, stated, trained and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.causal_lm import load_tokenizer
from llamaduo_gui.core.config import PipelineConfig, StudentConfig
from llamaduo_gui.core.conversation import fit_turns
from llamaduo_gui.core.events import Event, Log
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.core.model_family import detect_family, load_families
from llamaduo_gui.core.types import Message, Record, Split, Stage
from llamaduo_gui.export.stage import run_export
from llamaduo_gui.inference.chat_template import ChatTemplate
from llamaduo_gui.inference.transformers_backend import TransformersBackend
from llamaduo_gui.store.project import Project
from llamaduo_gui.training.recipes import load_recipe
from llamaduo_gui.training.stage import run_finetune
from tests.tiny_families import make_family_model

pytestmark = pytest.mark.extended

# Name on the Hub: tiny model, family, recipe, r and alpha of the paper, template.
MODELS = {
    "google/gemma-2b": ("gemma-2b", "gemma", "paper-gemma2b", (8, 16), "gemma"),
    "google/gemma-7b": ("gemma-7b", "gemma", "paper-gemma7b", (32, 64), "gemma"),
    "mistralai/Mistral-7B-v0.3": (
        "mistral-v0.3",
        "mistral",
        "paper-mistral7b",
        (32, 64),
        "mistral",
    ),
    "meta-llama/Meta-Llama-3-8B": ("llama3-8b", "llama3", "paper-llama3-8b", (32, 64), "llama3"),
}
STEP = {"epochs": 1, "eval": "never", "max_length": 256}
SYSTEM = Message("system", "Answer with a number.")
TURNS = (
    Message("user", " How many metres are in three kilometres?"),
    Message("assistant", "3000 metres"),
    Message("user", "And in four?\n"),
)


@pytest.mark.parametrize("reference", MODELS)
def test_a_paper_model_is_trained_asked_and_exported_with_one_template(
    tmp_path: Path, reference: str
) -> None:
    tiny, family, recipe, (r, alpha), template = MODELS[reference]
    base = make_family_model(tmp_path / "base", tiny)
    (base / "chat_template.jinja").unlink()
    assert detect_family(base).name == family
    settings = load_recipe(recipe)
    assert (settings.method, settings.lora.r, settings.lora.alpha) == ("qlora", r, alpha)
    student = StudentConfig(base_model=str(base), recipe=recipe, overrides=STEP)
    config = PipelineConfig(task="units", student=student)
    with Project.create(tmp_path / "project", config) as project:
        lines, adapter = finetune(project)
        stated = [line for line in lines if "has no chat template" in line]
        assert len(stated) == 1
        assert f"({template})" in stated[0]
        trained = load_tokenizer(base, adapter)
        assert trained.chat_template == load_tokenizer(base).chat_template
        path = export(project)
    conversations = (TURNS[:1], TURNS, (SYSTEM, *TURNS))
    backend = TransformersBackend.load(base, adapter)
    asked = [backend.encode_prompt(turns) for turns in conversations]
    backend.close()
    with LlamaModel(path, vocab_only=True) as model:
        chat = ChatTemplate(model)
        assert [model.tokenize(chat.render(turns)) for turns in conversations] == asked
    # Other programs render the file's template without our code: the system turn is in there too.
    exported = model.file.metadata["tokenizer.chat_template"]
    for turns in conversations:
        plain = [turn.to_dict() for turn in turns]
        ours = fit_turns(turns, has_system_role=family == "llama3")
        assert render(trained, plain, exported) == render(trained, ours, None)


def render(tokenizer: Any, turns: list[dict[str, str]], template: str | None) -> str:
    return str(
        tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, chat_template=template
        )
    )


def finetune(project: Project) -> tuple[list[str], Path]:
    """Train one step; what was logged, and the adapter."""
    records = [
        (Record((SYSTEM, *TURNS[:2]), "units", f"p{i}"), Split.TRAIN, f"f:{i}") for i in range(4)
    ]
    project.records.add_coverage(records)
    run = project.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0, seed=1)
    lines: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Log):
            lines.append(event.text)

    run_finetune(project, run, JobContext(listen), round_number=0, config=project.config)
    return lines, project.paths.round_dir(0) / "adapter"


def export(project: Project) -> Path:
    run = project.runs.find_or_create("export", Stage.EXPORT, round_number=0)
    context = JobContext(lambda event: None)
    summary = run_export(project, run, context, round_number=0, quant="F16", config=project.config)
    return project.folder / str(summary["path"])


def test_the_names_of_the_paper_are_listed_with_their_families() -> None:
    shapes = {name for family in load_families() for name in family.tested_shapes}
    assert set(MODELS) <= shapes
