"""Recipes: how the student is trained, read from YAML, changed by overrides, checked at once."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llamaduo_gui.core.config import describe_problem
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.paths import resource

_Count = Annotated[int, Field(ge=1)]
Switch = Literal[True, False, "auto"]
Optimizer = Literal[
    "auto",
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "adafactor",
]
Attention = Literal["auto", "flash_attention_2", "sdpa", "eager"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraSettings(_Section):
    """The adapter. Its weights count `alpha / r` times.

    `target_modules` is `auto` (the model family's list, else all), `all-linear` (every linear
    layer but the output), or names of layers. `modules_to_save` are trained in full beside it.
    """

    r: _Count = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["auto", "all-linear"] | tuple[str, ...] = "auto"
    modules_to_save: tuple[str, ...] = ()


class TrainingSettings(_Section):
    """The optimisation. A step is `batch_size * gradient_accumulation` records.

    What says `auto` is decided for the machine and the model by `training.hardware`.

    Attributes:
        epochs: passes over the training set; a fraction is a part of a pass.
        learning_rate: the highest; warm-up leads to it, the scheduler away from it.
        warmup_ratio: share of all steps.
        max_length: tokens of the longest record; longer ones are left out and counted.
        max_grad_norm: gradients are scaled down to it; 0 means never.
        packing: join short records in one sequence; pays on a GPU with flash attention.
        group_by_length: put records of about one length in a batch, so that little is padding;
            packing needs none of it and ignores it.
        assistant_only_loss: learn the answers, not the prompts.
        longest_first: the longest record is in the first step of an epoch, so that memory that
            does not suffice is noticed at once; packed sequences are all of about one length.
        dtype: of the computation; `auto` is bf16 (else fp16) on a GPU and fp32 on a CPU.
        attention: how attention is computed; `auto` takes the fastest that is installed.
        optimizer: by its name in transformers.
        gradient_checkpointing: less memory, about a fifth slower.
        logging_steps: a point of the loss curve every so many steps.
        save_steps: a checkpoint every so many steps.
        eval: when the validation loss is measured; it is at the end in any case but `never`.
        eval_steps: how often, with `eval: steps`.
        keep_best: end with the weights of the lowest validation loss, not with the last.
        early_stopping_patience: validations in a row without a lower loss that end the training
            (the best weights are kept then); 0 for never.
        tensorboard: write event files for TensorBoard.
    """

    epochs: Annotated[float, Field(gt=0, le=1000)] = 3
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-4
    lr_scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    batch_size: _Count = 8
    gradient_accumulation: _Count = 1
    max_length: Annotated[int, Field(ge=16)] = 1024
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    packing: Switch = False
    group_by_length: Switch = True
    longest_first: bool = True
    assistant_only_loss: bool = True
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    attention: Attention = "auto"
    optimizer: Optimizer = "auto"
    gradient_checkpointing: Switch = False
    logging_steps: _Count = 10
    save_steps: _Count = 100
    eval: Literal["epoch", "steps", "end", "never"] = "epoch"
    eval_steps: _Count = 100
    keep_best: bool = False
    early_stopping_patience: Annotated[int, Field(ge=0)] = 0
    tensorboard: bool = False

    @model_validator(mode="after")
    def _check_validations(self) -> TrainingSettings:
        """There is a best of several validations only."""
        if self.should_keep_best and self.eval not in ("epoch", "steps"):
            raise ValueError("keep_best and early_stopping_patience need eval: epoch or steps")
        return self

    @property
    def should_keep_best(self) -> bool:
        """Whether the training ends with the best weights instead of the last."""
        return self.keep_best or self.early_stopping_patience > 0


class Recipe(_Section):
    """A training configuration. `lora` is ignored when `method` is `full`."""

    description: str = ""
    method: Literal["lora", "full", "qlora"]
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()


def load_recipe(name: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name, or one of the user's by path, with single settings replaced.

    Args:
        name: `lora`, `full`, `qlora`, `quick`, ..., or the path of a YAML file.
        overrides: settings by their plain name (`epochs`, `r`), by section and name
            (`lora.r`), or as in a recipe (`{training: {epochs: 3}}`).

    Raises:
        ConfigError: no such recipe, not YAML, or a key or value is wrong; the text names the
            place and the nearest valid key.
    """
    path = _find(name)
    data = _read(path)
    for key, value in (overrides or {}).items():
        _override(data, key, value)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        problems = [describe_problem(Recipe, item) for item in error.errors()]
        place = path.name + (" with student.overrides" if overrides else "")
        raise ConfigError(f"{place}: " + "; ".join(problems) + ".") from error


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(path.stem for path in resource("recipes").glob("*.yaml"))


def _find(name: str) -> Path:
    shipped = resource("recipes", f"{name}.yaml")
    if Path(name).name == name and shipped.is_file():
        return shipped
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise ConfigError(f"The recipe {name} does not exist; check student.recipe.")
    near = difflib.get_close_matches(name, recipe_names(), n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(recipe_names())}"
    raise ConfigError(f"student.recipe: there is no recipe `{name}`; {hint}.")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe {path} cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path.name}{where}: not valid YAML; correct it there.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name}: expected `key: value` lines.")
    return data


def _override(data: dict[str, Any], key: str, value: Any) -> None:
    places = _places()
    if isinstance(value, dict) and key in ("lora", "training"):
        for inner, inner_value in value.items():
            _override(data, f"{key}.{inner}", inner_value)
        return
    if key not in places:
        near = difflib.get_close_matches(key, list(places), n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"valid keys are {', '.join(places)}"
        raise ConfigError(f"student.overrides: unknown key `{key}`; {hint}.")
    section, name = places[key]
    if section is None:
        data[name] = value
    else:
        inside = data.get(section)
        data[section] = {**(inside if isinstance(inside, dict) else {}), name: value}


def _places() -> dict[str, tuple[str | None, str]]:
    """Where each key of `overrides` belongs: plain names first, then `section.name`."""
    plain: dict[str, tuple[str | None, str]] = {"method": (None, "method")}
    dotted: dict[str, tuple[str | None, str]] = {}
    for section, model in (("training", TrainingSettings), ("lora", LoraSettings)):
        for name in model.model_fields:
            plain[name] = (section, name)
            dotted[f"{section}.{name}"] = (section, name)
    return plain | dotted
