"""Fixtures for tests of the window: a themed application and quiet logs.

pyproject.toml has pytest-qt fail a test on any Qt warning (`qt_log_level_fail`); matplotlib
warns through logging, which `no_warnings_logged` turns into failures as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.gui.theme.theme import apply_theme


@pytest.fixture
def app(qapp: QApplication) -> Iterator[QApplication]:
    """The application in the light theme at the standard text size, before and after."""
    apply_theme(qapp, "light")
    yield qapp
    apply_theme(qapp, "light")


@pytest.fixture(autouse=True)
def no_warnings_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test during which anything was logged as a warning or worse."""
    yield
    said = [
        f"{record.name}: {record.getMessage()}"
        for record in caplog.get_records("call")
        if record.levelno >= logging.WARNING
    ]
    if said and not getattr(caplog, "expects_warnings", False):
        pytest.fail("warnings were logged: " + "; ".join(said))


@pytest.fixture
def shown(app: QApplication, qtbot: QtBot) -> Callable[..., QWidget]:
    """Show a widget at a size and wait until it is laid out."""

    def show(widget: QWidget, width: int = 600, height: int = 400) -> QWidget:
        qtbot.addWidget(widget)
        widget.resize(width, height)
        widget.show()
        qtbot.waitExposed(widget)
        app.processEvents()
        return widget

    return show
