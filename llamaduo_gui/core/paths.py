"""Where things lie on disk: shipped resources, the user's state, a project's folders."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from llamaduo_gui.core.errors import LlamaDuoError

APP_NAME = "llamaduo-gui"


def resources_dir() -> Path:
    """The shipped `resources` folder: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "resources", package.parent / "resources"):
        if candidate.is_dir():
            return candidate
    raise LlamaDuoError("The application's resources folder is missing; install it again.")


def resource(*parts: str) -> Path:
    """Path of one shipped resource."""
    return resources_dir().joinpath(*parts)


def user_state_dir() -> Path:
    """Per-user folder for recent projects and demo projects (never for keys); made on demand."""
    override = os.environ.get("LLAMADUO_STATE_DIR")
    if override:
        folder = Path(override)
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / APP_NAME
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support" / APP_NAME
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folder = Path(base) / APP_NAME
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """The fixed layout of a project folder."""

    folder: Path

    @property
    def database(self) -> Path:
        """SQLite database of the project."""
        return self.folder / "project.db"

    @property
    def config(self) -> Path:
        """The user's pipeline settings."""
        return self.folder / "pipeline.yaml"

    @property
    def artifacts(self) -> Path:
        """Adapters, checkpoints, GGUF files and reports."""
        return self.folder / "artifacts"

    @property
    def logs(self) -> Path:
        """Text logs of child processes."""
        return self.folder / "logs"

    def round_dir(self, number: int) -> Path:
        """Artifacts of one round."""
        return self.artifacts / f"round-{number}"
