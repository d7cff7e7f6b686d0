"""What the whole window shares: the open project, the keys, the list of recent projects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.gui import recents
from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.session import ProjectSession

if TYPE_CHECKING:
    from llamaduo_gui.store.project import Project


class Workspace(QObject):
    """Opens and closes projects and tells every page.

    Signals:
        session_changed(ProjectSession | None): another project is open, or none.
        page_requested(str): a page asks the window to show another one.
        failed(str): something could not be done; one sentence.
    """

    session_changed = Signal(object)
    page_requested = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.secrets = SecretStore()
        self.session: ProjectSession | None = None
        self.background = Background(self)

    def open_project(self, folder: Path, *, then_page: str = "") -> None:
        """Open a project in the background; `failed` is sent if it cannot be."""
        self.background.run(
            "open",
            lambda: _open(folder),
            lambda project: self.adopt(project, then_page=then_page),
            self.failed.emit,
        )

    def adopt(self, project: Project, *, then_page: str = "", start: bool = False) -> None:
        """Make an open project the window's project, optionally starting the loop at once."""
        self.close_project()
        self.session = ProjectSession(project, self.secrets, self)
        recents.remember(project.folder)
        self.session_changed.emit(self.session)
        if then_page:
            self.page_requested.emit(then_page)
        if start:
            self.session.start_job("pipeline")

    def start_demo(self, folder: Path | None = None) -> None:
        """Make a new demo project (or open the one in `folder`) and start it."""
        self.background.run(
            "demo",
            lambda: _create_demo(folder),
            lambda project: self.adopt(project, then_page="migrate", start=True),
            self.failed.emit,
        )

    def close_project(self) -> None:
        """Close the open project; a running job is asked to stop."""
        if self.session is None:
            return
        session, self.session = self.session, None
        session.close()
        session.deleteLater()
        self.session_changed.emit(None)


def _open(folder: Path) -> Project:
    # Imported in the background thread: the database library would double the start-up time.
    from llamaduo_gui.store.project import Project

    return Project.open(folder)


def _create_demo(folder: Path | None) -> Project:
    from llamaduo_gui.pipeline.create import create_demo

    return create_demo(folder)
