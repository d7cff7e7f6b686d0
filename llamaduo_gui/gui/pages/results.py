"""The Results page: the verdict, the numbers behind it, and the judges' words behind those."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSignalBlocker, Qt, QTimer, QUrl
from PySide6.QtGui import QDesktopServices, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QFileDialog, QWidget

from llamaduo_gui.core.types import POOLED, Metric, Split
from llamaduo_gui.gui.models.report_export import export_report
from llamaduo_gui.gui.models.results_view import (
    display_name,
    judge_label,
    read_results,
)
from llamaduo_gui.gui.models.score_sheet import make_sheet
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.panels.responses_card import ResponsesCard
from llamaduo_gui.gui.panels.score_column import ScoreColumn
from llamaduo_gui.gui.panels.verdict_card import VerdictCard
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, combo_box
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.segmented import SegmentedControl

if TYPE_CHECKING:
    from llamaduo_gui.evaluation.results import JudgedModel
    from llamaduo_gui.gui.models.results_view import (
        ResultsView,
        SplitResults,
    )
    from llamaduo_gui.gui.models.score_sheet import ScoreSheet
    from llamaduo_gui.gui.session import ProjectSession
    from llamaduo_gui.gui.workspace import Workspace

# Judgements arrive three times a second; reading them all takes up to a second.
_REFRESH_MS = 1500
# Narrower than this, a score table beside the responses would be cut.
_SIDE_BY_SIDE = 1000


class ResultsPage(WorkspacePage):
    """Verdict, score table and curves on the left; responses and judges' words on the right."""

    tables = frozenset({"runs", "candidates", "judgements"})

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Results", workspace)
        self._results: SplitResults | None = None
        self._sheets: dict[tuple[Metric, str], ScoreSheet] = {}
        self._wanted_split: Split | None = None
        self._wanted_model = ""
        self._saved_page: Path | None = None
        self._is_reading = False
        self._build_header()
        self._banner = MessageBanner()
        self._banner.action_clicked.connect(self._open_saved)
        self.body.addWidget(self._banner)
        self._empty = EmptyState("results", "No results yet")
        self._empty.action_clicked.connect(lambda: workspace.page_requested.emit("migrate"))
        self.body.addWidget(self._empty, 1)
        self.verdict = VerdictCard()
        self.body.addWidget(self.verdict)
        self._build_columns()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(_REFRESH_MS)
        self._later.timeout.connect(self._read)
        self._set_visible(has_results=False)
        self._empty.hide()

    # What the window asks of a page

    def attach(self, session: ProjectSession | None) -> None:
        """Forget the results of another project."""
        del session
        self._later.stop()
        self._is_reading = False
        self._wanted_split, self._wanted_model = None, ""
        self._forget()
        self.responses.forget()
        self._banner.clear()
        self._set_visible(has_results=False)
        self._empty.hide()

    def refresh(self) -> None:
        """Read the results again; while judgements arrive, every second and a half."""
        if self._results is None:
            self._read()
        elif not self._later.isActive():
            self._later.start()

    def main_action(self) -> None:
        """Ctrl+Enter exports the report, or goes to where results are made."""
        if self._results is None:
            self.workspace.page_requested.emit("migrate")
        elif self.export_button.isEnabled():
            self.ask_and_export()

    def focus_search(self) -> None:
        """Ctrl+F searches the responses."""
        self.responses.picker.search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.responses.picker.search.selectAll()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """J and K go through the responses, wherever on the page the focus is."""
        steps = {Qt.Key.Key_J: 1, Qt.Key.Key_K: -1}
        step = steps.get(Qt.Key(event.key()))
        if step is not None and event.modifiers() == Qt.KeyboardModifier.NoModifier:
            self.responses.picker.step(step)
        else:
            super().keyPressEvent(event)

    # Building

    def _build_header(self) -> None:
        options = [(metric.value, metric.value.capitalize()) for metric in Metric]
        self.metrics = SegmentedControl(options, "Metric")
        self.metrics.changed.connect(lambda _: self._show_choice())
        self.split = combo_box((), "Split")
        self.split.currentIndexChanged.connect(self._choose_split)
        self.judges = combo_box((), "Judges whose scores are shown")
        self.judges.currentIndexChanged.connect(lambda _: self._show_choice())
        for widget in (self.metrics, self.split, self.judges):
            self.header.add_filter(widget)
        self.export_button = Button("Export report...", icon="export")
        self.export_button.clicked.connect(self.ask_and_export)
        self.header.add_action(self.export_button)

    def _build_columns(self) -> None:
        self.scores = ScoreColumn()
        self.scores.model_chosen.connect(self._choose_model)
        self.scores.failed.connect(self._show_error)
        self.responses = ResponsesCard(self.background)
        self.responses.failed.connect(self._show_error)
        self._columns = QWidget()
        self._row = QBoxLayout(QBoxLayout.Direction.LeftToRight, self._columns)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(SPACE.m)
        self._row.addWidget(self.scores, 2)
        self._row.addWidget(self.responses, 1)
        self.body.addWidget(self._columns, 1)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Put the responses below the scores where both would be cut side by side."""
        super().resizeEvent(event)
        is_narrow = self.width() < scaled(_SIDE_BY_SIDE)
        directions = QBoxLayout.Direction
        self._row.setDirection(directions.TopToBottom if is_narrow else directions.LeftToRight)
        self.responses.set_wide(is_wide=is_narrow)

    # Reading

    def _read(self) -> None:
        if self.session is None:
            return
        if self._is_reading:
            self._later.start()
            return
        self._is_reading = True
        project, split = self.session.project, self._wanted_split
        self.background.run(
            "view", lambda: read_results(project, split), self._show, self._show_error
        )

    def _show_error(self, text: str) -> None:
        self._is_reading = False
        self.export_button.setEnabled(self._results is not None)
        self._banner.show_message("bad", text)

    def _forget(self) -> None:
        self._results = None
        self._sheets.clear()

    def _show(self, view: ResultsView) -> None:
        self._is_reading = False
        self._forget()
        self._results = results = view.results
        self._set_visible(has_results=results is not None)
        if results is None:
            self._show_empty(has_started=view.has_started)
            return
        self._offer_splits(view.splits, results.split)
        self._offer_judges(results.judges)
        self.verdict.show_headline(results.headline)
        self._show_choice()

    def _set_visible(self, *, has_results: bool) -> None:
        self._empty.setVisible(not has_results)
        shown = (self.verdict, self._columns, self.metrics, self.split, self.export_button)
        for widget in shown:
            widget.setVisible(has_results)
        self.judges.setVisible(has_results and self.judges.count() > 1)

    def _show_empty(self, *, has_started: bool) -> None:
        text = (
            "The loop has started, and no model has answered yet. Answers come after "
            "fine-tuning, and scores as the judges read them."
            if has_started
            else "Scores appear when models have answered your validation prompts and the judges "
            "have read the answers. Start that on the Migrate page."
        )
        self._empty.set_content("results", "No results yet", text, "Go to Migrate")

    def _offer_splits(self, splits: tuple[Split, ...], shown: Split) -> None:
        with QSignalBlocker(self.split):
            self.split.clear()
            for split in splits:
                self.split.addItem(f"{split.value.capitalize()} split", split)
            self.split.setCurrentIndex(self.split.findData(shown))

    def _offer_judges(self, judges: tuple[str, ...]) -> None:
        known = [self.judges.itemData(i) for i in range(1, self.judges.count())]
        if known == list(judges):
            return
        chosen = self.judges.currentData()
        with QSignalBlocker(self.judges):
            self.judges.clear()
            pool = "Both judges" if len(judges) == 2 else f"All {len(judges)} judges"
            self.judges.addItem(pool, POOLED)
            if len(judges) > 1:
                for judge in judges:
                    self.judges.addItem(judge_label(judge, judges), judge)
            self.judges.setCurrentIndex(max(0, self.judges.findData(chosen)))
        self.judges.setVisible(len(judges) > 1)

    # Choices

    @property
    def chosen_metric(self) -> Metric:
        """The metric of the table, the curves and the order of the responses."""
        return Metric(self.metrics.current())

    @property
    def chosen_judge(self) -> str:
        """A judge's name, or the pool of all."""
        return str(self.judges.currentData() or POOLED)

    @property
    def chosen_model(self) -> JudgedModel | None:
        """The model whose responses are listed."""
        results = self._results
        if results is None:
            return None
        return results.model(self._wanted_model) or results.model(results.final_key)

    def _choose_split(self, index: int) -> None:
        split = self.split.itemData(index)
        if split is not None and (self._results is None or split is not self._results.split):
            self._wanted_split = Split(split)
            self._is_reading = False
            self._read()

    def _choose_model(self, name: str) -> None:
        results = self._results
        if results is None:
            return
        models = results.models
        chosen = next((item for item in models if display_name(item, models) == name), None)
        if chosen is not None and chosen is not self.chosen_model:
            self._wanted_model = chosen.key
            self._show_responses()

    def _show_choice(self) -> None:
        """Table, curves and list for the chosen metric and judges."""
        results = self._results
        if results is None:
            return
        metric, judge = self.chosen_metric, self.chosen_judge
        sheet = self._sheets.get((metric, judge))
        if sheet is not None:
            self._show_sheet(sheet)
        else:
            self.background.run(
                "sheet",
                lambda: make_sheet(results, metric, judge),
                self._show_sheet,
                self._show_error,
            )
        self._show_responses()

    def _show_sheet(self, sheet: ScoreSheet) -> None:
        self._sheets[sheet.metric, sheet.judge] = sheet
        model, results = self.chosen_model, self._results
        if model is None or results is None:
            return
        if (sheet.metric, sheet.judge) == (self.chosen_metric, self.chosen_judge):
            self.scores.show_sheet(sheet, display_name(model, results.models))

    def _show_responses(self) -> None:
        model, results = self.chosen_model, self._results
        if model is not None and results is not None and self.session is not None:
            project = self.session.project
            self.responses.show_model(
                project, results, model, self.chosen_metric, self.chosen_judge
            )

    # Saving

    def ask_and_export(self) -> None:
        """Ask where the report goes, and write it there."""
        if self.session is None:
            return
        dialog = QFileDialog(self, "Export report")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter("Web page, with the scores as CSV beside it (*.html)")
        dialog.setDefaultSuffix("html")
        dialog.selectFile(f"{self.session.project.name}-report.html")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda name: self.export_to(Path(name)))
        dialog.open()

    def export_to(self, path: Path) -> None:
        """Write the report to `path` in the background, and say where it is."""
        if self.session is None:
            return
        project = self.session.project
        self.export_button.setEnabled(False)
        self._banner.show_message("info", "Writing the report...", closable=False)
        self.background.run(
            "export", lambda: export_report(project, path), self._note_saved, self._show_error
        )

    def _note_saved(self, files: list[Path]) -> None:
        self.export_button.setEnabled(True)
        self._saved_page = files[0]
        names = " and ".join(file.name for file in files)
        detail = f"in {files[0].parent}"
        self._banner.show_message("ok", f"Saved {names}", action="Open report", detail=detail)

    def _open_saved(self) -> None:
        if self._saved_page is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._saved_page)))


INFO = PageInfo("results", "Results", "results", 50, ResultsPage)
