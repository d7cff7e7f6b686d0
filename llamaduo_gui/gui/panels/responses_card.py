"""The responses of one model: the list, and the selected one down to the judges' reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QBoxLayout, QSizePolicy

from llamaduo_gui.core.types import POOLED, Metric
from llamaduo_gui.gui.models.response_view import (
    list_responses,
    read_response,
    read_search_texts,
    search_texts,
)
from llamaduo_gui.gui.models.results_view import short_name
from llamaduo_gui.gui.panels.response_list import ResponsePicker
from llamaduo_gui.gui.panels.response_panel import ResponsePanel
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import IconButton
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Separator

if TYPE_CHECKING:
    from llamaduo_gui.evaluation.results import JudgedModel
    from llamaduo_gui.gui.background import Background
    from llamaduo_gui.gui.models.response_view import (
        ResponseDetail,
        ResponseList,
    )
    from llamaduo_gui.gui.models.results_view import SplitResults
    from llamaduo_gui.store.project import Project

_WIDE_HEIGHT = 430


class ResponsesCard(Card):
    """Reads (through the page's `background`) and shows the responses of the model it is given.

    Signals:
        failed(str): something could not be read; one sentence.
    """

    failed = Signal(str)

    def __init__(self, background: Background) -> None:
        super().__init__("Responses")
        self._background = background
        self._project: Project | None = None
        self._results: SplitResults | None = None
        self._model: JudgedModel | None = None
        self._metric, self._judge = Metric.PRECISION, POOLED
        self._texts: dict[int, str] | None = None
        self.previous = IconButton("up", "Previous response (K)")
        self.next = IconButton("down", "Next response (J)")
        self.picker = ResponsePicker()
        self.panel = ResponsePanel()
        self.previous.clicked.connect(lambda: self.picker.step(-1))
        self.next.clicked.connect(lambda: self.picker.step(1))
        self.picker.wanted.connect(self._list)
        self.picker.opened.connect(self._open)
        for button in (self.previous, self.next):
            self.add_action(button)
        # Both scroll by themselves: what they hold must not make the page longer.
        for part in (self.picker, self.panel):
            part.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Ignored)
        self._line = Separator()
        self._is_wide = False
        self._row = QBoxLayout(QBoxLayout.Direction.TopToBottom)
        self._row.setSpacing(SPACE.s)
        self._row.addWidget(self.picker, 2)
        self._row.addWidget(self._line)
        self._row.addWidget(self.panel, 5)
        self.body.addLayout(self._row, 1)
        self.setMinimumWidth(scaled(290))

    def set_wide(self, *, is_wide: bool) -> None:
        """Put the selected response beside the list in place of below it."""
        directions = QBoxLayout.Direction
        self._row.setDirection(directions.LeftToRight if is_wide else directions.TopToBottom)
        self._row.setSpacing(SPACE.l if is_wide else SPACE.s)
        self._row.setStretchFactor(self.panel, 3 if is_wide else 5)
        self._line.setVisible(not is_wide and self.panel.isVisibleTo(self))
        self._is_wide = is_wide
        self.setMinimumHeight(scaled(_WIDE_HEIGHT) if is_wide else 0)

    def forget(self) -> None:
        """Take nothing over into another project."""
        self._project = self._results = self._model = self._texts = None
        self.picker.search.clear()

    def show_model(
        self,
        project: Project,
        results: SplitResults,
        model: JudgedModel,
        metric: Metric,
        judge: str,
    ) -> None:
        """List a model's responses by one metric of one judge (or the pool)."""
        is_other_judge = judge != self._judge
        if model is not self._model:
            self._texts = None
        self._project, self._results, self._model = project, results, model
        self._metric, self._judge = metric, judge
        if is_other_judge:
            self.panel.choose_judge(judge)
        self._list()

    def _list(self) -> None:
        project, results, model = self._project, self._results, self._model
        if project is None or results is None or model is None:
            return
        metric, judge = self._metric, self._judge
        order, words, known = self.picker.order_key(), self.picker.search_text(), self._texts

        def work() -> tuple[ResponseList, dict[int, str] | None]:
            texts = known
            if words and texts is None:
                texts = read_search_texts(project, model)
            matching = search_texts(texts, words) if words and texts is not None else None
            return list_responses(model, judge, metric, order, results.prompts, matching), texts

        self._background.run("list", work, self._show_list, self.failed.emit)

    def _show_list(self, found: tuple[ResponseList, dict[int, str] | None]) -> None:
        listed, self._texts = found
        self.picker.set_list(listed)
        self._show_place()

    def _show_place(self) -> None:
        if self._model is not None:
            self.set_subtitle(f"{short_name(self._model)} \u00b7 {self.picker.place_text()}")
        row, count = self.picker.table.currentIndex().row(), self.picker.model.rowCount()
        self.previous.setEnabled(row > 0)
        self.next.setEnabled(row < count - 1)

    def _open(self, candidate_id: int) -> None:
        self._show_place()
        project, model = self._project, self._model
        self.panel.setVisible(candidate_id > 0)
        self._line.setVisible(candidate_id > 0 and not self._is_wide)
        if project is None or model is None or candidate_id == 0:
            return
        self._background.run(
            "response",
            lambda: read_response(project, model, candidate_id),
            self._show_response,
            self.failed.emit,
        )

    def _show_response(self, detail: ResponseDetail | None) -> None:
        if detail is not None:
            pinned = "" if self._judge == POOLED else self._judge
            self.panel.show_detail(detail, pinned or detail.unscored_judge)
