"""How rows become conversations: the formats and columns a user named, or those that are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Message
from llamaduo_gui.data.formats.base import (
    PARTS,
    ColumnMap,
    ContainerInfo,
    Conversation,
    Row,
    ShapeInfo,
    mapped_conversation,
    system_text,
)
from llamaduo_gui.data.formats.registry import find_format, shapes
from llamaduo_gui.data.rows import (
    RowError,
    check_characters,
    describe_columns,
    kind_of,
    parse_label,
)

OnError = Literal["keep", "refuse"]

_WANTED = "`messages`, or a prompt and a response column under one of their usual names"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read: broken rows, formats and columns named by the user.

    Attributes:
        on_error: "keep" leaves broken rows out and lists them; "refuse" raises if there is any.
        container: kind of file; None finds it from the content.
        shape: layout of the rows; None finds it row by row.
        mapping: columns the user has named.
    """

    on_error: OnError = "keep"
    container: ContainerInfo | None = None
    shape: ShapeInfo | None = None
    mapping: ColumnMap = field(default_factory=ColumnMap)


def make_options(
    formats: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    on_error: OnError = "keep",
) -> ReadOptions:
    """Options from what a person typed.

    Args:
        formats: names of a layout, a kind of file, or both.
        mapping: column by part (`prompt`, `response`, `system`, `category`).
        on_error: see `ReadOptions`.

    Raises:
        DataError: a name is unknown, or only one of prompt and response is mapped.
    """
    options = ReadOptions(on_error=on_error)
    for name in formats:
        info = find_format(name)
        if isinstance(info, ShapeInfo):
            options = replace(options, shape=info)
        else:
            options = replace(options, container=info)
    chosen = dict(mapping or {})
    for part in chosen:
        if part not in PARTS:
            raise DataError(f"`{part}` is no part of a record; map one of {', '.join(PARTS)}.")
    columns = ColumnMap(**chosen)
    if (columns.prompt is None) != (columns.response is None):
        raise DataError("Map both prompt and response to columns, or neither.")
    return replace(options, mapping=columns)


def convert_row(row: object, options: ReadOptions) -> tuple[Conversation, str]:
    """One decoded row as a conversation, and the title of its layout.

    Raises:
        RowError: it cannot be used.
    """
    if isinstance(row, RowError):
        raise row
    if not isinstance(row, Mapping):
        raise RowError(f"is {kind_of(row)}, not an object with columns")
    mapping = options.mapping
    if mapping.is_complete:
        found, title = mapped_conversation(row, mapping), "chosen columns"
    else:
        shape = options.shape if options.shape is not None else find_shape(row)
        if shape is None or (options.shape is not None and not shape.claims(row)):
            wants = shape.wants if shape else _WANTED
            raise RowError(f"has {describe_columns(row)}; wanted {wants}")
        found, title = shape.convert(row), shape.title
    if system := system_text(row, mapping.system):
        if found.messages[0].role != "system":
            found = replace(found, messages=(Message("system", system), *found.messages))
    elif mapping.system and mapping.system not in row:
        raise RowError(f"has no column `{mapping.system[:40]}`")
    if mapping.category:
        if mapping.category not in row:
            raise RowError(f"has no column `{mapping.category[:40]}`")
        found = replace(found, category=parse_label(row, mapping.category))
    elif mapping.is_complete:
        found = replace(found, category=parse_label(row, "category"))
    check_characters(found.messages)
    return found, title


def find_shape(row: Row) -> ShapeInfo | None:
    """The layout of a row, or None if no format knows it."""
    return next((shape for shape in shapes() if shape.claims(row)), None)
