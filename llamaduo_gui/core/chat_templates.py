"""Chooses the chat template of a model: its own, the one it was trained with, or a shipped one."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llamaduo_gui.core.conversation import Turn, has_system_role
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.core.paths import resource

TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class ShippedTemplate:
    """One entry of `resources/chat_templates/templates.toml`.

    Attributes:
        name: of its file.
        title: what it is, in the words of a sentence.
        tokens: texts that must be single tokens of the tokeniser.
        text: Jinja.
    """

    name: str
    title: str
    tokens: tuple[str, ...]
    text: str


@cache
def shipped_templates() -> tuple[ShippedTemplate, ...]:
    """All of them, in order of preference."""
    listing = resource("chat_templates", "templates.toml").read_text(encoding="utf-8")
    return tuple(
        ShippedTemplate(
            entry["name"],
            entry["title"],
            tuple(entry["tokens"]),
            resource("chat_templates", f"{entry['name']}.jinja")
            .read_text(encoding="utf-8")
            .rstrip("\n"),
        )
        for entry in tomllib.loads(listing)["template"]
    )


def set_chat_template(tokenizer: Any, family: ModelFamily, trained: Path | None = None) -> None:
    """Give a tokeniser without a chat template one; a template of its own is kept.

    Base models often have none. The choice depends on the tokeniser and the family alone, so
    training, inference and export make the same one; a student keeps the one it was trained with.

    Args:
        tokenizer: of transformers; changed in place.
        family: of the model; its `base_template` comes first, if the tokeniser has its tokens.
        trained: folder of an adapter or model that was trained with such a template.

    Raises:
        UserError: the tokeniser has nothing that could end an answer.
    """
    if tokenizer.chat_template:
        return
    kept = trained / TEMPLATE_FILE if trained is not None else None
    if kept is not None and kept.is_file():
        tokenizer.chat_template = kept.read_text(encoding="utf-8")
        return
    vocabulary = tokenizer.get_vocab()
    choices = sorted(shipped_templates(), key=lambda item: item.name != family.base_template)
    chosen = next(item for item in choices if all(token in vocabulary for token in item.tokens))
    if not chosen.tokens and tokenizer.eos_token is None:
        raise UserError(
            "The base model has neither a chat template nor a token that ends an answer; choose "
            "its instruct version."
        )
    tokenizer.chat_template = chosen.text


def lent_template(tokenizer: Any) -> ShippedTemplate | None:
    """The shipped template a tokeniser was given; None if it has one of its own."""
    found = (item for item in shipped_templates() if item.text == tokenizer.chat_template)
    return next(found, None)


def template_sentence(tokenizer: Any) -> str:
    """What a person should know about the chat template, empty when it is the model's own."""
    lent = lent_template(tokenizer)
    if lent is None:
        return ""
    return (
        f"The base model has no chat template: conversations are written in {lent.title} "
        f"({lent.name}), in training, inference and the exported GGUF alike."
    )


def tokenizer_has_system_role(tokenizer: Any, arguments: dict[str, Any]) -> bool:
    """Whether a tokeniser's chat template shows a system turn (see core/conversation.py)."""

    def render(turns: list[Turn]) -> str:
        found = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **arguments
        )
        return str(found)

    return has_system_role(render)
