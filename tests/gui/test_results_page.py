"""The Results page: the verdict, the numbers of the report, and every response to its reason."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QRect, Qt
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import POOLED, Metric, ModelKind, RunStatus, Split, Stage
from llamaduo_gui.evaluation.report import build_report
from llamaduo_gui.evaluation.stage_report import run_report
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.models.report_export import export_report
from llamaduo_gui.gui.pages.results import ResultsPage
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.widgets.wording import Interval
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.pipeline.plan import answer_steps, baseline_steps
from llamaduo_gui.store.project import Project
from tests.gui.checks import clipped_texts, unnamed_focusables
from tests.gui.projects import (
    RAW_REPLY,
    add_answers,
    add_judgements,
    answer_and_judge,
    make_config,
    make_data_project,
    make_judged_project,
)

WAIT_MS = 30_000
Show = Callable[[Project], ResultsPage]


@pytest.fixture
def workspace(app: QApplication) -> Iterator[Workspace]:
    found = Workspace()
    yield found
    found.close_project()


@pytest.fixture
def page(workspace: Workspace, qtbot: QtBot) -> ResultsPage:
    found = ResultsPage(workspace)
    qtbot.addWidget(found)
    found.resize(1084, 764)
    found.show()
    qtbot.waitExposed(found)
    return found


@pytest.fixture
def show(page: ResultsPage, workspace: Workspace, qtbot: QtBot) -> Show:
    """Open a project on the page and wait until everything is read."""

    def open_project(project: Project) -> ResultsPage:
        workspace.adopt(project)
        settle(page, qtbot)
        return page

    return open_project


@pytest.fixture
def judged(show: Show, tmp_path: Path) -> ResultsPage:
    """The page with a finished loop of 12 prompts a split, 2 responses, 2 judges, 2 repeats."""
    return show(make_judged_project(tmp_path / "coding-assistant"))


def settle(page: ResultsPage, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not page.background.is_busy, timeout=WAIT_MS)


def project_of(page: ResultsPage) -> Project:
    assert page.session is not None
    return page.session.project


def click(widget: object, qtbot: QtBot) -> None:
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)


def choose_row(page: ResultsPage, row: int, qtbot: QtBot) -> None:
    table = page.scores.table
    place: QRect = table.visualRect(table.model().index(row, 0))
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place.center())
    settle(page, qtbot)


def listed(page: ResultsPage) -> list[tuple[str, str]]:
    model = page.responses.picker.model
    return [
        (str(model.index(row, 2).data()), str(model.index(row, 3).data()))
        for row in range(model.rowCount())
    ]


def precisions(page: ResultsPage) -> list[float]:
    return [float(text) for text, _ in listed(page) if text != "unscored"]


def words(page: ResultsPage) -> str:
    return " ".join(reason for card in page.responses.panel.cards() for reason in card.reasons())


def test_without_answers_the_page_says_why_and_leads_to_migrate(
    show: Show, workspace: Workspace, tmp_path: Path, qtbot: QtBot
) -> None:
    page = show(make_data_project(tmp_path / "project"))

    assert not page.verdict.isVisible()
    assert not page.export_button.isVisible()
    with qtbot.waitSignal(workspace.page_requested) as asked:
        click(page._empty.action_button(), qtbot)
    assert asked.args == ["migrate"]


def test_the_verdict_is_the_reports_own_sentence_with_what_it_rests_on(
    judged: ResultsPage,
) -> None:
    verdict = build_report(project_of(judged))["verdict"]

    assert verdict["claim"] in judged.verdict.text()
    assert verdict["ground"] in judged.verdict.text()
    assert verdict["counts"] in judged.verdict.text()
    assert "3 of 96 judgements unscored" in judged.verdict.text()


def test_the_table_has_the_reports_numbers_for_every_model_judge_and_metric(
    judged: ResultsPage, qtbot: QtBot
) -> None:
    models = build_report(project_of(judged))["splits"]["test"]["models"]
    for judge_place in range(judged.judges.count()):
        judged.judges.setCurrentIndex(judge_place)
        judge = judged.judges.currentData()
        for metric in Metric:
            click(judged.metrics.button(metric.value), qtbot)
            settle(judged, qtbot)
            rows = judged.scores.table.rows()
            assert len(rows) == len(models) == 4
            for row, model in zip(rows, models, strict=True):
                check_row(row.cells, model["scores"][judge][metric.value])


def check_row(cells: tuple[Interval | str | None, ...], expected: dict[str, object]) -> None:
    estimates = [expected[name] for name in ("mean", "coverage_50", "coverage_70")]
    if expected["p_match"] is None:
        assert cells[3] == "reference"
    else:
        estimates.append(expected["p_match"]["mean"])
    for cell, estimate in zip(cells, estimates, strict=False):
        assert isinstance(cell, Interval)
        assert (cell.estimate, cell.low, cell.high) == (
            estimate["value"],
            estimate["low"],
            estimate["high"],
        )
        assert cell.n == expected["n_responses"] - expected["n_unscored"]


def test_the_table_says_how_many_responses_have_no_score(judged: ResultsPage) -> None:
    footer = judged.scores.footer_text()

    assert "24 responses a row" in footer
    assert "unscored: Tuned adapter 1, GGUF Q4_K_M 1" in footer
    assert "Teacher teacher-xl; judges judge-a, judge-b" in footer


def test_the_curves_are_the_reports_curves_of_the_chosen_metric(
    judged: ResultsPage, qtbot: QtBot
) -> None:
    click(judged.metrics.button("similarity"), qtbot)
    settle(judged, qtbot)

    expected = {
        curve["title"].partition(",")[0]: tuple(curve["values"])
        for curve in build_report(project_of(judged))["curves"]
        if curve["metric"] == "similarity" and curve["kind"] != "service"
    }
    found = {curve.name: tuple(curve.share) for curve in judged.scores.chart._coverage.curves}
    assert found.pop("Service LLM")
    assert found == expected


def test_a_split_is_chosen_in_the_header_and_names_its_rounds(
    judged: ResultsPage, qtbot: QtBot
) -> None:
    assert judged.split.currentText() == "Test split"
    judged.split.setCurrentText("Validation split")
    settle(judged, qtbot)

    names = [row.name for row in judged.scores.table.rows()]
    assert names == ["Service LLM", "Untuned base", "Tuned, round 0", "Tuned, round 1"]
    assert "12 validation prompts" in judged.verdict.text()
    assert "The tuned model keeps" in judged.verdict.text()


def test_a_person_goes_from_a_score_down_to_the_judges_reason(
    judged: ResultsPage, qtbot: QtBot
) -> None:
    choose_row(judged, 1, qtbot)

    assert judged.chosen_model is not None
    assert judged.chosen_model.kind is ModelKind.BASE
    table = judged.responses.picker.table
    place = table.visualRect(table.model().index(1, 1))
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place.center())
    settle(judged, qtbot)
    detail = judged.responses.panel.detail
    assert detail is not None
    stored = project_of(judged).judgements.of_candidate(detail.candidate.id)
    shown = words(judged)
    judge = judged.responses.panel.judge.currentData()
    assert [row.precision_reason in shown for row in stored if row.judge == judge] == [True, True]
    assert judged.responses.panel.prompt.shown_text().startswith(detail.prompt_turns[-1].content)
    assert detail.diff.summary in judged.responses.panel.comparison.summary_text()


def test_the_other_judges_words_are_one_choice_away(judged: ResultsPage, qtbot: QtBot) -> None:
    panel = judged.responses.panel
    before = [card.accessibleName() for card in panel.cards()]

    panel.judge.setCurrentIndex(1)

    after = [card.accessibleName() for card in panel.cards()]
    assert all("judge-a" in name for name in before)
    assert all("judge-b" in name for name in after)


def test_response_and_target_can_be_read_as_they_stand(judged: ResultsPage, qtbot: QtBot) -> None:
    comparison = judged.responses.panel.comparison
    detail = judged.responses.panel.detail
    assert detail is not None

    click(comparison.view.button("target"), qtbot)
    assert comparison.plain.toPlainText() == detail.target
    click(comparison.view.button("response"), qtbot)
    assert comparison.plain.toPlainText() == detail.candidate.text
    click(comparison.view.button("diff"), qtbot)
    assert comparison.diff.isVisible()
    assert not comparison.plain.isVisible()


def test_responses_come_lowest_first_and_highest_first_on_request(
    judged: ResultsPage, qtbot: QtBot
) -> None:
    rising = precisions(judged)
    assert len(listed(judged)) == 24
    assert rising == sorted(rising)
    assert listed(judged)[-1] == ("unscored", "unscored")

    judged.responses.picker.order.setCurrentText("Highest first")
    settle(judged, qtbot)

    assert precisions(judged) == sorted(rising, reverse=True)


def test_unscored_responses_show_what_the_judge_replied(judged: ResultsPage, qtbot: QtBot) -> None:
    judged.responses.picker.order.setCurrentText("Unscored only")
    settle(judged, qtbot)

    assert listed(judged) == [("unscored", "unscored")]
    assert judged.responses.panel.judge.currentText() == "judge-b"
    assert RAW_REPLY in words(judged)


def test_search_looks_into_prompts_responses_and_judges_words(
    judged: ResultsPage, qtbot: QtBot
) -> None:
    picker = judged.responses.picker
    for wanted, least in (("ISO 8601", 1), ("counter(WORDS)", 1), (RAW_REPLY[:12], 2)):
        with qtbot.waitSignal(picker.wanted):
            picker.search.setText(wanted)
        settle(judged, qtbot)
        assert least <= picker.model.rowCount() < 24, wanted
        assert "found" in picker.place_text()

    with qtbot.waitSignal(picker.wanted):
        picker.search.setText("no such words")
    settle(judged, qtbot)
    assert picker.model.rowCount() == 0
    assert not judged.responses.panel.isVisible()
    with qtbot.waitSignal(picker.wanted):
        picker.search.clear()
    settle(judged, qtbot)
    assert picker.model.rowCount() == 24
    assert judged.responses.panel.isVisible()


def test_keys_and_buttons_step_through_the_responses(judged: ResultsPage, qtbot: QtBot) -> None:
    card = judged.responses
    assert not card.previous.isEnabled()

    qtbot.keyClick(judged, Qt.Key.Key_J)
    qtbot.keyClick(card.picker.table, Qt.Key.Key_J)
    click(card.next, qtbot)
    assert card.picker.place_text() == "4 of 24"
    qtbot.keyClick(judged, Qt.Key.Key_K)
    click(card.previous, qtbot)
    assert card.picker.place_text() == "2 of 24"
    judged.focus_search()
    qtbot.keyClick(card.picker.search, Qt.Key.Key_J)
    assert card.picker.place_text() == "2 of 24"


def test_the_scores_of_one_judge_are_not_those_of_the_pool(
    judged: ResultsPage, qtbot: QtBot
) -> None:
    pooled = [row.cells[0] for row in judged.scores.table.rows()]
    judged.judges.setCurrentIndex(1)
    settle(judged, qtbot)

    assert judged.judges.currentText() == "judge-a"
    assert [row.cells[0] for row in judged.scores.table.rows()] != pooled
    assert "unscored: none" in judged.scores.footer_text()


def test_model_and_response_stay_chosen_when_metric_or_numbers_change(
    judged: ResultsPage, qtbot: QtBot
) -> None:
    choose_row(judged, 0, qtbot)
    opened = judged.responses.panel.detail
    assert opened is not None
    click(judged.metrics.button("similarity"), qtbot)
    settle(judged, qtbot)
    judged._read()
    settle(judged, qtbot)

    assert judged.chosen_model is not None
    assert judged.chosen_model.kind is ModelKind.SERVICE
    assert judged.scores.table.currentIndex().row() == 0
    again = judged.responses.panel.detail
    assert again is not None
    assert again.candidate.id == opened.candidate.id


def test_while_answers_are_judged_there_are_numbers_and_no_verdict(
    show: Show, tmp_path: Path, qtbot: QtBot
) -> None:
    project = make_data_project(tmp_path / "project", config=make_config())
    answer_and_judge(project, baseline_steps(Split.VALIDATION))
    infer, judge = answer_steps(ModelKind.TUNED, Split.VALIDATION, 0)
    answers = add_answers(project, infer)
    add_judgements(project, answers, judge, share=0.5)
    page = show(project)

    assert "No verdict yet" in page.verdict.text()
    assert "Tuned adapter 12 of 24" in page.verdict.text()
    assert "Matched" not in page.verdict.text()
    assert page.responses.picker.model.rowCount() == 12

    add_judgements(project, answers, judge)
    page._note_changed(frozenset({"judgements"}))
    qtbot.waitUntil(lambda: page.responses.picker.model.rowCount() == 24, timeout=WAIT_MS)
    settle(page, qtbot)
    assert "No verdict yet" not in page.verdict.text()
    assert "The tuned model keeps" in page.verdict.text()


def test_news_several_times_a_second_is_read_once_and_never_put_off(
    judged: ResultsPage, qtbot: QtBot
) -> None:
    reads: list[None] = []
    judged._later.timeout.connect(lambda: reads.append(None))
    judged._later.setInterval(200)
    first = time.monotonic()

    while not reads and time.monotonic() < first + WAIT_MS / 1000:
        judged._note_changed(frozenset({"judgements"}))
        with qtbot.waitSignal(judged._later.timeout, timeout=20, raising=False):
            pass

    assert len(reads) == 1
    settle(judged, qtbot)


def test_the_tutor_is_called_not_an_llm_in_the_table_and_beside_the_verdict(
    show: Show, tmp_path: Path
) -> None:
    page = show(make_judged_project(tmp_path / "project", is_tutor=True))

    assert page.scores.table.rows()[0].name == "Tutor (not an LLM)"
    assert "not an LLM's judgement" in page.verdict.text()
    assert not page.judges.isVisible()


def test_the_table_is_copied_with_bounds_in_columns_of_their_own(
    judged: ResultsPage, qtbot: QtBot, app: QApplication
) -> None:
    click(judged.scores.copy, qtbot)

    lines = app.clipboard().text().split("\n")
    assert lines[0].split("\t")[:5] == ["Model", "Mean", "Mean low", "Mean high", "Mean n"]
    assert len(lines) == 5


def test_the_report_is_written_where_the_user_wants_it(
    judged: ResultsPage, qtbot: QtBot, tmp_path: Path
) -> None:
    click(judged.export_button, qtbot)
    dialog = judged.findChild(QFileDialog)
    assert dialog is not None
    dialog.fileSelected.emit(str(tmp_path / "report.html"))
    dialog.close()
    settle(judged, qtbot)

    assert "Matched" in (tmp_path / "report.html").read_text(encoding="utf-8")
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 24 * 2 * 2
    assert "report.html and report.csv" in judged._banner.text()
    assert judged.export_button.isEnabled()


def test_the_loops_own_report_is_copied_until_something_has_run_since(
    judged: ResultsPage, tmp_path: Path
) -> None:
    project = project_of(judged)
    run = project.runs.find_or_create("report", Stage.REPORT)
    project.runs.start(run.id, {})
    summary = run_report(project, run, JobContext(emit=lambda _: None))
    project.runs.finish(run.id, RunStatus.SUCCEEDED, summary=summary)
    own = Path(summary["files"]["html"])
    own.write_text("the loop's own report", encoding="utf-8")

    page, _table = export_report(project, tmp_path / "copy")
    assert page.name == "copy.html"
    assert page.read_text(encoding="utf-8") == "the loop's own report"

    answer_and_judge(project, answer_steps(ModelKind.TUNED, Split.TEST, 0))
    page, _table = export_report(project, tmp_path / "copy.html")
    assert "round 0" in page.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_says_where_and_what_to_do(
    judged: ResultsPage, qtbot: QtBot, tmp_path: Path
) -> None:
    judged.export_to(tmp_path / "missing" / "report.html")
    settle(judged, qtbot)

    assert "choose another folder" in judged._banner.text()
    assert judged.export_button.isEnabled()


def test_settings_that_cannot_be_read_are_told_and_nothing_is_shown(
    show: Show, tmp_path: Path
) -> None:
    project = make_judged_project(tmp_path / "project")
    project.paths.config.write_text("tesk: coding\n", encoding="utf-8")
    page = show(project)

    assert "unknown key `tesk`" in page._banner.text()
    assert not page.verdict.isVisible()


def test_another_project_takes_over_nothing(
    judged: ResultsPage, show: Show, tmp_path: Path, qtbot: QtBot
) -> None:
    judged.split.setCurrentText("Validation split")
    choose_row(judged, 0, qtbot)
    show(make_judged_project(tmp_path / "other", prompts=8))

    assert judged.split.currentText() == "Test split"
    assert judged.chosen_model is not None
    assert judged.chosen_model.kind is ModelKind.GGUF
    assert judged.responses.picker.place_text() == "1 of 16"
    assert judged.chosen_judge == POOLED


def test_the_results_are_reached_and_read_with_the_keyboard_alone(
    app: QApplication, qtbot: QtBot, tmp_path: Path
) -> None:
    workspace = Workspace()
    window = MainWindow(workspace)
    qtbot.addWidget(window)
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    workspace.adopt(make_judged_project(tmp_path / "project"), then_page="migrate")
    number = window.page_keys().index("results") + 1
    key = Qt.Key(Qt.Key.Key_0.value + number)
    qtbot.keyClick(window, key, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: window.current_key == "results")
    page = window.show_page("results")
    assert isinstance(page, ResultsPage)
    qtbot.waitUntil(lambda: page.responses.panel.detail is not None, timeout=WAIT_MS)
    settle(page, qtbot)
    qtbot.keyClick(page, Qt.Key.Key_J)
    assert page.responses.picker.place_text() == "2 of 24"
    settle(page, qtbot)
    window.close()


@pytest.mark.parametrize(
    ("width", "height", "scale"), [(1084, 708, 1.0), (964, 608, 1.0), (1084, 708, 1.3)]
)
def test_nothing_is_cut_off_and_everything_has_a_name(
    judged: ResultsPage, app: QApplication, qtbot: QtBot, width: int, height: int, scale: float
) -> None:
    apply_theme(app, "dark", scale)
    judged.resize(width, height)
    judged.scores.chart.draw_now()
    app.processEvents()
    app.processEvents()

    assert clipped_texts(judged) == []
    assert unnamed_focusables(judged) == []
    assert judged.scores.table.horizontalScrollBar().maximum() == 0
