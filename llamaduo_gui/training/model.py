"""Loads the base model for training: number formats, 4-bit weights, the LoRA adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llamaduo_gui.core.causal_lm import load_causal_lm
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.training.recipes import LoraSettings, Recipe


@dataclass(frozen=True, slots=True)
class Numerics:
    """Where and in which number formats the training runs.

    Attributes:
        device: `cuda` or `cpu`.
        weights: format of the weights that are loaded.
        compute: format of matrix products; differs from fp32 through autocast.
    """

    device: str
    weights: torch.dtype
    compute: torch.dtype


def choose_numerics(recipe: Recipe) -> Numerics:
    """The formats a recipe asks for, or what fits this machine where it says `auto`.

    Weights that are trained stay in fp32: bf16 rounds small updates away. Frozen ones are kept
    in the format of the computation.

    Raises:
        ConfigError: fp16 on a CPU, or bf16 on a GPU that lacks it.
    """
    has_gpu = torch.cuda.is_available()
    wanted = recipe.training.dtype
    if wanted == "auto":
        if has_gpu:
            wanted = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            # Measured on 2 cores: NF4 with bf16 products takes two thirds of the time of fp32.
            wanted = "bf16" if recipe.method == "qlora" else "fp32"
    if wanted == "fp16" and not has_gpu:
        raise ConfigError("The recipe's dtype fp16 needs a GPU; set dtype to auto, bf16 or fp32.")
    if wanted == "bf16" and has_gpu and not torch.cuda.is_bf16_supported():
        raise ConfigError("This GPU has no bf16; set the recipe's dtype to auto, fp16 or fp32.")
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    compute = formats[wanted]
    weights = torch.float32 if recipe.method == "full" else compute
    return Numerics("cuda" if has_gpu else "cpu", weights, compute)


def load_base_model(folder: Path, recipe: Recipe, numerics: Numerics) -> Any:
    """The base model, in 4 bits for QLoRA, on the training device.

    Raises:
        UserError: the files cannot be loaded as a language model, or memory does not suffice.
    """
    settings: dict[str, Any] = {"dtype": numerics.weights}
    if recipe.method == "qlora":
        from transformers import BitsAndBytesConfig

        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=numerics.compute,
        )
        settings["device_map"] = {"": 0 if numerics.device == "cuda" else "cpu"}
    model = load_causal_lm(folder, **settings)
    _keep_quantized_layers_differentiable(model)
    return model


def _keep_quantized_layers_differentiable(model: Any) -> None:
    """Stop 4-bit layers from turning into inference-only ones at the first validation.

    WORKAROUND for bitsandbytes 0.50: on a CPU with AVX512-BF16, `Linear4bit.forward` in
    evaluation mode repacks its weights for a kernel without a gradient, for good; training
    after a validation then learns from wrong gradients, with no more than a warning.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def add_adapter(model: Any, settings: LoraSettings, family: ModelFamily) -> Any:
    """Wrap the model with a LoRA adapter; its start depends on the global random seed.

    Raises:
        ConfigError: the recipe names a layer the model has not.
    """
    from peft import LoraConfig, get_peft_model

    targets = choose_targets(settings, family)
    leaves = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    named = [] if isinstance(targets, str) else list(targets)
    for name in [*named, *settings.modules_to_save]:
        if name not in leaves:
            valid = ", ".join(sorted(set(family.lora_targets) & leaves) or sorted(leaves - {""}))
            raise ConfigError(f"The recipe names the layer `{name}`; this model has {valid}.")
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        modules_to_save=list(settings.modules_to_save) or None,
    )
    return get_peft_model(model, config)


def choose_targets(settings: LoraSettings, family: ModelFamily) -> str | list[str]:
    """Layers to adapt: what the recipe names, else the family's, else all linear ones."""
    if isinstance(settings.target_modules, str):
        if settings.target_modules == "auto" and family.lora_targets:
            return list(family.lora_targets)
        return "all-linear"
    return list(settings.target_modules)


def keep_trainable_in_fp32(parameters: Sequence[Any]) -> None:
    """Hold trained weights in fp32.

    TRL turns the adapter of a quantised model into bf16, whose 8 bits of precision lose the
    small updates of a learning rate that has decayed.
    """
    for parameter in parameters:
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
