"""A resolved recipe as the configuration file that `trl sft --config` reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from llamaduo_gui.training.hardware import Choices
from llamaduo_gui.training.recipes import Recipe

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class TrlSources:
    """What a TRL run reads.

    Attributes:
        base_model: Hub id or folder.
        dataset: folder with `train.jsonl` and `validation.jsonl`.
        template: file of a chat template that marks the answers; empty for the model's own.
        has_marks: whether there is such a template; without one the dataset has prompts and
            completions, of which TRL learns the latter.
        targets: names of the layers to adapt, or `all-linear`.
    """

    base_model: str
    revision: str
    dataset: str
    template: str
    has_marks: bool
    has_validation: bool
    targets: tuple[str, ...]
    output: str
    seed: int
    device: str


def marked_template(tokenizer: Any) -> str | None:
    """A chat template that marks the answers for TRL: the tokeniser's own, or TRL's for it."""
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    template: str = tokenizer.get_chat_template()
    if has_generation_markers(template):
        return template
    try:
        return get_training_chat_template(tokenizer)
    except ValueError:
        return None


def trl_settings(recipe: Recipe, choices: Choices, sources: TrlSources) -> dict[str, Any]:
    """Keys of TRL's ScriptArguments, ModelConfig and SFTConfig with their values."""
    return {
        **_model_settings(recipe, choices, sources),
        "dataset_name": sources.dataset,
        "dataset_train_split": "train",
        "dataset_test_split": "validation",
        **_optimisation_settings(recipe, choices),
        **_schedule_settings(recipe, sources),
    }


def trl_text(settings: dict[str, Any], notes: list[str]) -> str:
    """The YAML file, with notes as comments at its head."""
    comments = "".join(f"# {note}\n" for note in notes)
    body = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return f"{comments}{body}"


def difference_notes(recipe: Recipe) -> list[str]:
    """What the file cannot say: where TRL trains otherwise than this application."""
    settings = recipe.training
    notes = [
        "Records longer than max_length are cut here; the application leaves them out whole.",
        "The order of the records differs, so the losses agree in course and not in each digit.",
    ]
    if recipe.method == "qlora":
        notes.append("TRL holds a 4-bit model's adapter in bf16; the application in fp32.")
    if settings.early_stopping_patience:
        notes.append(
            f"early_stopping_patience {settings.early_stopping_patience} has no key: TRL runs all "
            "epochs and then takes the best checkpoint."
        )
    if not float(recipe.lora.alpha).is_integer() and recipe.method != "full":
        notes.append(f"lora_alpha is rounded; the recipe has {recipe.lora.alpha:g}.")
    return notes


def _model_settings(recipe: Recipe, choices: Choices, sources: TrlSources) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model_name_or_path": sources.base_model,
        "model_revision": sources.revision,
        "dtype": "float32" if recipe.method == "full" else _DTYPES[choices.dtype],
        "attn_implementation": choices.attention,
    }
    if recipe.method == "full":
        return found
    found |= {
        "use_peft": True,
        "lora_r": recipe.lora.r,
        "lora_alpha": round(recipe.lora.alpha),
        "lora_dropout": recipe.lora.dropout,
        "lora_target_modules": list(sources.targets),
    }
    if recipe.lora.modules_to_save:
        found["lora_modules_to_save"] = list(recipe.lora.modules_to_save)
    if recipe.method == "qlora":
        found |= {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "use_bnb_nested_quant": True,
        }
    return found


def _optimisation_settings(recipe: Recipe, choices: Choices) -> dict[str, Any]:
    settings = recipe.training
    constant = settings.lr_scheduler == "constant"
    return {
        "num_train_epochs": float(settings.epochs),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if constant else settings.lr_scheduler,
        # A number below one is a share of all steps.
        "warmup_steps": settings.warmup_ratio,
        "optim": choices.optimizer,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": choices.gradient_accumulation,
        "activation_checkpointing": choices.gradient_checkpointing,
        "max_length": settings.max_length,
        "packing": choices.packing,
        "eval_packing": False,
        "train_sampling_strategy": "group_by_length" if choices.group_by_length else "random",
        "bf16": choices.dtype == "bf16",
        "fp16": choices.dtype == "fp16",
    }


def _schedule_settings(recipe: Recipe, sources: TrlSources) -> dict[str, Any]:
    settings = recipe.training
    found: dict[str, Any] = {
        "assistant_only_loss": settings.assistant_only_loss and sources.has_marks,
        "use_cpu": sources.device == "cpu",
        "seed": sources.seed,
        "output_dir": sources.output,
        "logging_steps": settings.logging_steps,
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": 2,
        "eval_strategy": "no",
        "report_to": "tensorboard" if settings.tensorboard else "none",
    }
    if sources.template:
        found["chat_template_path"] = sources.template
    if settings.eval != "never" and sources.has_validation:
        # TRL knows no validation at the end alone; each epoch's last one is it.
        found["eval_strategy"] = "steps" if settings.eval == "steps" else "epoch"
        found["eval_steps"] = settings.eval_steps
        if settings.should_keep_best:
            found |= {
                "load_best_model_at_end": True,
                "metric_for_best_model": "eval_loss",
                "greater_is_better": False,
                "save_strategy": found["eval_strategy"],
            }
            if settings.eval == "steps":
                found["save_steps"] = settings.eval_steps
    return found
