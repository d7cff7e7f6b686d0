"""What a format says about itself: how its rows are told apart, found and made conversations.

Two kinds of format meet in every import. A *container* turns a file into rows (JSON lines, CSV,
Parquet...); a *shape* turns one row into a conversation (messages, Alpaca, ShareGPT...). A module
of this package with an `INFO` of either kind is a format; nothing else has to be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from llamaduo_gui.core.types import Message
from llamaduo_gui.data.files import DataFile
from llamaduo_gui.data.rows import RowError, parse_label, text_of

Row = Mapping[str, Any]
# What a row's number counts: lines of a text file, or rows where lines mean nothing.
Unit = Literal["line", "row"]


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as its container gives it: its number (from 1), and a value or why there is none."""

    number: int
    value: object


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a shape makes of one row; the labels are None where the row has none."""

    messages: tuple[Message, ...]
    category: str | None = None
    prompt_id: str | None = None
    generator: str | None = None
    seed_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Which column plays which part; None leaves it to the shape."""

    prompt: str | None = None
    response: str | None = None
    system: str | None = None
    category: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether prompt and response are both named, so that no shape is needed."""
        return self.prompt is not None and self.response is not None

    def to_dict(self) -> dict[str, str]:
        """The parts that are named."""
        return {key: value for key, value in asdict(self).items() if value is not None}


PARTS = tuple(field.name for field in fields(ColumnMap))


@dataclass(frozen=True, slots=True)
class ShapeInfo:
    """A way rows are laid out.

    Attributes:
        name: identifier, as `--format` takes it.
        title: for people.
        order: shapes with a lower number are asked first whether a row is theirs.
        wants: the columns it looks for, a phrase for error texts.
        claims: whether a row is laid out like this; looks at columns, costs microseconds.
        convert: the conversation of a row; raises RowError.
        columns: which columns `convert` reads as prompt, response and so on.
    """

    name: str
    title: str
    order: int
    wants: str
    claims: Callable[[Row], bool]
    convert: Callable[[Row], Conversation]
    columns: Callable[[Row], ColumnMap]


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """A kind of file.

    Attributes:
        name: identifier, as `--format` takes it.
        title: for people.
        order: containers with a lower number are asked first whether a file is theirs.
        unit: what row numbers count.
        claims: whether the beginning of a file looks like this.
        rows: every row, in file order and at bounded memory; raises DataError.
    """

    name: str
    title: str
    order: int
    unit: Unit
    claims: Callable[[DataFile], bool]
    rows: Callable[[DataFile], Iterator[RawRow]]


@dataclass(frozen=True, slots=True)
class RemoteInfo:
    """A place rows come from that is no file.

    Attributes:
        name: identifier.
        title: for people.
        prefix: what a source's text begins with, such as "hub:".
        rows: every row of the source named by the text after the prefix; raises DataError.
        note: what to know about that source, one sentence, or an empty text.
    """

    name: str
    title: str
    prefix: str
    rows: Callable[[str], Iterator[RawRow]]
    note: Callable[[str], str]


def plain_labels(row: Row) -> dict[str, str | None]:
    """The labels of rows that name them as this application does.

    Raises:
        RowError: one is neither text nor a number.
    """
    return {
        name: parse_label(row, name)
        for name in ("category", "prompt_id", "generator", "seed_prompt")
    }


def first_column(row: Row, names: tuple[str, ...]) -> str | None:
    """The first of these columns that the row has a value in."""
    return next((name for name in names if row.get(name) is not None), None)


def pair(prompt: str, response: str, system: str | None = None) -> tuple[Message, ...]:
    """A conversation of one exchange."""
    turns = (Message("user", prompt), Message("assistant", response))
    return (Message("system", system), *turns) if system else turns


def mapped_conversation(row: Row, mapping: ColumnMap) -> Conversation:
    """The conversation of a row whose prompt and response columns the user has named.

    Raises:
        RowError: a named column is missing, empty, or holds no text or number.
    """
    prompt = _mapped_text(row, str(mapping.prompt))
    response = _mapped_text(row, str(mapping.response))
    labels = plain_labels({key: row.get(key) for key in ("prompt_id", "generator", "seed_prompt")})
    return Conversation(pair(prompt, response), **labels)


def system_text(row: Row, column: str | None) -> str | None:
    """The system turn in a column, or None where it is blank or there is no such column."""
    value = row.get(column) if column else None
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return text_of(value, f"`{column}`")


def _mapped_text(row: Row, column: str) -> str:
    if column not in row:
        raise RowError(f"has no column `{column[:40]}`")
    value = row[column]
    if isinstance(value, bool | int | float):
        value = str(value)
    return text_of(value, f"`{column[:40]}`")
