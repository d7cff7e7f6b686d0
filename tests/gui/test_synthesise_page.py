"""The Synthesise page: a round asked for, stopped and taken up, gone through pair by pair."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.types import (
    Message,
    Record,
    RecordStatus,
    RejectReason,
    Split,
)
from llamaduo_gui.evaluation.report import build_report
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.dialogs.synthesis_limits import SynthesisLimitsDialog
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.pages.synthesise_page import SynthesisePage
from llamaduo_gui.gui.panels.pair_table import PROMPT, ROUND, STATUS
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.pipeline.create import create_demo
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewSynthetic, RecordRow
from tests.gui.checks import clipped_texts, unnamed_focusables
from tests.gui.projects import add_synthetic, make_data_project

WAIT_MS = 30_000
MOST_FETCH_S = 0.05
Show = Callable[[Project], SynthesisePage]


@pytest.fixture
def workspace(app: QApplication) -> Iterator[Workspace]:
    found = Workspace()
    yield found
    found.close_project()


@pytest.fixture
def page(workspace: Workspace, qtbot: QtBot) -> SynthesisePage:
    found = SynthesisePage(workspace)
    qtbot.addWidget(found)
    found.resize(1084, 764)
    found.show()
    qtbot.waitExposed(found)
    return found


@pytest.fixture
def show(page: SynthesisePage, workspace: Workspace, qtbot: QtBot) -> Show:
    """Open a project on the page and wait until everything is read."""

    def open_project(project: Project) -> SynthesisePage:
        workspace.adopt(project)
        settle(page, qtbot)
        return page

    return open_project


@pytest.fixture
def browsed(show: Show, tmp_path: Path) -> SynthesisePage:
    """The page with 28 pairs of round 1, seven of them rejected, each for another reason."""
    project = make_data_project(tmp_path / "coding-assistant")
    add_synthetic(project, count=28)
    return show(project)


def settle(page: SynthesisePage, qtbot: QtBot) -> None:
    def is_quiet() -> bool:
        waits = page._forecast_later.isActive() or page._later.isActive()
        return not (waits or page.background.is_busy or page.decisions.is_busy)

    qtbot.waitUntil(is_quiet, timeout=WAIT_MS)


def demo(folder: Path, *, pairs: int, max_rpm: int | None = None) -> Project:
    """The demo's data with a smaller round, asked for as slowly as `max_rpm` says."""
    project = create_demo(folder)
    config = project.config
    assert config.teacher is not None
    synthesis = config.synthesis.model_copy(update={"pairs_per_round": pairs})
    teacher = config.teacher.model_copy(update={"max_rpm": max_rpm})
    project.save_config(config.model_copy(update={"synthesis": synthesis, "teacher": teacher}))
    return project


def project_of(page: SynthesisePage) -> Project:
    assert page.session is not None
    return page.session.project


def column(page: SynthesisePage, number: int) -> list[str]:
    model = page.pairs.model
    return [str(model.index(row, number).data()) for row in range(model.rowCount())]


def opened(page: SynthesisePage) -> RecordRow:
    assert page.panel.detail is not None
    return page.panel.detail.row


def add_reject(page: SynthesisePage, prompt: str, qtbot: QtBot) -> RecordRow:
    """One more near-duplicate, opened on the page."""
    turns = (Message("user", prompt), Message("assistant", "x"))
    record = Record(turns, "lists", "one-more", "teacher-xl", None)
    reason = RejectReason.NEAR_DUPLICATE
    new = NewSynthetic(record, 1, "r1:99:0", RecordStatus.REJECTED, reason, "Jaccard 0.9")
    project_of(page).records.add_synthetic([new])
    page._note_changed(frozenset({"records"}))
    settle(page, qtbot)
    page.pairs.go_to(page.pairs.model.rowCount() - 1)
    settle(page, qtbot)
    return opened(page)


