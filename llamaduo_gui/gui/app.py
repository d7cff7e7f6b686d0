"""Starts the Qt application and opens the window."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QApplication

from llamaduo_gui.core.paths import APP_NAME
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.theme.settings import load_appearance
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.widgets.chart_base import preload_matplotlib
from llamaduo_gui.gui.workspace import Workspace

_PRELOAD_MS = 500


def make_application() -> QApplication:
    """The one QApplication, themed as the user chose; an existing one is reused (tests)."""
    existing = QApplication.instance()
    if isinstance(existing, QApplication):
        return existing
    QApplication.setHighDpiScaleFactorRoundingPolicy(
        Qt.HighDpiScaleFactorRoundingPolicy.PassThrough
    )
    app = QApplication(sys.argv[:1])
    app.setApplicationName(APP_NAME)
    app.setApplicationDisplayName("LlamaDuo GUI")
    appearance = load_appearance()
    apply_theme(app, appearance.mode, appearance.text_scale)
    return app


def run_window(project: Path | None = None, *, start_demo: bool = False) -> int:
    """Open the window and run until it is closed; returns the exit code.

    Args:
        project: a project to open, or None.
        start_demo: make a demo project and start it at once.
    """
    app = make_application()
    workspace = Workspace()
    window = MainWindow(workspace)
    window.show()
    QTimer.singleShot(_PRELOAD_MS, preload_matplotlib)
    if start_demo:
        QTimer.singleShot(0, lambda: workspace.start_demo(project))
    elif project is not None:
        QTimer.singleShot(0, lambda: workspace.open_project(project, then_page="migrate"))
    quit_after = os.environ.get("LLAMADUO_QUIT_AFTER_MS")
    if quit_after:
        # For start-up measurements and smoke tests of the installed application.
        QTimer.singleShot(int(quit_after), window.close)
    return app.exec()
