"""Changes one value in the text of a `pipeline.yaml` and leaves the user's words around it."""

from __future__ import annotations

import contextlib

import yaml

from llamaduo_gui.core.config import BudgetConfig, dump_config, parse_config
from llamaduo_gui.core.errors import ConfigError


def with_budget(text: str, usd: float | None) -> str:
    """The YAML text with another budget; comments, order and spelling of the rest stay.

    Where the text has a form that cannot be edited in place, all of it is written anew.

    Args:
        text: a valid `pipeline.yaml`.
        usd: dollars above 0; None for no budget.

    Raises:
        ConfigError: the text is not valid.
    """
    config = parse_config(text)
    wanted = config.model_copy(update={"budget": BudgetConfig(usd=usd)})
    edited = _edit(text, "null" if usd is None else f"{usd:.12g}")
    with contextlib.suppress(ConfigError):
        if parse_config(edited) == wanted:
            return edited
    return dump_config(wanted)


def _edit(text: str, value: str) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        for key, node in root.value:
            if key.value == "budget":
                return _edit_section(text, node, value)
    separator = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{separator}budget: {{usd: {value}}}\n"


def _edit_section(text: str, section: yaml.Node, value: str) -> str:
    if isinstance(section, yaml.MappingNode):
        for key, node in section.value:
            if key.value == "usd":
                return _replace(text, node, value)
    return _replace(text, section, f"{{usd: {value}}}")


def _replace(text: str, node: yaml.Node, new: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    # An empty value has no text of its own, and stands right behind its colon.
    space = " " if start == end else ""
    return f"{text[:start]}{space}{new}{text[end:]}"
