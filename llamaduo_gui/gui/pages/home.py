"""The Home page: recent projects, new, open, and the demo."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.gui import recents
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.session import ProjectSession
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, IconButton
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label
from llamaduo_gui.gui.widgets.pill import Pill
from llamaduo_gui.gui.workspace import Workspace

if TYPE_CHECKING:
    from llamaduo_gui.pipeline.create import Created


class HomePage(WorkspacePage):
    """Where one starts. Coverage files can be dropped on it."""

    tables = frozenset({"runs"})

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Home", workspace)
        self.setAcceptDrops(True)
        self.new_button = Button("New project...", icon="plus")
        self.open_button = Button("Open...", icon="folder")
        self.demo_button = Button("Try the demo", "primary", icon="play")
        for button in (self.new_button, self.open_button, self.demo_button):
            self.header.add_action(button)
        self.new_button.clicked.connect(lambda: self.make_project([]))
        self.open_button.clicked.connect(self._choose_project)
        self.demo_button.clicked.connect(self._start_demo)
        self._empty = EmptyState(
            "home",
            "Move a task from a service LLM to a model of your own",
            "The demo runs the whole loop on this computer in two to three minutes: no key, no "
            "network, no GPU. With your own data, drop a file of prompts and wanted answers "
            "here.",
            "Try the demo",
            "New project...",
        )
        self._empty.action_clicked.connect(self._start_demo)
        self._empty.secondary_clicked.connect(lambda: self.make_project([]))
        self._list = Card("Recent projects")
        self._rows = QVBoxLayout()
        self._rows.setSpacing(SPACE.xs)
        self._list.body.addLayout(self._rows)
        self._intro = Card("How it works")
        for line in _STEPS:
            self._intro.body.addWidget(Label(line, tone="text2", wrap=True))
        self.body.addWidget(self._list)
        self.body.addWidget(self._empty)
        self.body.addWidget(self._intro)
        self.body.addStretch(0)
        workspace.failed.connect(lambda _: self.demo_button.setEnabled(True))

    def attach(self, session: ProjectSession | None) -> None:
        """Keep the list's verdicts up to date with the open project."""
        self.demo_button.setEnabled(True)
        if session is not None:
            session.job_finished.connect(lambda _: self._remember())
            session.job_started.connect(self.refresh)
            # It may have been worked on from the command line since it was last open here.
            self._remember()

    def refresh(self) -> None:
        """Show the list again."""
        items = recents.load_recents()
        while item := self._rows.takeAt(0):
            if (widget := item.widget()) is not None:
                widget.deleteLater()
        for recent in items:
            self._rows.addWidget(self._make_row(recent))
        self._list.setVisible(bool(items))
        self._empty.setVisible(not items)
        self._intro.setVisible(bool(items))
        # Spare height goes to the invitation, or below the list: never between its rows.
        self.body.setStretchFactor(self._empty, 0 if items else 1)
        self.body.setStretch(self.body.count() - 1, 1 if items else 0)

    def main_action(self) -> None:
        """Ctrl+Enter starts the demo."""
        self._start_demo()

    def make_project(self, files: list[Path]) -> None:
        """Ask for a new project, with coverage files chosen already if any are given."""
        # Imported here: its data and configuration libraries would slow the start-up down.
        from llamaduo_gui.gui.dialogs.new_project import NewProjectDialog

        dialog = NewProjectDialog(self, files, self.workspace.secrets)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.created.connect(self._open_created)
        dialog.open()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open a dropped project folder, or make a project of dropped files."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if len(paths) == 1 and paths[0].is_dir():
            self.workspace.open_project(paths[0], then_page="migrate")
        elif paths:
            self.make_project(paths)

    def _make_row(self, recent: recents.RecentProject) -> QWidget:
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, SPACE.xs, 0, SPACE.xs)
        layout.setSpacing(SPACE.m)
        folder = Path(recent.folder)
        name = Label(folder.name, "heading")
        where = ElidedLabel(
            str(folder.parent), "small", tone="text2", mode=Qt.TextElideMode.ElideMiddle
        )
        texts = QVBoxLayout()
        texts.setSpacing(0)
        texts.addWidget(name)
        texts.addWidget(where)
        layout.addLayout(texts, 1)
        layout.addWidget(self._verdict_pill(recent))
        when = time.strftime("%d %b %Y %H:%M", time.localtime(recent.opened_at))
        layout.addWidget(Label(when, "small", tone="text2"))
        if recent.exists:
            button = Button("Open", name=f"Open {folder.name}")
            button.clicked.connect(lambda: self.workspace.open_project(folder, then_page="migrate"))
        else:
            button = Button("Locate...", name=f"Locate {folder.name}")
            button.clicked.connect(self._choose_project)
        layout.addWidget(button)
        remove = IconButton("x", f"Take {folder.name} off this list")
        remove.clicked.connect(lambda: self._forget(recent.folder))
        layout.addWidget(remove)
        return row

    def _verdict_pill(self, recent: recents.RecentProject) -> Pill:
        session = self.session
        if (
            session is not None
            and session.is_working
            and str(session.project.folder) == recent.folder
        ):
            return Pill("Running", "run", "migrate")
        if not recent.exists:
            return Pill("Folder missing", "bad", "warning")
        if recent.is_matched:
            return Pill("Matched", "ok", "check")
        if recent.verdict:
            return Pill(recent.verdict, "warn", "minus")
        return Pill("Not finished", "neutral", "clock")

    def _forget(self, folder: str) -> None:
        recents.forget(folder)
        self.refresh()

    def _remember(self) -> None:
        session = self.session
        if session is None:
            return
        folder, project = session.project.folder, session.project

        def read() -> tuple[str, bool | None]:
            runs = project.runs.all()
            ended = [run for run in runs if run.key.startswith("decide:") or run.key == "report"]
            reported = [run for run in ended if run.key == "report" and run.summary]
            for run in [*reported, *reversed(ended)]:
                if verdict := run.summary.get("verdict"):
                    return str(verdict.get("word", "")), verdict.get("is_matched")
            return "", None

        def keep(found: tuple[str, bool | None]) -> None:
            recents.remember(folder, verdict=found[0], is_matched=found[1])
            self._note_stale()

        self.background.run("verdict", read, keep)

    def _open_created(self, created: Created) -> None:
        self.workspace.open_project(Path(created.folder), then_page="data")

    def _choose_project(self) -> None:
        dialog = QFileDialog(self, "Open a project")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.fileSelected.connect(
            lambda name: self.workspace.open_project(Path(name), then_page="migrate")
        )
        dialog.open()

    def _start_demo(self) -> None:
        self.demo_button.setEnabled(False)
        self.workspace.start_demo()


_STEPS = (
    "1. Your prompts and wanted answers are split into train, validation and test.",
    "2. A local model is fine-tuned, answers the validation prompts, and judges score it.",
    "3. While it falls short of the teacher, the teacher writes more pairs like the train split.",
    "4. When it matches, it becomes a GGUF file that runs offline, with a report as proof.",
)

INFO = PageInfo("home", "Home", "home", 10, HomePage, needs_project=False)
