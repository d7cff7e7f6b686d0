"""What service and local model said to the same questions, as JSON lines; only if asked for."""

from __future__ import annotations

import difflib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.serving.routing import Comparison


class ComparisonLog:
    """Appends to a file that only its owner can read: it holds prompts and answers in full."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            UserError: it cannot be written.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}).") from error
        self._file: IO[str] = os.fdopen(descriptor, "a", encoding="utf-8", errors="replace")

    def add(self, found: Comparison) -> None:
        """Write one line."""
        matcher = difflib.SequenceMatcher(None, found.service_text, found.local_text)
        line = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "messages": [message.to_dict() for message in found.question.messages],
            "service": _answer(found.service, found.service_text, found.service_s),
            "local": _answer(found.local, found.local_text, found.local_s),
            "is_equal": found.service_text.strip() == found.local_text.strip(),
            "likeness": round(matcher.ratio(), 3),
        }
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _answer(name: str, text: str, seconds: float) -> dict[str, str | float]:
    return {"model": name, "text": text, "seconds": round(seconds, 3)}
