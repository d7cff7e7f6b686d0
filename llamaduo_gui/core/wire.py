"""The tags that delimit user text inside prompts, and the prompt templates that use them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, get_args

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.paths import resource

Tag = Literal[
    "instruction",
    "response",
    "target_response",
    "candidate_response",
    "seed_system",
    "seed_history",
]

TAGS: tuple[Tag, ...] = get_args(Tag)

# A `<` (or one escaped before) in front of one of our tag names, opening or closing. Possessive,
# because a megabyte of blanks after a `<` must not take quadratic time.
_BEFORE_TAG = rf"(?=\s*+(?:/\s*+)?(?:{'|'.join(TAGS)})\b)"
_ESCAPABLE = re.compile(rf"<{_BEFORE_TAG}|&(?:amp;)*lt;{_BEFORE_TAG}", re.IGNORECASE)
_ESCAPED = re.compile(rf"&((?:amp;)*)lt;{_BEFORE_TAG}", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def escape_tags(text: str) -> str:
    """Make the delimiting tags inside `text` inert; everything else stays as it is.

    `<` before one of our tag names becomes `&lt;`, and an `&lt;` there already becomes
    `&amp;lt;`, so that `unescape_tags` restores any text exactly.
    """

    def one_level_up(match: re.Match[str]) -> str:
        found = match.group()
        return "&lt;" if found == "<" else f"&amp;{found[1:]}"

    return _ESCAPABLE.sub(one_level_up, text)


def unescape_tags(text: str) -> str:
    """Undo `escape_tags`."""

    def one_level_down(match: re.Match[str]) -> str:
        found = match.group()
        return f"&{found[len('&amp;') :]}" if match.group(1) else "<"

    return _ESCAPED.sub(one_level_down, text)


def delimit(tag: Tag, text: str) -> str:
    """`text` between an opening and a closing tag, unable to close or open one itself."""
    return f"<{tag}>\n{escape_tags(text)}\n</{tag}>"


def extract_tag(tag: Tag, text: str) -> str | None:
    """The text that `delimit` put between the first pair of `tag` in a prompt, or None."""
    found = re.search(rf"<{tag}>\n?(.*?)\n?</{tag}>", text, re.DOTALL)
    return unescape_tags(found.group(1)) if found else None


def outside_tags(text: str) -> str:
    """A prompt without its delimited parts: what we wrote ourselves."""
    return re.sub(rf"<({'|'.join(TAGS)})>.*?</\1>", "", text, flags=re.DOTALL)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put `values` in the places of `{name}`; braces inside a value are left alone.

    Raises:
        KeyError: the template has a place that `values` does not name.
    """
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], template)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One file of `resources/prompts`.

    Attributes:
        version: changes when the wording does; stored with the run.
        system: the system turn.
        user: the user turn with its `{places}`.
        schema_name: name of the JSON schema on the wire.
        schema: JSON schema of the reply, keys in the order they are to be written.
        parts: further texts with places of their own, by name, for what only some prompts have.
    """

    name: str
    version: str
    system: str
    user: str
    schema_name: str
    schema: dict[str, Any]
    parts: dict[str, str] = field(default_factory=dict)

    def render(self, values: Mapping[str, str]) -> str:
        """The user turn with its places filled; user text must come through `delimit`."""
        return fill(self.user, values)


@lru_cache
def load_prompt(name: str) -> PromptTemplate:
    """Read `resources/prompts/NAME.toml`.

    Raises:
        ConfigError: the file is missing or lacks one of its keys.
    """
    path = resource("prompts", f"{name}.toml")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return PromptTemplate(
            name=name,
            version=str(data["version"]),
            system=str(data["system"]).strip(),
            user=str(data["user"]).strip(),
            schema_name=str(data["schema_name"]),
            schema=json.loads(data["schema"]),
            parts={key: str(text).strip() for key, text in data.get("parts", {}).items()},
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no prompt called {name}; install the application again."
        ) from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"prompts/{path.name}: {error}; correct the file.") from error
    except KeyError as error:
        raise ConfigError(f"prompts/{path.name}: the key {error} is missing; add it.") from error
