"""What a person does after the demo has run: opens a score down to its reason, and chats."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from llamaduo_gui.gui.chat_model import ChatState
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.pages.results import ResultsPage
from llamaduo_gui.gui.pages.try_page import TryPage

WAIT_MS = 60_000
QUESTION = "Triage: team, issue, urgency, order. The mug of order 48213 arrived broken."


def open_a_reason(window: MainWindow, qtbot: QtBot) -> None:
    """Pick a response of the Results page and read what the judge wrote."""
    page = window.show_page("results")
    assert isinstance(page, ResultsPage)
    panel = page.responses.panel
    qtbot.waitUntil(lambda: page.responses.picker.model.rowCount() > 0, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: panel.detail is not None, timeout=WAIT_MS)
    first = panel.detail
    QTest.mouseClick(page.responses.next, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.detail is not first, timeout=WAIT_MS)
    reasons = [reason for card in panel.cards() for reason in card.reasons()]
    assert any("F1" in reason or "ROUGE" in reason for reason in reasons), reasons
    assert panel.prompt.shown_text()


def ask_the_model(window: MainWindow, qtbot: QtBot) -> None:
    """Load the exported file on the Try page and let it answer a ticket."""
    page = window.show_page("try")
    assert isinstance(page, TryPage)
    load = page.pane.empty.action_button()
    qtbot.waitUntil(lambda: load.isVisible() and page.pane.target is not None, timeout=WAIT_MS)
    QTest.mouseClick(load, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: page.pane.model.state is ChatState.READY, timeout=WAIT_MS)
    QTest.keyClicks(page.prompt.field, QUESTION)
    with qtbot.waitSignal(page.pane.model.answered, timeout=WAIT_MS):
        QTest.keyClick(page.prompt.field, Qt.Key.Key_Return)
    answer = page.pane.chat.bubbles()[-1].text
    assert answer.strip(), "the model wrote something"
