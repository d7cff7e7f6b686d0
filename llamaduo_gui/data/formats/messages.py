"""Rows with `messages`: turns with role and content, as chat APIs, TRL and this project write."""

from __future__ import annotations

from llamaduo_gui.data.formats.base import ColumnMap, Conversation, Row, ShapeInfo, plain_labels
from llamaduo_gui.data.rows import check_turns


def _claims(row: Row) -> bool:
    return row.get("messages") is not None


def _convert(row: Row) -> Conversation:
    return Conversation(check_turns(row["messages"], "messages"), **plain_labels(row))


def _columns(row: Row) -> ColumnMap:
    return ColumnMap(
        "messages", "messages", "messages", "category" if row.get("category") else None
    )


INFO = ShapeInfo("messages", "messages", 30, "`messages`", _claims, _convert, _columns)
