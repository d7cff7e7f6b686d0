"""The list of recent projects, kept in the user's state folder."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from llamaduo_gui.core.paths import user_state_dir

_LIMIT = 20


@dataclass(frozen=True, slots=True)
class RecentProject:
    """A project that was open; `verdict` is the last known one-word state."""

    folder: str
    opened_at: float
    verdict: str = ""
    is_matched: bool | None = None

    @property
    def exists(self) -> bool:
        """Whether the project is still where it was."""
        return (Path(self.folder) / "project.db").is_file()


def _file() -> Path:
    return user_state_dir() / "recent.json"


def load_recents() -> list[RecentProject]:
    """Recent projects, newest first; an unreadable list counts as empty."""
    try:
        data = json.loads(_file().read_text(encoding="utf-8"))
        return [RecentProject(**item) for item in data]
    except (OSError, ValueError, TypeError):
        return []


def remember(folder: Path, *, verdict: str = "", is_matched: bool | None = None) -> None:
    """Put a project at the head of the list, keeping its known verdict if none is given."""
    key = str(folder)
    old = next((item for item in load_recents() if item.folder == key), None)
    if old is not None and not verdict:
        verdict, is_matched = old.verdict, old.is_matched
    rest = [item for item in load_recents() if item.folder != key]
    _save([RecentProject(key, time.time(), verdict, is_matched), *rest][:_LIMIT])


def forget(folder: str) -> None:
    """Take a project off the list; its files stay."""
    _save([item for item in load_recents() if item.folder != folder])


def _save(items: list[RecentProject]) -> None:
    path = _file()
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps([asdict(item) for item in items], indent=1), encoding="utf-8")
    temporary.replace(path)
