"""Renders a GGUF's chat template as transformers does, without loading transformers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llamaduo_gui.core.conversation import Turn, fit_turns, has_system_role
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.core.types import Message


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant says, for training; here its content is kept."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """Replace the block by what is in it."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """The template of one model, compiled."""

    def __init__(self, model: LlamaModel) -> None:
        """Compile the template in the GGUF.

        Raises:
            UserError: the file has no template, or a broken one.
        """
        text = model.file.metadata.get("tokenizer.chat_template")
        if not text:
            raise UserError(
                f"{model.file.path.name} has no chat template; use a GGUF of an instruct model."
            )
        self._special = {
            f"{role}_token": model.special_text(role) for role in ("bos", "eos", "pad", "unk")
        }
        try:
            self._template = _environment().from_string(str(text))
        except jinja2.TemplateError as error:
            raise UserError(f"The chat template in the GGUF is broken: {error}.") from error
        self._has_system_role = has_system_role(self.render_turns)

    def render(self, messages: Iterable[Message]) -> str:
        """The conversation as one text, up to where the assistant's answer begins.

        A template without a system role gets the system turn in the user's (see `fit_turns`).

        Raises:
            UserError: the template does not take such a conversation.
        """
        turns = fit_turns(messages, has_system_role=self._has_system_role)
        try:
            return self.render_turns(turns)
        except jinja2.TemplateError as error:
            raise UserError(
                f"The model's chat template does not take this conversation: {error}."
            ) from error

    def render_turns(self, turns: list[Turn]) -> str:
        """What the template itself makes of turns.

        Raises:
            jinja2.TemplateError: it does not take such a conversation.
        """
        return self._template.render(messages=turns, add_generation_prompt=True, **self._special)


def _environment() -> ImmutableSandboxedEnvironment:
    """The environment transformers renders in (its utils/chat_template_utils.py)."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationTag, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    options.setdefault("ensure_ascii", False)
    return json.dumps(value, indent=indent, **options)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    # Local time, as in transformers: a template writes today's date for the reader.
    return datetime.now().astimezone().strftime(form)