def show_reason(page: SynthesisePage, reason: RejectReason | None, qtbot: QtBot) -> None:
    qtbot.mouseClick(page.yields.button(reason), Qt.MouseButton.LeftButton)
    settle(page, qtbot)


def press(page: SynthesisePage, key: Qt.Key, qtbot: QtBot) -> None:
    qtbot.keyClick(page.pairs.table, key)
    settle(page, qtbot)


def test_a_round_is_asked_for_with_the_settings_of_the_page(
    show: Show, tmp_path: Path, qtbot: QtBot
) -> None:
    page = show(demo(tmp_path / "demo", pairs=600))
    assert page._none_yet.isVisible()
    assert page.header.pill_text() == "Round 1: not started"
    assert "requests" in page.settings.forecast.text()
    page.settings.pairs.setValue(32)
    page.settings.per_request.setValue(4)
    page.settings.strategy.setCurrentIndex(page.settings.strategy.findData("breadth"))
    assert "least like" in page.settings._explanation.text()
    assert page.start_button.text() == "Synthesise 32 pairs"
    settle(page, qtbot)
    assert page.session is not None
    with qtbot.waitSignal(page.session.job_finished, timeout=WAIT_MS) as ended:
        qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
        assert not page.settings.pairs.isEnabled()
    assert ended.args[0].status == "succeeded", ended.args[0].error
    settle(page, qtbot)

    project = project_of(page)
    synthesis = project.config.synthesis
    assert (synthesis.strategy, synthesis.pairs_per_request) == ("breadth", 4)
    kept = len(project.records.synthetic(1, RecordStatus.KEPT))
    assert kept >= 32
    assert page.header.pill_text() == f"Round 1: {kept} kept"
    assert page.yields.number(None) == str(kept)
    assert "pairs asked for" in page.yields.line()
    assert page.yields.line().endswith("no cost.")
    assert page.start_button.text() == "Round is full"
    assert not page.start_button.isEnabled()
    assert page.pairs.model.rowCount() == len(project.records.synthetic(1))
    assert page.settings.pairs.isEnabled()


