"""Tests of what an export can leave beside the GGUF: adapter, merged model, Modelfile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from llamaduo_gui.core.causal_lm import load_causal_lm, load_tokenizer
from llamaduo_gui.core.config import validate_config
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.export.modelfile import find_turn_texts
from llamaduo_gui.pipeline.single import run_single
from llamaduo_gui.store.project import Project
from tests.adapters import make_test_adapter
from tests.tiny_models import make_tiny_model

SETTINGS = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with a trained adapter on a bf16 base."""
    base = make_tiny_model(tmp_path / "Tiny-Base", dtype="bfloat16")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    config = validate_config({"task": "tickets", "student": {"base_model": str(base)}})
    with Project.create(tmp_path / "project", config) as made:
        adapter = made.paths.round_dir(0) / "adapter"
        make_test_adapter(base, adapter, **SETTINGS)
        run = made.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0)
        made.runs.finish(run.id, RunStatus.SUCCEEDED)
        made.artifacts.add(run.id, "adapter", adapter, round_number=0)
        yield made


def export(project: Project, also: str) -> dict[str, str]:
    """Export as F16 with further formats."""
    options = {"stage": "export", "quant": "F16", "also": also}
    found: dict[str, str] = run_single(project, JobContext(lambda event: None), options)["also"]
    return found


def test_adapter_merged_model_and_modelfile_stand_beside_the_file(
    project: Project, tmp_path: Path
) -> None:
    from peft import PeftModel

    found = export(project, "peft,merged,modelfile")
    peft, merged, text = (Path(found[name]) for name in ("peft", "merged", "modelfile"))
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {
        item.name for item in peft.iterdir()
    }
    card = (peft / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nbase_model: "Tiny-Base"\nlicense: "apache-2.0"')
    assert "library_name" in card
    assert text.read_text(encoding="utf-8").splitlines()[0] == (
        "FROM ./Tiny-Base-" + text.name.split("Tiny-Base-")[1].replace(".Modelfile", ".gguf")
    )
    assert 'PARAMETER stop "<|im_end|>"' in text.read_text(encoding="utf-8")
    assert 'TEMPLATE """{{ range .Messages }}' in text.read_text(encoding="utf-8")
    ours = load_causal_lm(merged, dtype=torch.float32).state_dict()
    base = load_causal_lm(tmp_path / "Tiny-Base", dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, peft).merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.equal(ours[name], weight.to(torch.bfloat16).float()), name
    assert (
        load_tokenizer(merged).chat_template == load_tokenizer(tmp_path / "Tiny-Base").chat_template
    )


def test_an_unknown_format_is_refused_before_anything_is_written(project: Project) -> None:
    with pytest.raises(UserError, match="no format 'onnx'; choose of peft, merged, modelfile"):
        export(project, "peft,onnx")
    assert project.artifacts.all("gguf") == []


SIMPLE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "is_sayable"),
    [
        (SIMPLE, True),
        ("{% for m in messages %}{{ loop.index }}:{{ m.content }}{% endfor %}", False),
        ("{% for m in messages %}[{{ m.content | upper }}]{% endfor %}", False),
        ("{{ messages[-1].content }}", False),
    ],
)
def test_only_templates_of_fixed_texts_are_said_in_ollamas_language(
    template: str, is_sayable: bool
) -> None:
    import jinja2

    compiled = jinja2.Environment().from_string(template)
    texts = find_turn_texts(
        lambda turns: compiled.render(messages=turns, add_generation_prompt=True)
    )
    assert (texts is not None) is is_sayable
    if texts is not None:
        turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
        assert texts.render(turns) == "<system>S</system>\n<user>U</user>\n<assistant>"
        assert '{{ if eq .Role "system" }}<system>{{ .Content }}' in texts.to_ollama()
