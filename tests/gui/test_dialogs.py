"""The generic dialogs: confirming, and the list of keys."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog, confirm
from llamaduo_gui.gui.dialogs.keyboard_help import STANDARD_GROUPS, KeyboardHelp
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.widgets.labels import Label
from tests.gui.checks import clipped_texts, unnamed_focusables


def make_confirm(kind: str = "danger") -> ConfirmDialog:
    return ConfirmDialog(
        None,
        "Stop the run?",
        "What is finished stays. The running step is done again when you resume.",
        "Stop the run",
        kind=kind,  # type: ignore[arg-type]
        details=("412 of 690 steps are kept.", "Nothing paid for is asked again."),
        cancel="Keep running",
    )


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_dialogs_have_names_and_room_for_their_words(
    app: QApplication, qtbot: QtBot, scale: float
) -> None:
    apply_theme(app, "dark", scale)
    for dialog in (make_confirm(), KeyboardHelp(None)):
        qtbot.addWidget(dialog)
        dialog.show()
        qtbot.waitExposed(dialog)
        assert unnamed_focusables(dialog) == []
        assert clipped_texts(dialog) == []


def test_enter_in_a_dangerous_question_chooses_the_safe_answer(
    app: QApplication, qtbot: QtBot
) -> None:
    dialog = make_confirm()
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.waitExposed(dialog)
    with qtbot.waitSignal(dialog.rejected):
        qtbot.keyClick(dialog, Qt.Key.Key_Return)


def test_enter_in_an_ordinary_question_does_what_it_asks(app: QApplication, qtbot: QtBot) -> None:
    dialog = make_confirm("primary")
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.waitExposed(dialog)
    with qtbot.waitSignal(dialog.accepted):
        qtbot.keyClick(dialog, Qt.Key.Key_Return)


def test_escape_leaves_things_as_they_are(app: QApplication, qtbot: QtBot) -> None:
    dialog = make_confirm("primary")
    qtbot.addWidget(dialog)
    dialog.show()
    with qtbot.waitSignal(dialog.rejected):
        qtbot.keyClick(dialog, Qt.Key.Key_Escape)


@pytest.mark.parametrize(("button", "answer"), [("action_button", True), ("cancel_button", False)])
def test_confirm_waits_for_the_answer(app: QApplication, button: str, answer: bool) -> None:
    def press() -> None:
        dialog = app.activeModalWidget()
        assert isinstance(dialog, ConfirmDialog)
        getattr(dialog, button).click()

    QTimer.singleShot(0, press)
    assert confirm(None, "Delete the chat?", "It cannot be brought back.", "Delete") is answer


def test_the_list_of_keys_names_every_key_of_the_window(app: QApplication, qtbot: QtBot) -> None:
    dialog = KeyboardHelp(None)
    qtbot.addWidget(dialog)
    shown = {label.text() for label in dialog.findChildren(Label)}
    for group in STANDARD_GROUPS:
        assert group.title in shown
        for keys, what in group.rows:
            assert {keys, what} <= shown
