"""The components that ask or tell: keys, banners, empty states, filters, judges' words."""

from __future__ import annotations

import re
from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.filter_bar import FilterBar, FilterState
from llamaduo_gui.gui.widgets.judge_card import JudgeCard, JudgeNote, JudgeReply
from llamaduo_gui.gui.widgets.key_field import KeyField
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.sidebar import NavItem

Show = Callable[..., QWidget]
NAV = [NavItem("home", "Home", "home"), NavItem("synthesise", "Synthesise", "synthesise")]


def make_judge_card() -> QWidget:
    replies = (JudgeReply(38, "Drops the rest."), JudgeReply(None, "", "{oops"), JudgeReply(44))
    return JudgeCard(JudgeNote("Precision", 41, replies))


def test_a_key_is_masked_until_shown_and_leaves_only_by_signal(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    field = KeyField("OpenAI")
    shown(field)
    assert not field._test.isEnabled()
    qtbot.keyClicks(field.field(), " sk-secret ")
    assert field.field().echoMode() == QLineEdit.EchoMode.Password
    qtbot.mouseClick(field._show, Qt.MouseButton.LeftButton)
    assert field.field().echoMode() == QLineEdit.EchoMode.Normal
    assert field._show.accessibleName() == "Hide the key for OpenAI"
    with qtbot.waitSignal(field.test_requested) as tested:
        qtbot.mouseClick(field._test, Qt.MouseButton.LeftButton)
    with qtbot.waitSignal(field.save_requested) as saved:
        qtbot.keyClick(field.field(), Qt.Key.Key_Return)
    assert tested.args == saved.args == ["sk-secret"]
    field.clear()
    assert field.field().text() == ""
    assert field.field().echoMode() == QLineEdit.EchoMode.Password
    assert "sk-secret" not in repr(field) + field.accessibleName()


def test_a_stored_key_can_be_tested_without_typing_it(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    field = KeyField("OpenAI")
    field.set_source("From OPENAI_API_KEY", is_set=True)
    shown(field)
    with qtbot.waitSignal(field.test_requested) as tested:
        qtbot.mouseClick(field._test, Qt.MouseButton.LeftButton)
    assert tested.args == [""]
    assert not field._delete.isVisible()


def test_a_banner_shows_its_message_until_it_is_closed(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    banner = MessageBanner()
    holder = Card()
    holder.body.addWidget(banner)
    shown(holder)
    assert banner.isHidden()
    assert banner.text() == ""
    banner.show_message("warn", "The run stopped.", action="Resume", detail="Round 1, judging.")
    assert banner.text() == "The run stopped."
    assert banner.accessibleName() == "The run stopped. Round 1, judging."
    with qtbot.waitSignal(banner.action_clicked):
        qtbot.mouseClick(banner.action_button(), Qt.MouseButton.LeftButton)
    with qtbot.waitSignal(banner.closed):
        qtbot.mouseClick(banner._close, Qt.MouseButton.LeftButton)
    assert banner.isHidden()


def test_an_empty_state_offers_only_the_buttons_it_was_given(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    empty = EmptyState("data", "No data yet", "Drop a file.", "Choose a file...")
    shown(empty)
    assert empty.secondary_button().isHidden()
    with qtbot.waitSignal(empty.action_clicked):
        qtbot.mouseClick(empty.action_button(), Qt.MouseButton.LeftButton)


def test_the_filter_bar_waits_for_a_pause_and_says_each_state_once(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    bar = FilterBar("Search records", [("train", "Train")])
    shown(bar)
    heard: list[FilterState] = []
    bar.changed.connect(heard.append)
    with qtbot.waitSignal(bar.changed, timeout=2000):
        qtbot.keyClicks(bar.search_field(), "merge")
    assert heard == [FilterState("merge")]
    qtbot.keyClick(bar.search_field(), Qt.Key.Key_Return)
    assert len(heard) == 1
    bar.chip("train").click()
    assert heard[-1] == FilterState("merge", frozenset({"train"}))
    qtbot.mouseClick(bar._clear, Qt.MouseButton.LeftButton)
    assert heard[-1].is_empty
    assert bar._clear.isHidden()


def test_a_filter_restored_with_a_project_is_not_announced(app: QApplication, qtbot: QtBot) -> None:
    bar = FilterBar("Search", [("train", "Train")])
    qtbot.addWidget(bar)
    state = FilterState("x", frozenset({"train"}))
    with qtbot.assertNotEmitted(bar.changed, wait=300):
        bar.set_state(state)
    assert bar.state() == state


def test_escape_empties_the_search(app: QApplication, shown: Show, qtbot: QtBot) -> None:
    bar = FilterBar("Search")
    shown(bar)
    bar.set_state(FilterState("x"))
    qtbot.keyClick(bar.search_field(), Qt.Key.Key_Escape)
    assert bar.state().is_empty


def test_a_judge_card_shows_every_reason_and_counts_what_was_not_scored(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    card = make_judge_card()
    assert isinstance(card, JudgeCard)
    shown(card, 360, 400)
    assert card.reasons()[0] == "\u201cDrops the rest.\u201d"
    assert "{oops" in card.reasons()[1]
    assert card._unscored.text() == "1 unscored"
    assert card._repeats.text() == "mean of 38, 44"
    assert card._others.isHidden()
    qtbot.mouseClick(card.more_button(), Qt.MouseButton.LeftButton)
    words = " ".join(label.text() for label in card._others.findChildren(Label))
    assert re.search(r"Reply 2: unscored .*\{oops.* Reply 3: 44", words)
    assert not card._others.isHidden()


def test_a_judge_card_of_one_scored_reply_has_nothing_more_to_show(
    app: QApplication, shown: Show
) -> None:
    card = JudgeCard(JudgeNote("Similarity", 88.5, (JudgeReply(88.5, "Close."),), "Judge A"))
    shown(card)
    assert card.more_button().isHidden()
    assert card._unscored.isHidden()
    assert card.accessibleName() == "Judge A Similarity: 88.5. \u201cClose.\u201d"
