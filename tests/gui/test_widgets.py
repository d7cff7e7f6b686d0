"""The components: what they show, emit and are called, at every size of text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.widgets.buttons import (
    Button,
    IconButton,
    ToggleChip,
    check_box,
    combo_box,
    decimal_box,
    spin_box,
)
from llamaduo_gui.gui.widgets.card import Card, FlowLayout, Tile, TileRow
from llamaduo_gui.gui.widgets.chat import ChatView
from llamaduo_gui.gui.widgets.diff_view import DiffPanel
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.filter_bar import FilterBar, FilterState
from llamaduo_gui.gui.widgets.job_bar import JobBar, JobStatus
from llamaduo_gui.gui.widgets.judge_card import JudgeCard, JudgeNote, JudgeReply
from llamaduo_gui.gui.widgets.key_field import KeyField
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label
from llamaduo_gui.gui.widgets.log_view import LogView, log_level_combo
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.page import Page
from llamaduo_gui.gui.widgets.pill import Pill
from llamaduo_gui.gui.widgets.progress import Bar, ProgressRow, ProgressState
from llamaduo_gui.gui.widgets.segmented import SegmentedControl
from llamaduo_gui.gui.widgets.sidebar import COMPACT, WIDE, NavItem, Sidebar
from tests.gui.checks import clipped_texts, picture, unnamed_focusables

Show = Callable[..., QWidget]
NAV = [NavItem("home", "Home", "home"), NavItem("synthesise", "Synthesise", "synthesise")]


def make_tiles() -> QWidget:
    tiles = [Tile(label) for label in ("Ratio to teacher, validation", "Spent", "Time", "Judged")]
    tiles[0].set_value("87.2\u00a0%", "(83.3\u201390.8)", "lower bound must reach 90\u00a0%")
    tiles[1].set_value("$3.42", "of $25.00", "about $2.10 more for this round")
    return TileRow(tiles)


def make_banner() -> QWidget:
    banner = MessageBanner()
    banner.show_message(
        "bad",
        "The endpoint refused the key (401).",
        detail="openai_compatible, model m, at http://127.0.0.1:8080/v1.",
        action="Open Settings",
    )
    return banner


def make_key_field() -> QWidget:
    field = KeyField("OpenAI", "sk-...")
    field.set_source("From the keyring", is_set=True, can_delete=True)
    field.set_test_state("ok", "Works")
    return field


def make_filter_bar() -> QWidget:
    bar = FilterBar("Search records", [("train", "Train"), ("rejected", "Rejected")])
    bar.set_count(12, 400)
    bar.set_state(FilterState("merge", frozenset({"train"})))
    return bar


def make_progress() -> QWidget:
    row = ProgressRow("Fine-tuning")
    row.set_state(ProgressState(412, 690, "steps", 540))
    return row


def make_sidebar() -> QWidget:
    sidebar = Sidebar(NAV, [NavItem("settings", "Settings", "settings")])
    sidebar.set_project("coding-assistant", "412 pairs · seed 42")
    sidebar.set_badge("MOCK DATA")
    return sidebar


def make_job_bar() -> QWidget:
    bar = JobBar()
    bar.set_status(
        JobStatus("Fine-tuning", "Round 2 · step 412 of 690", progress=ProgressState(412, 690))
    )
    bar.set_spend(3.42, 25)
    bar.set_gpu("GPU 18.2 of 24 GB")
    return bar


def make_judge_card() -> QWidget:
    replies = (JudgeReply(38, "Drops the rest."), JudgeReply(None, "", "{oops"), JudgeReply(44))
    return JudgeCard(JudgeNote("Precision", 41, replies))


def make_page() -> QWidget:
    page = Page("Results")
    page.header.set_pill("run", "Running")
    page.header.add_filter(SegmentedControl([("p", "Precision"), ("s", "Similarity")], "Metric"))
    page.header.add_filter(combo_box([("Test split", 1), ("Validation split", 2)], "Split"))
    page.header.add_action(Button("Export report...", icon="export"))
    page.body.addWidget(Label("words " * 80, wrap=True))
    page.body.addStretch(1)
    return page


def make_controls() -> QWidget:
    card = Card("Controls")
    for widget in (
        Button("Stop...", "danger", icon="stop"),
        IconButton("trash", "Delete this project"),
        ToggleChip("Rejected"),
        check_box("Hide names"),
        spin_box("Pairs", 1, 9999, 2000, suffix=" pairs"),
        decimal_box("Temperature", 0, 2, 0.8),
    ):
        card.body.addWidget(widget)
    return card


def make_diff() -> QWidget:
    panel = DiffPanel()
    panel.set_texts("one\ntwo", "one\nthree")
    return panel


def make_chat() -> QWidget:
    view = ChatView("Answers of the GGUF")
    view.add_user("Merge two sorted lists.")
    bubble = view.start_answer()
    bubble.append("Use two indices.\n\n```python\nx = 1\n```")
    bubble.finish()
    return view


def make_empty_state() -> QWidget:
    return EmptyState("data", "No data yet", "Drop a file. " * 6, "Choose a file...", "Sample")


def make_log() -> QWidget:
    view = LogView()
    card = Card("Log")
    card.add_action(log_level_combo(view))
    card.body.addWidget(view)
    return card


MAKERS = [
    make_tiles,
    make_banner,
    make_key_field,
    make_filter_bar,
    make_progress,
    make_sidebar,
    make_job_bar,
    make_judge_card,
    make_page,
    make_controls,
    make_diff,
    make_chat,
    make_empty_state,
    make_log,
]


@pytest.mark.parametrize("make", MAKERS)
def test_everything_that_takes_the_focus_has_a_name(
    app: QApplication, shown: Show, make: Callable[[], QWidget]
) -> None:
    assert unnamed_focusables(shown(make())) == []


def test_the_check_for_names_finds_a_field_without_one(app: QApplication, shown: Show) -> None:
    card = Card("Fields")
    card.body.addWidget(QLineEdit())
    assert unnamed_focusables(shown(card)) == ["QLineEdit"]


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("scale", [1.0, 1.3])
@pytest.mark.parametrize("make", MAKERS)
def test_no_text_is_cut_off_at_either_text_size_in_either_theme(
    app: QApplication,
    shown: Show,
    qtbot: QtBot,
    make: Callable[[], QWidget],
    scale: float,
    mode: str,
) -> None:
    apply_theme(app, mode, scale)  # type: ignore[arg-type]
    widget = shown(make(), 924, 500)
    qtbot.waitUntil(lambda: clipped_texts(widget) == [], timeout=2000)


@pytest.mark.parametrize("make", MAKERS)
def test_a_component_follows_a_change_of_the_text_size(
    app: QApplication, shown: Show, qtbot: QtBot, make: Callable[[], QWidget]
) -> None:
    widget = shown(make(), 924, 500)
    apply_theme(app, "dark", 1.3)
    qtbot.waitUntil(lambda: clipped_texts(widget) == [], timeout=2000)


def test_the_check_for_cut_text_finds_a_squeezed_label(app: QApplication, shown: Show) -> None:
    label = Label("words that need room " * 4)
    card = Card("Narrow")
    card.body.addWidget(label)
    shown(card, 700, 100)
    label.setFixedWidth(40)
    app.processEvents()
    assert len(clipped_texts(card)) == 1


def test_an_elided_label_offers_the_whole_text_only_while_it_is_cut(
    app: QApplication, shown: Show
) -> None:
    label = ElidedLabel("a rather long line of words")
    shown(label, 400, 30)
    assert label.toolTip() == ""
    label.resize(60, 30)
    assert label.is_elided()
    assert label.toolTip() == "a rather long line of words"


def test_markup_in_a_label_is_shown_as_written(app: QApplication, shown: Show) -> None:
    label = shown(Label("<b>bold</b> & <img src=x>"))
    assert isinstance(label, Label)
    assert label.textFormat() == Qt.TextFormat.PlainText


def test_a_tile_reads_out_label_value_and_note(app: QApplication) -> None:
    tile = Tile("Spent")
    tile.set_value("$3.42", "of $25.00", "about $2.10 more")
    assert tile.value_text() == "$3.42 of $25.00"
    assert tile.accessibleName() == "Spent, $3.42 of $25.00, about $2.10 more"


def test_tiles_side_by_side_have_one_width(app: QApplication, shown: Show) -> None:
    row = shown(make_tiles(), 900, 120)
    widths = {tile.width() for tile in row.findChildren(Tile)}
    assert max(widths) - min(widths) <= 1


def test_a_card_without_title_and_actions_has_no_title_row(app: QApplication, shown: Show) -> None:
    bare, titled = Card(), Card("Title")
    for card in (bare, titled):
        card.body.addWidget(Label("text"))
    assert titled.sizeHint().height() > bare.sizeHint().height() + 20


def test_a_flow_layout_starts_a_new_line_when_one_is_full(app: QApplication, shown: Show) -> None:
    holder = QWidget()
    flow = FlowLayout()
    holder.setLayout(flow)
    buttons = [Button(f"Button {number}") for number in range(6)]
    for button in buttons:
        flow.addWidget(button)
    shown(holder, 250, 300)
    assert buttons[0].y() == buttons[1].y() < buttons[5].y()
    assert flow.heightForWidth(2000) < flow.heightForWidth(250)


def test_a_wrapped_label_does_not_stretch_its_page(app: QApplication, shown: Show) -> None:
    page = Page("Home")
    for _ in range(6):
        page.body.addWidget(Label("a few words " * 20, wrap=True))
    page.body.addStretch(1)
    shown(page, 900, 400)
    scroll = page._scroll
    assert scroll is not None
    assert scroll.verticalScrollBar().maximum() == 0


def test_a_page_that_scrolls_keeps_the_right_edge_of_its_cards(
    app: QApplication, shown: Show
) -> None:
    page = Page("Home")
    card = Card("Card")
    page.body.addWidget(card)
    page.body.addStretch(1)
    shown(page, 900, 400)
    before = card.mapTo(page, QPoint(card.width(), 0)).x()
    card.setMinimumHeight(2000)
    app.processEvents()
    assert card.mapTo(page, QPoint(card.width(), 0)).x() == before


def test_page_keys_scroll_while_no_control_has_the_focus(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    page = Page("Home")
    card = Card("Card")
    card.setMinimumHeight(2000)
    page.body.addWidget(card)
    shown(page, 900, 400)
    page.setFocus()
    scroll = page._scroll
    assert scroll is not None
    qtbot.keyClick(page, Qt.Key.Key_PageDown)
    assert scroll.verticalScrollBar().value() > 0
    qtbot.keyClick(page, Qt.Key.Key_Home)
    assert scroll.verticalScrollBar().value() == 0


def test_a_pill_tells_its_state_by_word_and_icon(app: QApplication, shown: Show) -> None:
    pill = Pill("Matched", "ok")
    shown(pill)
    before = picture(pill)
    pill.set("bad", "Matched")
    assert pill.text() == "Matched"
    assert picture(pill) != before


def test_clicking_a_button_leaves_the_focus_in_the_field(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    card = Card("Form")
    field, button = QLineEdit(), Button("Run")
    card.body.addWidget(field)
    card.body.addWidget(button)
    shown(card)
    field.setFocus()
    with qtbot.waitSignal(button.clicked):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert field.hasFocus()


def _wheel(widget: QWidget) -> QWheelEvent:
    center = QPointF(widget.rect().center())
    return QWheelEvent(
        center,
        QPointF(widget.mapToGlobal(center.toPoint())),
        QPoint(0, 0),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )


def test_the_wheel_over_a_control_without_focus_changes_nothing(
    app: QApplication, shown: Show
) -> None:
    card = Card("Form")
    button = Button("Elsewhere")
    combo = combo_box([("A", 1), ("B", 2)], "Letter")
    number = spin_box("Count", 0, 10, 5)
    for widget in (button, combo, number):
        card.body.addWidget(widget)
    shown(card)
    button.setFocus()
    for widget in (combo, number):
        app.sendEvent(widget, _wheel(widget))
    assert combo.currentData() == 1
    assert number.value() == 5


def test_a_segmented_control_is_one_tab_stop_and_arrows_move_the_choice(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    control = SegmentedControl([("one", "One model"), ("two", "Side by side")], "View")
    shown(control)
    assert control.current() == "one"
    stops = [
        button
        for button in (control.button("one"), control.button("two"))
        if button.focusPolicy() & Qt.FocusPolicy.TabFocus
    ]
    assert stops == [control.button("one")]
    control.button("one").setFocus()
    with qtbot.waitSignal(control.changed) as heard:
        qtbot.keyClick(control.button("one"), Qt.Key.Key_Right)
    assert heard.args == ["two"]


def test_setting_a_segment_from_code_says_nothing(app: QApplication, qtbot: QtBot) -> None:
    control = SegmentedControl([("one", "One"), ("two", "Two")], "View")
    qtbot.addWidget(control)
    with qtbot.assertNotEmitted(control.changed):
        control.set_current("two")
    assert control.current() == "two"
    with pytest.raises(ValueError, match="three"):
        control.set_current("three")


def test_the_sidebar_names_the_page_chosen_and_stays_silent_when_told(
    app: QApplication, shown: Show, qtbot: QtBot
) -> None:
    sidebar = make_sidebar()
    assert isinstance(sidebar, Sidebar)
    shown(sidebar, 196, 600)
    with qtbot.assertNotEmitted(sidebar.page_selected):
        sidebar.set_current("home")
    with qtbot.waitSignal(sidebar.page_selected) as heard:
        qtbot.mouseClick(sidebar.button("settings"), Qt.MouseButton.LeftButton)
    assert heard.args == ["settings"]
    assert sidebar.current() == "settings"


def test_the_sidebar_shows_icons_only_in_a_window_under_1150_px(
    app: QApplication, shown: Show
) -> None:
    window = QWidget()
    sidebar = make_sidebar()
    sidebar.setParent(window)
    shown(window, 1280, 400)
    assert sidebar.width() == WIDE
    window.resize(1100, 400)
    app.processEvents()
    assert sidebar.width() == COMPACT
    assert isinstance(sidebar, Sidebar)
    assert sidebar.button("home").toolTip() == "Home"
    window.resize(1150, 400)
    app.processEvents()
    assert sidebar.width() == WIDE


def test_a_page_that_cannot_be_opened_says_why(app: QApplication, shown: Show) -> None:
    sidebar = make_sidebar()
    assert isinstance(sidebar, Sidebar)
    sidebar.set_item_state("synthesise", enabled=False, hint="Open a project first.")
    assert not sidebar.button("synthesise").isEnabled()
    assert sidebar.button("synthesise").toolTip() == "Open a project first."


@pytest.mark.parametrize(
    ("state", "units", "eta"),
    [
        (ProgressState(10, 690, "steps", 900), "10 of 690 steps", ""),
        (ProgressState(34, 690, "steps", 900), "34 of 690 steps", ""),
        (ProgressState(35, 690, "steps", 900), "35 of 690 steps", "about 15 min left"),
        (ProgressState(412, 690, "steps", 540), "412 of 690 steps", "about 9 min left"),
        (ProgressState(690, 690, "steps", 0), "690 of 690 steps", ""),
        (ProgressState(690, 690, "steps", 5, "Saving the adapter"), "Saving the adapter", ""),
        (ProgressState(12, 0, "pairs", None), "12 pairs", ""),
        (ProgressState(0, 0), "", ""),
    ],
)
def test_a_progress_row_tells_units_and_hides_the_time_left_below_five_per_cent(
    app: QApplication, state: ProgressState, units: str, eta: str
) -> None:
    row = ProgressRow("Fine-tuning")
    row.set_state(state)
    assert (row.units_text(), row.eta_text()) == (units, eta)


def test_a_bar_never_stands_at_its_end_while_the_last_step_runs(
    app: QApplication, shown: Show
) -> None:
    row = ProgressRow("Export")
    row.set_state(ProgressState(100, 100, "tensors", finishing="Checking the file"))
    bar = row.findChild(Bar)
    assert isinstance(bar, Bar)
    assert bar.maximum() == 0


def test_a_busy_bar_moves_only_while_it_is_seen(app: QApplication, shown: Show) -> None:
    bar = Bar("Busy")
    bar.set_progress(0, 0)
    assert not bar._timer.isActive()
    shown(bar)
    assert bar._timer.isActive()
    bar.hide()
    assert not bar._timer.isActive()


def test_stop_in_a_progress_row_asks_to_stop(app: QApplication, shown: Show, qtbot: QtBot) -> None:
    row = ProgressRow("Fine-tuning")
    shown(row)
    assert row._stop.accessibleName() == "Stop: Fine-tuning"
    with qtbot.waitSignal(row.stop_requested):
        qtbot.mouseClick(row._stop, Qt.MouseButton.LeftButton)


def test_the_job_bar_tells_stage_units_time_spend_and_processor(
    app: QApplication, shown: Show
) -> None:
    bar = JobBar()
    shown(bar, 1280, 36)
    progress = ProgressState(412, 690, "steps", 540)
    bar.set_status(JobStatus("Fine-tuning", "Round 2 · step 412 of 690", progress=progress))
    bar.set_spend(3.42, 25)
    bar.set_gpu("GPU 18.2 of 24 GB")
    assert bar.text() == (
        "Fine-tuning Round 2 · step 412 of 690 about 9 min left in this stage "
        "$3.42 of $25.00 GPU 18.2 of 24 GB"
    )
    bar.set_idle("Last run finished 14:32")
    assert bar.text().startswith("Idle Last run finished 14:32 $3.42")


def test_a_narrow_job_bar_shortens_its_bar_first_and_then_its_words(
    app: QApplication, shown: Show
) -> None:
    bar = make_job_bar()
    assert isinstance(bar, JobBar)
    progress = ProgressState(412, 690, "steps", 540)
    bar.set_status(JobStatus("Fine-tuning", "Round 2 · step 412 of 690", progress=progress))
    shown(bar, 1280, 36)
    assert "in this stage" in bar.text()
    wide = bar._bar.width()
    bar.resize(700, 36)
    app.processEvents()
    assert bar._bar.width() < wide
    assert "in this stage" not in bar.text()
    assert "about 9 min left" in bar.text()
