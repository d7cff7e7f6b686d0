"""Recipes are checked before anything loads, and overrides find their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.training.recipes import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_described(name: str) -> None:
    assert load_recipe(name).description


def test_there_is_a_recipe_for_each_method() -> None:
    assert {load_recipe(name).method for name in recipe_names()} == {"lora", "full", "qlora"}


@pytest.mark.parametrize(
    "overrides",
    [
        {"epochs": 7, "r": 4},
        {"training.epochs": 7, "lora.r": 4},
        {"training": {"epochs": 7}, "lora": {"r": 4}},
    ],
)
def test_an_override_finds_its_place_in_each_form(overrides: dict[str, object]) -> None:
    recipe = load_recipe("lora", overrides)
    assert (recipe.training.epochs, recipe.lora.r) == (7, 4)
    assert recipe.training.learning_rate == load_recipe("lora").training.learning_rate


def test_an_override_can_change_the_method() -> None:
    assert load_recipe("lora", {"method": "full"}).method == "full"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"epoch": 3}, "unknown key `epoch`; did you mean `epochs`"),
        ({"training": {"learning_rat": 3}}, "did you mean `training.learning_rate`"),
        ({"zzz": 3}, "valid keys are method, epochs"),
        ({"epochs": -1}, "training.epochs"),
        ({"dtype": "fp8"}, "training.dtype"),
        ({"target_modules": "some"}, "lora.target_modules"),
    ],
)
def test_a_wrong_override_names_its_place(overrides: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("lora", overrides)
    assert expected in str(caught.value)


def test_a_recipe_name_with_a_slip_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean `qlora`"):
        load_recipe("qlorra")


def test_a_recipe_of_the_users_own_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("method: lora\ntraining: {learning_rate: 2e-4}\n", encoding="utf-8")
    # YAML 1.1 reads 2e-4 as text; it is a number all the same.
    assert load_recipe(str(path)).training.learning_rate == 2e-4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("method: lora\ntrainin: {}\n", "did you mean `training`"),
        ("training: {}\n", "`method` is missing"),
        ("method: [\n", "mine.yaml line"),
        ("- a\n", "key: value"),
    ],
)
def test_a_broken_recipe_is_one_clear_error(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(path))
    assert expected in str(caught.value)


def test_a_recipe_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml does not exist"):
        load_recipe("absent.yaml")


@pytest.mark.parametrize(
    ("name", "r", "alpha", "length"),
    [
        ("paper-gemma2b", 8, 16, 2048),
        ("paper-gemma7b", 32, 64, 1024),
        ("paper-mistral7b", 32, 64, 1024),
        ("paper-llama3-8b", 32, 64, 1024),
    ],
)
def test_the_papers_recipes_have_the_papers_numbers(
    name: str, r: int, alpha: float, length: int
) -> None:
    recipe = load_recipe(name)
    settings = recipe.training
    assert (recipe.method, recipe.lora.r, recipe.lora.alpha) == ("qlora", r, alpha)
    assert recipe.lora.dropout == 0.05
    assert (settings.learning_rate, settings.lr_scheduler) == (2e-4, "cosine")
    assert (settings.warmup_ratio, settings.gradient_accumulation) == (0.1, 2)
    assert settings.max_length == length


@pytest.mark.parametrize("setting", ["keep_best", "early_stopping_patience"])
def test_a_best_of_one_validation_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="need eval: epoch or steps"):
        load_recipe("lora", {setting: 1, "eval": "end"})


def test_a_switch_takes_yes_no_and_auto_only() -> None:
    assert load_recipe("lora", {"packing": True}).training.packing is True
    with pytest.raises(ConfigError, match=r"training\.packing"):
        load_recipe("lora", {"packing": "sometimes"})
