"""Number formats fit the machine, adapters the model, and 4-bit layers keep their gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.model_family import detect_family
from llamaduo_gui.training.model import (
    add_adapter,
    choose_numerics,
    choose_targets,
    keep_trainable_in_fp32,
    load_base_model,
)
from llamaduo_gui.training.recipes import LoraSettings, Recipe, load_recipe
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base"))


def on_machine(monkeypatch: pytest.MonkeyPatch, *, gpu: bool, bf16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)


@pytest.mark.parametrize(
    ("name", "gpu", "bf16", "weights", "compute"),
    [
        ("lora", False, False, torch.float32, torch.float32),
        ("full", False, False, torch.float32, torch.float32),
        ("qlora", False, False, torch.bfloat16, torch.bfloat16),
        ("lora", True, True, torch.bfloat16, torch.bfloat16),
        ("lora", True, False, torch.float16, torch.float16),
        ("full", True, True, torch.float32, torch.bfloat16),
    ],
)
def test_auto_fits_the_machine_and_trained_weights_stay_exact(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    gpu: bool,
    bf16: bool,
    weights: torch.dtype,
    compute: torch.dtype,
) -> None:
    on_machine(monkeypatch, gpu=gpu, bf16=bf16)
    found = choose_numerics(load_recipe(name))
    assert (found.weights, found.compute) == (weights, compute)
    assert found.device == ("cuda" if gpu else "cpu")


@pytest.mark.parametrize(("dtype", "gpu"), [("fp16", False), ("bf16", True)])
def test_a_format_the_machine_lacks_is_refused(
    monkeypatch: pytest.MonkeyPatch, dtype: str, gpu: bool
) -> None:
    on_machine(monkeypatch, gpu=gpu, bf16=False)
    with pytest.raises(ConfigError, match=dtype):
        choose_numerics(load_recipe("lora", {"dtype": dtype}))


def test_auto_targets_are_the_familys(base: Path) -> None:
    family = detect_family(base)
    assert choose_targets(LoraSettings(), family) == list(family.lora_targets)
    assert choose_targets(LoraSettings(target_modules="all-linear"), family) == "all-linear"
    assert choose_targets(LoraSettings(target_modules=("q_proj",)), family) == ["q_proj"]


@pytest.mark.parametrize("setting", ["target_modules", "modules_to_save"])
def test_a_layer_the_model_has_not_is_named_with_those_it_has(base: Path, setting: str) -> None:
    recipe = load_recipe("lora", {setting: ["q_pro"]})
    model = load_base_model(base, recipe, choose_numerics(recipe))
    with pytest.raises(ConfigError, match=r"`q_pro`.*q_proj"):
        add_adapter(model, recipe.lora, detect_family(base))


def quantised(base: Path) -> tuple[Any, Recipe]:
    recipe = load_recipe("qlora", {"dropout": 0.0})
    model = load_base_model(base, recipe, choose_numerics(recipe))
    torch.manual_seed(0)
    adapted = add_adapter(model, recipe.lora, detect_family(base))
    keep_trainable_in_fp32(list(adapted.parameters()))
    return adapted, recipe


def gradients(model: Any) -> list[torch.Tensor]:
    model.train()
    model.zero_grad()
    ids = torch.arange(12).unsqueeze(0)
    model(input_ids=ids, labels=ids).loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.requires_grad]


def test_4_bit_weights_learn_the_same_before_and_after_a_validation(base: Path) -> None:
    model, _ = quantised(base)
    before = gradients(model)
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.arange(12).unsqueeze(0))
    after = gradients(model)
    assert any(gradient.abs().max() > 0 for gradient in before)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


def test_only_the_adapter_of_a_4_bit_model_is_trained_and_in_fp32(base: Path) -> None:
    model, _ = quantised(base)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert {p.dtype for p in trained.values()} == {torch.float32}
