"""Writes records as messages JSONL, the form `reading` takes in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Record


def record_to_row(record: Record) -> dict[str, Any]:
    """The JSON object of one record; reading it back gives an equal record."""
    row: dict[str, Any] = {
        "prompt": record.instruction,
        "prompt_id": record.prompt_id,
        "messages": [message.to_dict() for message in record.messages],
        "category": record.category,
    }
    if record.generator is not None:
        row["generator"] = record.generator
    if record.seed_prompt is not None:
        row["seed_prompt"] = record.seed_prompt
    return row


def write_jsonl(records: Iterable[Record], path: Path) -> int:
    """Write records, one a line, in UTF-8; folders are made, an existing file is replaced.

    The file appears whole or not at all.

    Returns:
        Records written.

    Raises:
        DataError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            for record in records:
                stream.write(json.dumps(record_to_row(record), ensure_ascii=False) + "\n")
                count += 1
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise DataError(
            f"{path} cannot be written ({error.strerror}); check the folder and the free space."
        ) from error
    return count
