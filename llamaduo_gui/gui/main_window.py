"""The main window: sidebar, pages, and the job bar that is the same on every page."""

from __future__ import annotations

from PySide6.QtCore import QByteArray, QSettings, Qt, QTimer
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMainWindow,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.core.paths import user_state_dir
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.dialogs.keyboard_help import KeyboardHelp
from llamaduo_gui.gui.job_status import describe_idle, describe_job
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage, find_pages
from llamaduo_gui.gui.session import ProjectSession
from llamaduo_gui.gui.widgets.job_bar import JobBar
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.sidebar import NavItem, Sidebar
from llamaduo_gui.gui.workspace import Workspace

_BOTTOM_ORDER = 100
# A stage tells of its judgements and responses, not of each reply that was paid for.
_SUMMARISED = frozenset({"records", "replies", "judgements", "candidates"})
_SUMMARY_MS = 2000


class MainWindow(QMainWindow):
    """The window. Pages are made when they are first shown."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.workspace = workspace
        self.setWindowTitle("LlamaDuo GUI")
        self.setMinimumSize(1024, 700)
        self._infos = {info.key: info for info in find_pages()}
        self._pages: dict[str, WorkspacePage] = {}
        self._settings = QSettings(
            str(user_state_dir() / "window.ini"), QSettings.Format.IniFormat, self
        )
        self._may_close = False
        self._summary_timer = QTimer(self)
        self._summary_timer.setSingleShot(True)
        self._summary_timer.setInterval(_SUMMARY_MS)
        self._summary_timer.timeout.connect(self._refresh_summary)
        self._build()
        self._connect()
        self._restore()

    def show_page(self, key: str) -> WorkspacePage:
        """Show a page, making it if this is the first time; returns it."""
        page = self._pages.get(key)
        if page is None:
            page = self._infos[key].make(self.workspace)
            self._pages[key] = page
            self._stack.addWidget(page)
        self._stack.setCurrentWidget(page)
        self._sidebar.set_current(key)
        page.setFocus(Qt.FocusReason.OtherFocusReason)
        return page

    @property
    def current_key(self) -> str:
        """Key of the page that is shown."""
        current = self._stack.currentWidget()
        return next((key for key, page in self._pages.items() if page is current), "")

    def page_keys(self) -> list[str]:
        """Keys of all pages in sidebar order."""
        return list(self._infos)

    def is_available(self, key: str) -> bool:
        """Whether a page can be shown now."""
        return not self._infos[key].needs_project or self.workspace.session is not None

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ask before a running job is stopped; remember where the window was."""
        session = self.workspace.session
        if session is not None and session.is_working and not self._may_close:
            event.ignore()
            self._ask_to_stop()
            return
        self._settings.setValue("geometry", self.saveGeometry())
        self._settings.setValue("page", self.current_key)
        for page in self._pages.values():
            page.shutdown()
        self.workspace.close_project()
        event.accept()

    def _build(self) -> None:
        side = [i for i in self._infos.values() if i.order < _BOTTOM_ORDER]
        bottom = [i for i in self._infos.values() if i.order >= _BOTTOM_ORDER]
        self._sidebar = Sidebar([_nav(i) for i in side], bottom_items=[_nav(i) for i in bottom])
        self._stack = QStackedWidget()
        self._banner = MessageBanner()
        self._job_bar = JobBar()
        content = QVBoxLayout()
        content.setContentsMargins(0, 0, 0, 0)
        content.setSpacing(0)
        content.addWidget(self._banner)
        content.addWidget(self._stack, 1)
        upper = QHBoxLayout()
        upper.setContentsMargins(0, 0, 0, 0)
        upper.setSpacing(0)
        upper.addWidget(self._sidebar)
        upper.addLayout(content, 1)
        root = QWidget()
        layout = QVBoxLayout(root)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(upper, 1)
        layout.addWidget(self._job_bar)
        self.setCentralWidget(root)

    def _connect(self) -> None:
        self._sidebar.page_selected.connect(self.show_page)
        self._sidebar.project_clicked.connect(lambda: self.show_page("home"))
        self._job_bar.clicked.connect(self._show_job)
        self.workspace.session_changed.connect(self._adopt)
        self.workspace.page_requested.connect(self.show_page)
        self.workspace.failed.connect(self._show_failure)
        for number, key in enumerate(self._infos, start=1):
            shortcut = QShortcut(QKeySequence(f"Ctrl+{number}"), self)
            shortcut.activated.connect(lambda key=key: self._go(key))
        for keys, action in (
            ("Ctrl+O", self.choose_project),
            ("Ctrl+F", lambda: self._current().focus_search()),
            ("Ctrl+Return", lambda: self._current().main_action()),
            ("Ctrl+Enter", lambda: self._current().main_action()),
            ("Esc", lambda: self._current().escape()),
            ("F1", lambda: KeyboardHelp(self).open()),
        ):
            QShortcut(QKeySequence(keys), self).activated.connect(action)

    def choose_project(self) -> None:
        """Let the user pick a project folder and open it."""
        dialog = QFileDialog(self, "Open a project")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._open_chosen)
        dialog.open()

    def _open_chosen(self, folder: str) -> None:
        from pathlib import Path

        self.workspace.open_project(Path(folder), then_page="migrate")

    def _restore(self) -> None:
        geometry = self._settings.value("geometry")
        if not isinstance(geometry, QByteArray) or not self.restoreGeometry(geometry):
            self.resize(1280, 800)
        self._adopt(self.workspace.session)
        self.show_page("home")

    def _adopt(self, session: ProjectSession | None) -> None:
        self._banner.clear()
        for info in self._infos.values():
            hint = "" if self.is_available(info.key) else "Open a project first"
            self._sidebar.set_item_state(info.key, enabled=not hint, hint=hint)
        if session is None:
            self._sidebar.set_project("No project", "open or make one")
            self._job_bar.set_idle("No project is open")
            self._job_bar.set_spend(0.0, None)
            if self._pages and not self.is_available(self.current_key or "home"):
                self.show_page("home")
            return
        session.run_started.connect(lambda _: self._show_status())
        session.progress.connect(lambda _: self._show_status())
        session.job_started.connect(self._show_status)
        session.job_finished.connect(lambda _: self._show_status())
        session.changed.connect(self._note_changed)
        self._sidebar.set_project(session.project.name, "")
        self._refresh_summary()
        self._show_status()

    def _note_changed(self, tables: frozenset[str]) -> None:
        if "runs" in tables:
            self._refresh_summary()
        elif tables & _SUMMARISED and not self._summary_timer.isActive():
            self._summary_timer.start()

    def _refresh_summary(self) -> None:
        session = self.workspace.session
        if session is None:
            return
        project = session.project

        def read() -> tuple[str, float, float | None]:
            pairs = sum(
                n for (origin, _, _), n in project.records.counts().items() if origin == "coverage"
            )
            config = project.config
            return (
                f"{pairs:,} pairs · seed {config.seed}",
                project.costs.spent_usd(),
                config.budget.usd,
            )

        def show(found: tuple[str, float, float | None]) -> None:
            self._sidebar.set_project(project.name, found[0])
            self._job_bar.set_spend(found[1], found[2])

        self.workspace.background.run("summary", read, show, self._show_failure)
        self.workspace.background.run("gpu", _describe_gpus, self._job_bar.set_gpu)

    def _show_status(self) -> None:
        session = self.workspace.session
        if session is None:
            return
        if not session.is_working:
            self._job_bar.set_idle(describe_idle(session))
            return
        self._job_bar.set_status(describe_job(session))

    def _show_job(self) -> None:
        if self.workspace.session is not None:
            self.show_page("migrate")

    def _show_failure(self, text: str) -> None:
        self._banner.show_message("bad", text)

    def _current(self) -> WorkspacePage:
        return self._pages[self.current_key]

    def _go(self, key: str) -> None:
        if self.is_available(key):
            self.show_page(key)

    def _ask_to_stop(self) -> None:
        dialog = ConfirmDialog(
            self,
            "Stop the job and close?",
            "Finished work is kept; you can resume it when you open the project again.",
            "Stop and close",
            kind="danger",
        )
        dialog.accepted.connect(self._stop_and_close)
        dialog.open()

    def _stop_and_close(self) -> None:
        session = self.workspace.session
        self._may_close = True
        if session is None or not session.is_working:
            self.close()
            return
        session.job_finished.connect(lambda _: QTimer.singleShot(0, self.close))
        session.cancel_job()
        self._show_status()


def _describe_gpus() -> str:
    """Memory taken of each GPU, by whatever program; empty without one."""
    # Imported here: it would slow the window's start down.
    from llamaduo_gui.core.machine import read_gpus
    from llamaduo_gui.gui.widgets.wording import format_size

    return ", ".join(
        f"GPU {gpu.index}: {format_size(gpu.used_bytes)} of {format_size(gpu.total_bytes)}"
        for gpu in read_gpus()
    )


def _nav(info: PageInfo) -> NavItem:
    return NavItem(info.key, info.text, info.icon)
