"""Renders every page of the window to PNG files, in both themes, without a display."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal

from PySide6.QtCore import QEvent, QEventLoop, QThreadPool, QTimer
from PySide6.QtWidgets import QApplication

from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.gui.app import make_application
from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.pages.base import WorkspacePage
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.widgets.chart_base import ChartView
from llamaduo_gui.gui.workspace import Workspace

SIZE = (1280, 800)
MODES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_TURN_MS = 30
_QUIET_TURNS = 4
_WAIT_S = 60.0
_STATE_VARIABLE = "LLAMADUO_STATE_DIR"


def take_screenshots(project: Path, out: Path) -> list[Path]:
    """Write `PAGE-light.png` and `PAGE-dark.png` of every page, at 1280 x 800.

    The user's list of projects, theme and window position are neither shown nor changed.

    Returns:
        The files, in the order of the sidebar.

    Raises:
        UserError: the project cannot be opened, or `out` cannot be written.
        LlamaDuoError: a page failed, or does not finish reading.
    """
    from llamaduo_gui.store.project import Project

    opened = Project.open(project)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        opened.close()
        raise UserError(f"{out} cannot be written ({error.strerror}).") from error
    if QApplication.instance() is None:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    with _own_state():
        app = make_application()
        workspace = Workspace()
        apply_theme(app, MODES[0])
        window = MainWindow(workspace)
        try:
            window.resize(*SIZE)
            window.show()
            workspace.adopt(opened)
            with _failures() as failures:
                return _write_pages(app, window, out, failures)
        finally:
            _destroy(app, window)


def _write_pages(
    app: QApplication, window: MainWindow, out: Path, failures: list[str]
) -> list[Path]:
    written = []
    keys = [key for key in window.page_keys() if window.is_available(key)]
    for key in keys:
        for mode in MODES:
            apply_theme(app, mode)
            page = window.show_page(key)
            _settle(window, page)
            if failures:
                raise LlamaDuoError(f"The page {page.accessibleName()} failed: {failures[0]}")
            path = out / f"{key}-{mode}.png"
            if not window.grab().save(str(path)):
                raise UserError(f"{path} cannot be written.")
            written.append(path)
    return written


def _settle(window: MainWindow, page: WorkspacePage) -> None:
    """Let the page read and draw until nothing is under way any more."""
    deadline = time.monotonic() + _WAIT_S
    quiet = 0
    while quiet < _QUIET_TURNS:
        if time.monotonic() > deadline:
            raise LlamaDuoError(f"The page {page.accessibleName()} does not finish reading.")
        _run_events(_TURN_MS)
        readers = [window.workspace.background, *page.findChildren(Background)]
        quiet = 0 if any(reader.is_busy for reader in readers) else quiet + 1
    for chart in page.findChildren(ChartView):
        if chart.isVisible():
            chart.draw_now()
    _run_events(_TURN_MS)


def _run_events(milliseconds: int) -> None:
    """Run the event loop for a while (QTest.qWait would keep other Python threads waiting)."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


@contextmanager
def _failures() -> Iterator[list[str]]:
    """Gather the errors of slots, which Qt would only print."""
    found: list[str] = []
    before = sys.excepthook

    def note(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        found.append(f"{kind.__name__}: {error}")
        traceback.print_exception(kind, error, trace)

    sys.excepthook = note
    try:
        yield found
    finally:
        sys.excepthook = before


@contextmanager
def _own_state() -> Iterator[None]:
    """Keep the window's memory in a folder that is gone afterwards."""
    before = os.environ.get(_STATE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="llamaduo-") as folder:
        os.environ[_STATE_VARIABLE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[_STATE_VARIABLE]
            else:
                os.environ[_STATE_VARIABLE] = before


def _destroy(app: QApplication, window: MainWindow) -> None:
    """Take the window apart before the application goes, so that the process ends cleanly."""
    workspace = window.workspace
    window.close()
    QThreadPool.globalInstance().waitForDone()
    window.deleteLater()
    workspace.deleteLater()
    app.sendPostedEvents(None, QEvent.Type.DeferredDelete)
