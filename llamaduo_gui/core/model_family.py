"""What a base model's family needs: stop tokens, LoRA targets, template arguments, GGUF name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llamaduo_gui.core.base_model import read_model_config
from llamaduo_gui.core.config import describe_problem
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.paths import resource

_GENERIC = "generic"


class ModelFamily(BaseModel):
    """One file of `resources/model_families`.

    Attributes:
        name: the file's name.
        title: its name as people know it.
        model_types: values of `model_type` in config.json that belong to the family.
        marker_token: text of a token that tells the family from others of the same `model_type`;
            empty for the one that all others belong to.
        gguf_architecture: its name in a GGUF file; None means that export is not supported.
        stop_tokens: texts of the tokens that end an answer; those a tokeniser lacks are ignored.
        lora_targets: names of the linear layers adapted when a recipe says `auto`.
        is_known: False for generic settings given to a model of an unknown type.
        base_template: which of `resources/chat_templates` a base model without a chat template
            gets; empty for the first one whose tokens it has.
        template_arguments: passed to the chat template in training and in generation alike.
        template_note: what to know about its chat template, in a sentence or two.
        response_marker: text of the rendered chat after which the assistant's answer begins.
        license: what its licence asks for, in a sentence or two.
        tested_shapes: Hub ids of the models whose configuration the tests scale down.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    model_types: tuple[str, ...]
    marker_token: str = ""
    gguf_architecture: str | None = None
    stop_tokens: tuple[str, ...] = ()
    lora_targets: tuple[str, ...] = ()
    is_known: bool = True
    base_template: str = ""
    template_arguments: dict[str, Any] = Field(default_factory=dict)
    template_note: str = ""
    response_marker: str = ""
    license: str = ""
    tested_shapes: tuple[str, ...] = ()


@cache
def load_families() -> tuple[ModelFamily, ...]:
    """All shipped families, sorted by name.

    Raises:
        ConfigError: a file has an unknown key or a wrong value.
    """
    paths = sorted(resource("model_families").glob("*.yaml"))
    return tuple(_load(path) for path in paths if path.stem != _GENERIC)


def detect_family(folder: Path) -> ModelFamily:
    """The family of the model in `folder`, by `model_type` of its config.json and its tokens.

    A model of another type gets generic settings under its own name, without a GGUF architecture:
    it can be trained and asked, and exported only through a llama.cpp checkout.

    Raises:
        UserError: the folder holds no readable config.json.
    """
    model_type = str(read_model_config(folder).get("model_type", "unknown"))
    candidates = [family for family in load_families() if model_type in family.model_types]
    for family in sorted(candidates, key=lambda item: not item.marker_token):
        if not family.marker_token or _has_token(folder, family.marker_token):
            return family
    generic = _load(resource("model_families", f"{_GENERIC}.yaml"))
    return generic.model_copy(
        update={"name": model_type, "model_types": (model_type,), "is_known": False}
    )


def unknown_family_sentences(family: ModelFamily) -> str:
    """What a person should know about a model of an unknown family; empty for a known one."""
    if family.is_known:
        return ""
    return (
        f"Models of the type {family.name} are not among the families this program knows: it uses "
        "generic settings (LoRA on all linear layers, the chat template of the tokeniser or "
        "ChatML, the stop tokens of generation_config.json). They can be exported only through "
        "the converter of a llama.cpp checkout."
    )


def stop_token_ids(
    tokenizer: Any, family: ModelFamily, declared: int | Sequence[int] | None = None
) -> tuple[int, ...]:
    """Ids of the tokens that end an answer, sorted.

    Args:
        tokenizer: of transformers.
        family: of the model.
        declared: `eos_token_id` of the model's generation configuration.
    """
    special = tokenizer.get_added_vocab()
    found = {special[text] for text in family.stop_tokens if text in special}
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    if declared is not None:
        found.update([declared] if isinstance(declared, int) else declared)
    return tuple(sorted(int(item) for item in found))


def _has_token(folder: Path, text: str) -> bool:
    """Whether a tokeniser's files name a token: as bytes, since parsing 17 MB takes seconds."""
    wanted = json.dumps(text, ensure_ascii=False).encode()
    paths = (folder / name for name in ("tokenizer_config.json", "tokenizer.json"))
    return any(path.is_file() and wanted in path.read_bytes() for path in paths)


def _load(path: Path) -> ModelFamily:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return ModelFamily.model_validate({"name": path.stem, **data})
    except ValidationError as error:
        problems = [describe_problem(ModelFamily, item) for item in error.errors()]
        raise ConfigError(f"{path.name}: " + "; ".join(problems) + ".") from error
