"""What the window expects of a page, and how pages are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import Slot
from PySide6.QtGui import QShowEvent

from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.session import ProjectSession
from llamaduo_gui.gui.widgets.page import Page
from llamaduo_gui.gui.workspace import Workspace


@dataclass(frozen=True, slots=True)
class PageInfo:
    """A page's entry in the sidebar. Every module in `pages` has one, named INFO.

    Attributes:
        key: identifier, such as "migrate".
        text: title in the sidebar.
        icon: name of an icon.
        order: position; 100 and above go to the sidebar's bottom.
        make: builds the page; called when it is first shown.
        needs_project: the entry is disabled while no project is open.
    """

    key: str
    text: str
    icon: str
    order: int
    make: Callable[[Workspace], WorkspacePage]
    needs_project: bool = True


class WorkspacePage(Page):
    """A page that shows the open project and queries again when what it shows has changed.

    Subclasses override `tables`, `attach` and `refresh`; `refresh` is called only while the
    page is visible, so a hidden page costs nothing.
    """

    tables: frozenset[str] = frozenset()

    def __init__(self, title: str, workspace: Workspace, *, scrolls: bool = True) -> None:
        super().__init__(title, scrolls=scrolls)
        self.workspace = workspace
        self.background = Background(self)
        self._is_stale = True
        self._session: ProjectSession | None = None
        workspace.session_changed.connect(self._set_session)
        self._adopt_later = True

    @property
    def session(self) -> ProjectSession | None:
        """The open project, or None."""
        return self._session

    def attach(self, session: ProjectSession | None) -> None:
        """Another project is open (or none): connect to its signals, forget what was shown."""

    def refresh(self) -> None:
        """Query and show again."""

    def main_action(self) -> None:
        """What Ctrl+Enter does on this page."""

    def focus_search(self) -> None:
        """What Ctrl+F does on this page."""

    def escape(self) -> None:
        """What Esc does on this page."""

    def shutdown(self) -> None:
        """The window closes: end what the page has running outside the project's job."""

    def showEvent(self, event: QShowEvent) -> None:
        """Take the project on first showing and refresh if something changed while hidden."""
        super().showEvent(event)
        if self._adopt_later:
            self._adopt_later = False
            self._set_session(self.workspace.session)
        elif self._is_stale:
            self._refresh_now()

    @Slot(object)
    def _set_session(self, session: ProjectSession | None) -> None:
        if self._adopt_later:
            return
        self._session = session
        if session is not None:
            session.changed.connect(self._note_changed)
        self.attach(session)
        self._note_stale()

    def _note_changed(self, tables: frozenset[str]) -> None:
        if self.tables & tables:
            self._note_stale()

    def _note_stale(self) -> None:
        self._is_stale = True
        if self.isVisible():
            self._refresh_now()

    def _refresh_now(self) -> None:
        self._is_stale = False
        self.refresh()


def find_pages() -> list[PageInfo]:
    """All pages in the `pages` package, in sidebar order."""
    package = importlib.import_module("llamaduo_gui.gui.pages")
    found = []
    for module in pkgutil.iter_modules(package.__path__):
        info = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "INFO", None)
        if isinstance(info, PageInfo):
            found.append(info)
    return sorted(found, key=lambda info: info.order)