def test_a_round_is_stopped_and_taken_up_without_asking_twice(
    show: Show, tmp_path: Path, qtbot: QtBot
) -> None:
    page = show(demo(tmp_path / "demo", pairs=64, max_rpm=120))
    session, project = page.session, project_of(page)
    assert session is not None
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: page.pairs.model.rowCount() > 0, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: page.header.pill_text() == "Running", timeout=WAIT_MS)
    assert page.start_button.isHidden()
    qtbot.mouseClick(page.stop_button, Qt.MouseButton.LeftButton)
    question = page.findChild(ConfirmDialog)
    assert question is not None
    with qtbot.waitSignal(session.job_finished, timeout=WAIT_MS) as ended:
        qtbot.mouseClick(question.action_button, Qt.MouseButton.LeftButton)
    assert ended.args[0].status == "cancelled"
    settle(page, qtbot)
    assert page.header.pill_text() == "Stopped"
    before = {row.source: row.record for row in project.records.synthetic(1)}
    assert 0 < len(before) < 64
    assert page.start_button.text() == f"Synthesise {64 - len(before)} more pairs"

    with qtbot.waitSignal(session.job_finished, timeout=WAIT_MS) as ended:
        qtbot.keyClick(page, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        page.main_action()
    assert ended.args[0].status == "succeeded", ended.args[0].error
    settle(page, qtbot)
    after = {row.source: row.record for row in project.records.synthetic(1)}
    assert before.items() <= after.items()
    assert project.replies.usage().requests == len({s.rpartition(":")[0] for s in after}) == 8
    assert page.header.pill_text() == "Round 1: 64 kept"


def test_yield_is_shown_by_reason_and_a_reason_filters_the_table(
    browsed: SynthesisePage, qtbot: QtBot
) -> None:
    assert browsed.yields.number(None) == "21"
    assert {browsed.yields.number(reason) for reason in RejectReason} == {"1"}
    for reason in RejectReason:
        show_reason(browsed, reason, qtbot)
        assert column(browsed, STATUS) == [reason.value.replace("_", " ").capitalize()]
    show_reason(browsed, None, qtbot)
    assert set(column(browsed, STATUS)) == {"Kept"}
    assert browsed.filters._count.text() == "21 of 28"


def test_rounds_can_be_looked_at_one_by_one(browsed: SynthesisePage, qtbot: QtBot) -> None:
    add_synthetic(project_of(browsed), 2, count=8)
    browsed._note_changed(frozenset({"records"}))
    qtbot.waitUntil(lambda: browsed.filters.round.count() == 3, timeout=WAIT_MS)
    browsed.filters.round.setCurrentIndex(2)
    settle(browsed, qtbot)
    assert column(browsed, ROUND) == ["Round 2"] * 8
    assert browsed.filters._clear.isVisible()
    qtbot.mouseClick(browsed.filters._clear, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    assert browsed.pairs.model.rowCount() == 36


def test_a_reject_stands_beside_the_record_it_is_too_close_to(
    browsed: SynthesisePage, qtbot: QtBot
) -> None:
    show_reason(browsed, RejectReason.CONTAMINATED, qtbot)
    detail = browsed.panel.detail
    assert detail is not None
    other = detail.sides["too_close"].other
    assert other is not None
    assert other.row.split is Split.VALIDATION
    assert other.row.record.prompt_id == detail.row.rejected_against
    texts = [text.toPlainText() for text in browsed.panel.texts()]
    assert other.row.record.target in texts
    assert detail.row.record.target in texts
    marked = [place for text in browsed.panel.texts() for place in text.marked_texts()]
    assert "Call the function" in marked

    browsed.panel.partner.button("seed").click()
    seed = detail.sides["seed"].other
    assert seed is not None
    assert seed.row.record.prompt_id == detail.row.record.seed_prompt
    assert seed.row.record.target in [text.toPlainText() for text in browsed.panel.texts()]


def test_a_pair_is_accepted_and_rejected_by_click_and_taken_back(
    browsed: SynthesisePage, qtbot: QtBot
) -> None:
    before = add_reject(browsed, "Name the rivers of Peru from north to south.", qtbot)
    show_reason(browsed, RejectReason.NEAR_DUPLICATE, qtbot)
    browsed.pairs.step(1)
    browsed.filters.clear()
    settle(browsed, qtbot)
    assert opened(browsed) == before
    assert not browsed.panel.reject_button.isEnabled()
    qtbot.mouseClick(browsed.panel.accept_button, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    assert opened(browsed).status is RecordStatus.KEPT
    assert browsed.panel._status.text() == "Kept by hand"
    assert browsed._banner.text() == "Accepted 1 pair."
    assert browsed.yields.number(None) == "22"
    assert before.id in {row.id for row in project_of(browsed).records.training_set(1)}

    qtbot.mouseClick(browsed.undo_button, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    assert opened(browsed) == before
    assert browsed.undo_button.isHidden()

    browsed.pairs.go_to(0)
    settle(browsed, qtbot)
    qtbot.mouseClick(browsed.panel.reject_button, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    assert browsed.panel._status.text() == "Rejected: by hand"
    qtbot.mouseClick(browsed.filters.chip("by_hand"), Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    assert column(browsed, STATUS) == ["By hand"]


def test_pairs_are_gone_through_by_keys(browsed: SynthesisePage, qtbot: QtBot) -> None:
    browsed.pairs.table.setFocus()
    press(browsed, Qt.Key.Key_J, qtbot)
    press(browsed, Qt.Key.Key_J, qtbot)
    press(browsed, Qt.Key.Key_K, qtbot)
    assert browsed.pairs.table.currentIndex().row() == 1
    chosen = opened(browsed)
    press(browsed, Qt.Key.Key_Return, qtbot)
    assert opened(browsed).status is RecordStatus.REJECTED
    press(browsed, Qt.Key.Key_Return, qtbot)
    assert opened(browsed) == chosen
    press(browsed, Qt.Key.Key_R, qtbot)
    assert opened(browsed).status is RecordStatus.REJECTED
    press(browsed, Qt.Key.Key_A, qtbot)
    press(browsed, Qt.Key.Key_U, qtbot)
    assert opened(browsed).status is RecordStatus.REJECTED
    press(browsed, Qt.Key.Key_U, qtbot)
    press(browsed, Qt.Key.Key_U, qtbot)
    press(browsed, Qt.Key.Key_U, qtbot)
    assert opened(browsed) == chosen


def test_letters_typed_into_the_search_field_decide_nothing(
    browsed: SynthesisePage, qtbot: QtBot
) -> None:
    field = browsed.filters.search_field()
    field.setFocus()
    before = project_of(browsed).records.synthetic(1)
    qtbot.keyClicks(field, "rajku")
    qtbot.keyClick(field, Qt.Key.Key_Return)
    settle(browsed, qtbot)
    assert field.text() == "rajku"
    assert project_of(browsed).records.synthetic(1) == before


def test_all_selected_pairs_are_decided_on_at_once(browsed: SynthesisePage, qtbot: QtBot) -> None:
    show_reason(browsed, None, qtbot)
    browsed.pairs.table.selectAll()
    qtbot.mouseClick(browsed.panel.reject_button, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    assert browsed._banner.text() == "Rejected 21 pairs."
    assert browsed.yields.number(None) == "0"
    assert "21 rejected by hand" in browsed.yields.line()
    qtbot.mouseClick(browsed.undo_button, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    assert browsed.yields.number(None) == "21"


def ask_to_accept(page: SynthesisePage, qtbot: QtBot) -> ConfirmDialog:
    qtbot.mouseClick(page.panel.accept_button, Qt.MouseButton.LeftButton)
    settle(page, qtbot)
    dialogs = [item for item in page.findChildren(ConfirmDialog) if item.isVisible()]
    assert len(dialogs) == 1
    return dialogs[0]


def test_a_contaminated_pair_is_accepted_only_after_saying_what_that_means(
    browsed: SynthesisePage, qtbot: QtBot
) -> None:
    show_reason(browsed, RejectReason.CONTAMINATED, qtbot)
    before = opened(browsed)
    question = ask_to_accept(browsed, qtbot)
    assert question.accessibleName() == "Accept a contaminated pair?"
    said = " ".join(label.text() for label in question.findChildren(type(browsed.yields._line)))
    assert "validation" in said
    assert "seen part of its own examination" in said
    qtbot.mouseClick(question.cancel_button, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    assert project_of(browsed).records.get(before.id) == before

    question = ask_to_accept(browsed, qtbot)
    qtbot.mouseClick(question.action_button, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    after = project_of(browsed).records.get(before.id)
    assert after is not None
    assert after.status is RecordStatus.KEPT


def test_a_duplicate_that_is_contaminated_as_well_is_asked_about_too(
    browsed: SynthesisePage, qtbot: QtBot
) -> None:
    test = project_of(browsed).records.by_split(Split.TEST)[0].record
    copy = add_reject(browsed, test.prompt_messages[-1].content, qtbot)
    assert opened(browsed) == copy
    assert copy.reject_reason is RejectReason.NEAR_DUPLICATE
    question = ask_to_accept(browsed, qtbot)
    assert question.accessibleName() == "Accept a contaminated pair?"
    assert project_of(browsed).records.accepted_contaminated() == 0
    qtbot.mouseClick(question.action_button, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    accepted = opened(browsed)
    assert accepted.reject_reason is RejectReason.CONTAMINATED
    assert accepted.rejected_against == test.prompt_id
    assert project_of(browsed).records.accepted_contaminated() == 1
    assert any("accepted by hand" in text for text in build_report(project_of(browsed))["caveats"])


def test_limits_and_quotas_are_saved_with_the_project(
    browsed: SynthesisePage, qtbot: QtBot
) -> None:
    browsed.settings.pairs.setValue(77)
    qtbot.mouseClick(browsed.settings.limits_button, Qt.MouseButton.LeftButton)
    dialog = browsed.findChild(SynthesisLimitsDialog)
    assert dialog is not None
    dialog.rouge.setValue(0.5)
    dialog.quotas["lists"].setValue(12)
    qtbot.mouseClick(dialog.save_button, Qt.MouseButton.LeftButton)
    settle(browsed, qtbot)
    synthesis = project_of(browsed).config.synthesis
    assert synthesis.seed_rouge_l == 0.5
    assert synthesis.category_quotas == {"lists": 12}
    assert synthesis.pairs_per_round == 77
    assert "ROUGE-L 0.5" in browsed.settings._limits.text()
    assert "1 quota" in browsed.settings._limits.text()


def test_a_job_that_fails_says_why_on_the_page(show: Show, tmp_path: Path, qtbot: QtBot) -> None:
    config = PipelineConfig(teacher=ServiceConfig(provider="offline", model="tutor"))
    page = show(make_data_project(tmp_path / "project", config=config))
    assert page.session is not None
    with qtbot.waitSignal(page.session.job_finished, timeout=WAIT_MS):
        page.main_action()
    settle(page, qtbot)
    assert page.header.pill_text() == "Failed"
    assert "only knows the demo's support tickets" in page._banner.text() or (
        "could be kept" in page._banner.text()
    )


def test_without_a_teacher_the_page_says_what_is_missing(show: Show, tmp_path: Path) -> None:
    page = show(make_data_project(tmp_path / "project", config=PipelineConfig()))
    assert page._banner.text().startswith("No teacher is set")
    assert not page.start_button.isEnabled()
    with_link: list[str] = []
    page.workspace.page_requested.connect(with_link.append)
    page._banner.action_button().click()
    assert with_link == ["migrate"]


def test_without_training_data_the_page_leads_to_the_data(
    show: Show, tmp_path: Path, qtbot: QtBot
) -> None:
    page = show(make_data_project(tmp_path / "project", train=0))
    assert page._empty.isVisible()
    assert not page.start_button.isEnabled()
    with qtbot.waitSignal(page.workspace.page_requested) as asked:
        qtbot.mouseClick(page._empty.action_button(), Qt.MouseButton.LeftButton)
    assert asked.args == ["data"]


def test_the_page_stands_between_data_and_migrate(app: QApplication, qtbot: QtBot) -> None:
    window = MainWindow(Workspace())
    qtbot.addWidget(window)
    keys = window.page_keys()
    assert keys.index("data") < keys.index("synthesise") < keys.index("migrate")


def test_a_long_table_is_browsed_without_holding_the_window_up(show: Show, tmp_path: Path) -> None:
    project = make_data_project(tmp_path / "project")
    add_synthetic(project, count=20_000)
    page = show(project)
    assert page.pairs.model.rowCount() == 20_000
    took = []
    for row in range(0, 20_000, 997):
        page.pairs.model._pages.clear()
        before = time.perf_counter()
        assert page.pairs.model.index(row, PROMPT).data()
        took.append(time.perf_counter() - before)
    assert sorted(took)[len(took) // 2] < MOST_FETCH_S


@pytest.mark.parametrize(
    ("width", "height", "scale"), [(1084, 708, 1.0), (964, 608, 1.0), (964, 608, 1.3)]
)
def test_nothing_is_cut_off_and_everything_has_a_name(
    browsed: SynthesisePage, app: QApplication, width: int, height: int, scale: float
) -> None:
    apply_theme(app, "dark", scale)
    browsed.resize(width, height)
    for _ in range(4):
        app.processEvents()

    assert clipped_texts(browsed) == []
    assert unnamed_focusables(browsed) == []
    assert browsed.pairs.table.horizontalScrollBar().maximum() == 0
    assert browsed._scroll is not None
    assert browsed._scroll.horizontalScrollBar().maximum() == 0
