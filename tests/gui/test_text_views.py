"""Chat, comparison, log and number wording."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given
from PySide6.QtCore import QUrl
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.theme.tokens import DARK, LIGHT
from llamaduo_gui.gui.widgets import text_diff, wording
from llamaduo_gui.gui.widgets.chat import Bubble, BubbleFooter, ChatView
from llamaduo_gui.gui.widgets.diff_view import DiffPanel, DiffView
from llamaduo_gui.gui.widgets.fences import Segment, split_fences
from llamaduo_gui.gui.widgets.flow_text import FlowText
from llamaduo_gui.gui.widgets.log_view import MAX_LINES, LogLine, LogView, log_level_combo, wrap
from llamaduo_gui.gui.widgets.wording import Interval
from tests.gui.checks import picture, share_of_color

Show = Callable[..., QWidget]
ANSWER = "Use **two** indices.\n\n```python\nx = 1\n```\n\nDone."


@pytest.fixture
def chat(app: QApplication, shown: Show) -> ChatView:
    view = ChatView("Answers")
    shown(view, 500, 300)
    return view


def flow_texts(bubble: Bubble) -> list[FlowText]:
    return [view for view in bubble.findChildren(FlowText) if not view.isHidden()]


def test_an_answer_is_plain_while_it_grows_and_markdown_at_its_end(
    chat: ChatView, qtbot: QtBot
) -> None:
    bubble = chat.start_answer()
    bubble.append("Use **two**")
    qtbot.waitUntil(lambda: len(flow_texts(bubble)) == 1)
    assert flow_texts(bubble)[0].toPlainText() == "Use **two**"
    bubble.append(" indices.")
    bubble.finish()
    assert flow_texts(bubble)[0].toPlainText() == "Use two indices."
    assert bubble.text == "Use **two** indices."
    assert not bubble.is_writing


def test_pieces_are_gathered_and_shown_at_ten_hertz(chat: ChatView, qtbot: QtBot) -> None:
    bubble = chat.start_answer()
    shows: list[int] = []
    original = bubble._show
    bubble._show = lambda segments: (shows.append(len(segments)), original(segments))  # type: ignore[method-assign,assignment,return-value]
    for _ in range(500):
        bubble.append("word ")
    # A layout shows a new widget in the next turn of the event loop.
    qtbot.waitUntil(lambda: len(shows) == 1 and bool(flow_texts(bubble)), timeout=5000)
    assert len(shows) == 1
    assert flow_texts(bubble)[0].toPlainText() == "word " * 500


def test_code_gets_a_block_of_its_own_also_while_it_is_written(
    chat: ChatView, qtbot: QtBot
) -> None:
    bubble = chat.start_answer()
    bubble.append("Here:\n```python\nx = 1")
    qtbot.waitUntil(lambda: len(flow_texts(bubble)) == 2)
    assert flow_texts(bubble)[1].toPlainText() == "x = 1"
    bubble.append("\n```\nDone.")
    bubble.finish()
    qtbot.waitUntil(lambda: len(flow_texts(bubble)) == 3)
    assert [view.toPlainText() for view in flow_texts(bubble)] == ["Here:", "x = 1", "Done."]


def test_code_and_answer_can_be_copied(chat: ChatView, app: QApplication, qtbot: QtBot) -> None:
    bubble = chat.start_answer()
    bubble.append(ANSWER)
    bubble.finish()
    copies = {
        button.accessibleName(): button
        for button in bubble.findChildren(QWidget)
        if button.accessibleName().startswith("Copy")
    }
    copies["Copy this code"].click()  # type: ignore[attr-defined]
    assert app.clipboard().text() == "x = 1"
    copies["Copy this answer"].click()  # type: ignore[attr-defined]
    assert app.clipboard().text() == ANSWER


def test_html_links_and_images_in_an_answer_are_never_loaded(
    chat: ChatView, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(FlowText, "loadResource", lambda self, kind, name: asked.append(str(name)))
    bubble = chat.start_answer()
    bubble.append("<b>bold</b> ![cat](file:///etc/hostname) [x](http://127.0.0.1:1/)")
    bubble.finish()
    view = flow_texts(bubble)[0]
    view.grab()
    assert "<b>bold</b> [image: cat]" in view.toPlainText()
    assert not view.openLinks()
    assert asked == []


def test_a_flow_text_refuses_to_load_a_file(app: QApplication, shown: Show) -> None:
    view = FlowText("Answer")
    kind = int(QTextDocument.ResourceType.ImageResource.value)
    assert view.loadResource(kind, QUrl.fromLocalFile("/etc/hostname")) is None


def test_the_numbers_of_an_answer_are_left_out_while_unknown(chat: ChatView) -> None:
    bubble = chat.start_answer()
    assert bubble.footer_text() == "waiting for the first token…"
    bubble.set_footer(BubbleFooter(tokens_per_s=42.2, first_token_s=0.214, tokens=1118))
    assert bubble.footer_text() == "42 tokens/s · first token 0.21 s · 1,118 tokens · writing…"
    bubble.finish(BubbleFooter(seconds=1.94, tokens=148, cost_usd=0.0012))
    assert bubble.footer_text() == "1.9 s · 148 tokens · $0.0012"


def test_a_failed_answer_keeps_what_was_said_and_tells_the_rest(chat: ChatView) -> None:
    bubble = chat.start_answer()
    bubble.append("Half an")
    bubble.fail("The model ended early: see the log.")
    assert flow_texts(bubble)[0].toPlainText() == "Half an"
    assert bubble.footer_text() == "The model ended early: see the log."


def test_the_column_follows_its_end_unless_the_reader_scrolled_up(
    chat: ChatView, qtbot: QtBot
) -> None:
    bar = chat.verticalScrollBar()
    bubble = chat.start_answer()
    bubble.append("line\n\n" * 60)
    qtbot.waitUntil(lambda: bar.maximum() > 200 and bar.value() == bar.maximum(), timeout=2000)
    bar.setValue(20)
    end = bar.maximum()
    bubble.append("line\n\n" * 60)
    qtbot.waitUntil(lambda: bar.maximum() > end, timeout=2000)
    assert bar.value() == 20


def test_every_line_of_an_answer_is_seen_at_any_width(
    chat: ChatView, app: QApplication, qtbot: QtBot
) -> None:
    bubble = chat.start_answer()
    bubble.append("a few words that wrap " * 20 + "\n\n" + ANSWER)
    bubble.finish()
    for width in (500, 300, 800):
        chat.resize(width, 300)

        def all_seen() -> bool:
            return all(
                view.height() >= view.heightForWidth(view.width()) for view in flow_texts(bubble)
            )

        qtbot.waitUntil(all_seen, timeout=2000)
        assert bubble.width() < chat.viewport().width()


def test_the_newest_bubble_can_be_taken_away(chat: ChatView, app: QApplication) -> None:
    first = chat.add_user("Hello")
    second = chat.start_answer()
    chat.remove_last()
    app.processEvents()
    assert chat.bubbles() == [first]
    assert not second.isVisible()
    chat.remove_last()
    chat.remove_last()
    assert chat.bubbles() == []


def test_clearing_a_chat_takes_every_bubble_away(chat: ChatView, app: QApplication) -> None:
    chat.add_user("Hello")
    chat.start_answer().finish()
    chat.clear()
    app.processEvents()
    assert chat.bubbles() == []
    assert not [bubble for bubble in chat.findChildren(Bubble) if bubble.isVisible()]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", []),
        ("only words", [Segment("prose", "only words")]),
        ("a\n```\nb\n```\nc", [Segment("prose", "a"), Segment("code", "b"), Segment("prose", "c")]),
        ("```py\nx", [Segment("code", "x", "py")]),
        ("````md\n```\nin\n```\n````", [Segment("code", "```\nin\n```", "md")]),
        ("~~~\nx\n~~~", [Segment("code", "x")]),
        ("a `` b ``` c", [Segment("prose", "a `` b ``` c")]),
    ],
)
def test_an_answer_is_split_at_its_fences(text: str, segments: list[Segment]) -> None:
    assert split_fences(text) == segments


@given(st.text(alphabet="ab`~ \n", max_size=80))
def test_splitting_loses_no_letter_and_never_fails(text: str) -> None:
    kept = "".join(segment.text for segment in split_fences(text))
    for letter in "ab":
        fences = sum(
            line.count(letter) for line in text.split("\n") if line.lstrip()[:3] in ("```", "~~~")
        )
        assert text.count(letter) - fences <= kept.count(letter) <= text.count(letter)


def test_a_comparison_counts_missing_added_and_changed_lines() -> None:
    diff = text_diff.compare("a\nb\nc\nd", "a\nB\nc\ne\nd\nf")
    assert diff.summary == "1 line changed, 2 lines added"
    assert text_diff.compare("a\nb\nc", "a").summary == "2 lines missing"
    assert text_diff.compare("a", "a\n").is_equal
    assert text_diff.compare("a", "a").summary == "same as the target"
    assert text_diff.compare("a", "").summary == "the response is empty"


def test_a_changed_line_marks_the_words_that_differ() -> None:
    old, new = text_diff.compare("if a <= b:", "if a < b:").lines
    assert (old.sign, [old.text[s:e] for s, e in old.marks]) == ("-", ["="])
    assert (new.sign, new.marks) == ("+", ())


@given(st.text(alphabet="ab \n", max_size=60), st.text(alphabet="ab \n", max_size=60))
def test_a_comparison_holds_both_texts_line_by_line(target: str, candidate: str) -> None:
    diff = text_diff.compare(target, candidate)
    old = [line.text for line in diff.lines if line.sign in " -"]
    new = [line.text for line in diff.lines if line.sign in " +"]
    assert old == [line.rstrip() for line in target.strip("\n").splitlines()]
    assert new == [line.rstrip() for line in candidate.strip("\n").splitlines()]
    for line in diff.lines:
        for start, end in line.marks:
            assert 0 <= start < end <= len(line.text)


def test_the_summary_stands_above_the_comparison_and_signs_beside_colours(
    app: QApplication, shown: Show
) -> None:
    panel = DiffPanel()
    panel.set_texts("keep\nlost", "keep")
    shown(panel, 400, 200)
    assert panel._summary.text() == "1 line missing"
    assert panel.view.toPlainText() == "  keep\n- lost"
    assert share_of_color(picture(panel), LIGHT.bad_soft, 1) > 0.01
    apply_theme(app, "dark")
    assert share_of_color(picture(panel), DARK.bad_soft, 1) > 0.01


def test_a_text_too_long_to_compare_is_shown_as_it_is(app: QApplication, qtbot: QtBot) -> None:
    view = DiffView()
    qtbot.addWidget(view)
    diff = view.set_texts("a\n" * (text_diff.MAX_LINES + 1), "b")
    assert not diff.is_equal
    assert "too long to compare" in view.summary_text()
    assert view.toPlainText().endswith("b")


def lines(count: int, text: str = "step", level: str = "info") -> list[LogLine]:
    return [LogLine("15:02:11", "train", f"{text} {i}", level) for i in range(count)]  # type: ignore[arg-type]


@pytest.fixture
def log(app: QApplication, shown: Show) -> LogView:
    view = LogView()
    shown(view, 500, 300)
    return view


def test_the_log_keeps_the_last_five_thousand_lines(log: LogView) -> None:
    log.extend(lines(200))
    log._flush()
    log.extend(lines(MAX_LINES + 200)[200:])
    text = log.text()
    assert text.count("\n") == MAX_LINES - 1
    assert text.startswith("15:02:11 train  step 200\n")
    assert log.blockCount() <= MAX_LINES


def test_lines_are_gathered_before_they_are_shown(log: LogView, qtbot: QtBot) -> None:
    log.append(LogLine("15:02:11", "train", "first"))
    log.append(LogLine("15:02:12", "train", "second"))
    assert log.toPlainText() == ""
    qtbot.waitUntil(lambda: log.blockCount() == 2, timeout=1000)


def test_the_level_hides_lines_and_brings_them_back(log: LogView) -> None:
    log.extend([*lines(3), *lines(1, "careful", "warning"), *lines(1, "broken", "error")])
    combo = log_level_combo(log)
    combo.setCurrentIndex(combo.findData("warning"))
    assert log.text() == "15:02:11 train  careful 0\n15:02:11 train  broken 0"
    combo.setCurrentIndex(combo.findData("error"))
    assert log.text() == "15:02:11 train  broken 0"
    combo.setCurrentIndex(combo.findData("all"))
    assert log.text().count("\n") == 4


def test_a_wrapped_message_hangs_under_its_text_and_is_copied_whole(log: LogView) -> None:
    message = "302 rejected: 188 near-duplicate, 71 schema, 43 too close to test"
    log.append(LogLine("15:02:11", "synth", message))
    log._flush()
    assert log.blockCount() > 1
    assert log.document().findBlockByNumber(1).text().startswith("\u00a0" * 16)
    log.selectAll()
    copied = log.createMimeDataFromSelection().text()
    assert copied == f"15:02:11 synth  {message}"


def test_a_long_source_is_cut_so_that_messages_line_up() -> None:
    heads = [LogLine("15:02:11", source, "").head for source in ("judge", "synthesize")]
    assert heads == ["15:02:11 judge  ", "15:02:11 synth… "]


def test_a_narrow_log_puts_the_message_below_its_time(log: LogView, qtbot: QtBot) -> None:
    log.append(LogLine("15:02:11", "synth", "302 rejected for several reasons"))
    log.resize(220, 300)
    qtbot.waitUntil(
        lambda: log.document().findBlockByNumber(0).text() == "15:02:11 synth", timeout=2000
    )
    width = log.viewport().width()
    assert log.document().idealWidth() <= width


def test_a_reader_of_old_lines_is_not_pulled_to_the_end(log: LogView) -> None:
    log.extend(lines(200))
    log._flush()
    log.verticalScrollBar().setValue(10)
    log.extend(lines(5, "new"))
    log._flush()
    assert log.verticalScrollBar().value() == 10


@given(st.text(alphabet="ab ", max_size=90), st.integers(1, 20))
def test_wrapped_rows_fit_and_hold_every_letter(text: str, columns: int) -> None:
    text = " ".join(text.split())
    rows = wrap(text, columns)
    assert all(len(row) <= columns for row in rows)
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (wording.format_count(1742), "1,742"),
        (wording.format_of(412, 690, "steps"), "412 of 690 steps"),
        (wording.format_of(412, 0, "steps"), "412 steps"),
        (wording.format_money(3.42), "$3.42"),
        (wording.format_money(0.0012), "$0.0012"),
        (wording.format_money(0), "$0.00"),
        (wording.format_spend(3.42, 25), "$3.42 of $25.00"),
        (wording.format_spend(3.42, None), "$3.42 spent"),
        (wording.format_duration(8.2), "8 s"),
        (wording.format_duration(59.6), "1 min"),
        (wording.format_duration(4320), "1 h 12 min"),
        (wording.format_duration(3600), "1 h"),
        (wording.format_eta(540), "about 9 min left"),
        (wording.format_eta(3), "about 10 s left"),
        (wording.format_percent(93.7), "93.7\u00a0%"),
        (wording.format_interval(Interval(86.2, 84.1, 88)), "86.2 (84.1\u201388.0)"),
        (wording.format_interval(Interval(86.2)), "86.2"),
        (wording.format_number(None), "\u2014"),
        (wording.format_size(512), "512\u00a0B"),
        (wording.format_size(24_300), "24\u00a0KB"),
        (wording.format_size(1_910_000_000), "1.9\u00a0GB"),
        (wording.format_size(999_600), "1.0\u00a0MB"),
    ],
)
def test_numbers_are_written_with_their_units(made: str, expected: str) -> None:
    assert made == expected
