"""An exported recipe is read by TRL's own parser, and means there what it means here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.training.hardware import Hardware, resolve
from llamaduo_gui.training.memory import read_sizes
from llamaduo_gui.training.recipes import load_recipe, recipe_names
from llamaduo_gui.training.trl_config import TrlSources, difference_notes, trl_settings, trl_text

SHAPE = read_sizes(
    {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "vocab_size": 1000,
        "num_attention_heads": 4,
    }
)
SOURCES = TrlSources(
    base_model="org/model",
    revision="abc",
    dataset="sft-data",
    template="",
    has_marks=True,
    has_validation=True,
    targets=("all-linear",),
    output="out",
    seed=5,
    device="cpu",
)


def parse(path: Path) -> tuple[Any, ...]:
    """Script, training, model and dataset arguments as `trl sft --config` makes them."""
    from trl.scripts.sft import make_parser

    parsed: tuple[Any, ...] = make_parser(prog="trl sft").parse_args_and_config(
        ["--config", str(path)], fail_with_unknown_args=True
    )
    return parsed


def exported(folder: Path, name: str, overrides: dict[str, Any] | None = None) -> tuple[Any, ...]:
    recipe = load_recipe(name, overrides)
    settings = trl_settings(recipe, resolve(recipe, Hardware("cpu"), SHAPE), SOURCES)
    path = folder / "sft.yaml"
    path.write_text(trl_text(settings, difference_notes(recipe)), encoding="utf-8")
    return parse(path)


@pytest.mark.parametrize("name", recipe_names())
def test_trl_reads_every_shipped_recipe_without_an_unknown_key(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(name)
    script, training, model, _ = exported(tmp_path, name)
    assert script.dataset_name == "sft-data"
    assert (model.model_name_or_path, model.model_revision) == ("org/model", "abc")
    assert training.num_train_epochs == recipe.training.epochs
    assert training.learning_rate == recipe.training.learning_rate
    assert training.max_length == recipe.training.max_length
    assert training.assistant_only_loss is True
    assert training.seed == 5
    if recipe.method != "full":
        assert model.use_peft
        assert (model.lora_r, model.lora_alpha) == (recipe.lora.r, recipe.lora.alpha)
        assert model.lora_target_modules == "all-linear"


def test_a_paper_recipe_is_4_bit_with_warm_up_in_trl(tmp_path: Path) -> None:
    from trl import get_quantization_config

    _, training, model, _ = exported(tmp_path, "paper-llama3-8b")
    quantization = get_quantization_config(model)
    assert quantization.bnb_4bit_quant_type == "nf4"
    assert quantization.bnb_4bit_use_double_quant
    assert (model.lora_r, model.lora_alpha, model.lora_dropout) == (32, 64, 0.05)
    assert training.get_warmup_steps(200) == 20
    assert training.gradient_accumulation_steps == 2
    assert training.lr_scheduler_type == "cosine"


def test_keeping_the_best_becomes_trls_own_setting(tmp_path: Path) -> None:
    _, training, _, _ = exported(tmp_path, "lora", {"early_stopping_patience": 2})
    assert training.load_best_model_at_end
    assert training.save_strategy == training.eval_strategy == "epoch"
    notes = difference_notes(load_recipe("lora", {"early_stopping_patience": 2}))
    assert any("early_stopping_patience 2 has no key" in note for note in notes)
