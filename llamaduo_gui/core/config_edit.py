"""Changes one value in the text of a `pipeline.yaml` and leaves the user's words around it."""

from __future__ import annotations

import contextlib
from typing import Any

import yaml

from llamaduo_gui.core.config import BudgetConfig, StudentConfig, dump_config, parse_config
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


def with_student(text: str, student: StudentConfig) -> str:
    """The YAML text with another base model, recipe and overrides; comments stay.

    Raises:
        ConfigError: the text is not valid.
    """
    config = parse_config(text)
    wanted = config.model_copy(update={"student": student})
    before, after = config.student.model_dump(), student.model_dump()
    edited = text
    for key, value in after.items():
        if value != before[key]:
            edited = _set(edited, "student", key, value)
    with contextlib.suppress(ConfigError):
        if parse_config(edited) == wanted:
            return edited
    return dump_config(wanted)


def _set(text: str, section: str, key: str, value: Any) -> str:
    """Set `section.key` in place, or add it in front of the section's other keys."""
    new = _flow(value)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    node = next((node for name, node in entries if name.value == section), None)
    if node is None:
        separator = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{separator}{section}: {{{key}: {new}}}\n"
    if not isinstance(node, yaml.MappingNode) or not node.value:
        return _replace(text, node, f"{{{key}: {new}}}")
    for name, inner in node.value:
        if name.value == key:
            return _replace(text, inner, new, end=_last_index(inner))
    first = node.value[0][0].start_mark
    gap = ", " if node.flow_style else "\n" + " " * first.column
    return f"{text[: first.index]}{key}: {new}{gap}{text[first.index :]}"


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _last_index(node: yaml.Node) -> int:
    """Where a node's own text ends: a block's end mark lies behind the comments after it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_index(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


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


def _replace(text: str, node: yaml.Node, new: str, *, end: int | None = None) -> str:
    start = node.start_mark.index
    end = node.end_mark.index if end is None else end
    # An empty value has no text of its own, and stands right behind its colon.
    space = " " if start == end else ""
    return f"{text[:start]}{space}{new}{text[end:]}"
