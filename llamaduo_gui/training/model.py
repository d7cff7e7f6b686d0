"""Loads the base model for training: number formats, 4-bit weights, the LoRA adapter."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llamaduo_gui.core.causal_lm import load_causal_lm
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.training.hardware import Hardware, choose_dtype
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


def choose_numerics(recipe: Recipe, hardware: Hardware | None = None) -> Numerics:
    """The formats a recipe asks for, or what fits this machine where it says `auto`.

    Weights that are trained stay in fp32: bf16 rounds small updates away. Frozen ones are kept
    in the format of the computation.

    Raises:
        ConfigError: fp16 on a CPU, or bf16 on a GPU that lacks it.
    """
    found = hardware or detect_hardware()
    return numerics_of(recipe, found.device, choose_dtype(recipe, found))


def numerics_of(recipe: Recipe, device: str, dtype: str) -> Numerics:
    """The formats for a computation in `dtype` (`fp32`, `bf16` or `fp16`) on `device`."""
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    compute = formats[dtype]
    return Numerics(device, torch.float32 if recipe.method == "full" else compute, compute)


def detect_hardware(processes: int = 1) -> Hardware:
    """What this machine has; `processes` of them share it.

    Free memory is that of the GPU this process trains on, else of the machine.
    """
    from importlib.util import find_spec

    has_bitsandbytes = find_spec("bitsandbytes") is not None
    if not torch.cuda.is_available():
        import psutil

        free = int(psutil.virtual_memory().available) // processes
        return Hardware(
            "cpu", has_bitsandbytes=has_bitsandbytes, free_bytes=free, processes=processes
        )
    from transformers.utils import is_flash_attn_2_available

    return Hardware(
        "cuda",
        has_bf16=torch.cuda.is_bf16_supported(),
        has_flash_attention=is_flash_attn_2_available(),
        has_bitsandbytes=has_bitsandbytes,
        free_bytes=_free_gpu_bytes(),
        processes=processes,
    )


def _free_gpu_bytes() -> int | None:
    try:
        return int(torch.cuda.mem_get_info()[0])
    except (RuntimeError, AssertionError):
        return None


def load_base_model(
    folder: Path, recipe: Recipe, numerics: Numerics, attention: str | None = None
) -> Any:
    """The base model, in 4 bits for QLoRA, on the training device.

    Args:
        folder: of the base model.
        recipe: its method decides between 4-bit and plain weights.
        numerics: formats and device.
        attention: `flash_attention_2`, `sdpa`, `eager`, or None for the library's choice.

    Raises:
        UserError: the files cannot be loaded as a language model, or memory does not suffice.
    """
    settings: dict[str, Any] = {"dtype": numerics.weights}
    if attention is not None:
        settings["attn_implementation"] = attention
    if recipe.method == "qlora":
        from transformers import BitsAndBytesConfig

        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=numerics.compute,
        )
        # Under accelerate each process has a GPU of its own.
        gpu = int(os.environ.get("LOCAL_RANK", "0"))
        settings["device_map"] = {"": gpu if numerics.device == "cuda" else "cpu"}
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
