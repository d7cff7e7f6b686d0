"""Fixtures for tests of the window: a themed application and quiet logs.

pyproject.toml has pytest-qt fail a test on any Qt warning (`qt_log_level_fail`); matplotlib
warns through logging, which `no_warnings_logged` turns into failures as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from PySide6.QtCore import QEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.gui.theme.fonts import text_scale
from llamaduo_gui.gui.theme.theme import apply_theme, current_tokens
from llamaduo_gui.gui.theme.tokens import LIGHT


@pytest.fixture
def app(qapp: QApplication) -> Iterator[QApplication]:
    """The application in the light theme at the standard text size, before and after.

    Widgets that pytest-qt closed are deleted here: without a running event loop they would stay
    for the rest of the session, and every change of theme would style them all again.
    """
    _make_light(qapp)
    yield qapp
    qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    _make_light(qapp)


def _make_light(qapp: QApplication) -> None:
    if not qapp.styleSheet() or current_tokens() is not LIGHT or text_scale() != 1.0:
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
