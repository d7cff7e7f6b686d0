"""The numbers of the Results page: the table of scores and the coverage curves."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from llamaduo_gui.gui.models.score_sheet import ScoreSheet
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.charts import CoverageCurveChart
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.score_table import ScoreTable

_CHART_HEIGHT = 170
_LEGEND_ROW = 40
_ONE_ROW_LETTERS = 50


class ScoreColumn(QWidget):
    """Scores above, curves below.

    Signals:
        model_chosen(str): the row of the model of this name was selected.
        failed(str): a chart could not be saved; one sentence.
    """

    model_chosen = Signal(str)
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.table = ScoreTable("Scores by model; the selected model's responses are listed")
        self.table.row_selected.connect(self._choose)
        self.chart = CoverageCurveChart()
        self.chart.setMinimumHeight(_CHART_HEIGHT)
        self._footer = Label("", "small", tone="text2", wrap=True)
        self._scores = Card("Scores", "estimate (95 % interval, clustered by prompt)")
        self.copy = Button("Copy table", "quiet", "copy")
        self.copy.clicked.connect(self.table.copy_tsv)
        self._scores.add_action(self.copy)
        self._scores.body.addWidget(self.table)
        self._scores.body.addWidget(self._footer)
        self._curves = Card("Share of responses scoring at least t")
        self.save = Button("Save chart...", "quiet", "down")
        self.save.clicked.connect(self._save_chart)
        self._curves.add_action(self.save)
        self._curves.body.addWidget(self.chart, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.m)
        column.addWidget(self._scores)
        column.addWidget(self._curves, 1)

    def show_sheet(self, sheet: ScoreSheet, selected: str) -> None:
        """Show the numbers of a metric and judge, with one model's row selected."""
        self._scores.set_title(f"Scores, {sheet.metric.value}")
        with QSignalBlocker(self.table):
            self.table.set_scores(sheet.columns, sheet.rows)
            self.select(selected)
        self._footer.setText(sheet.footer)
        self._curves.set_subtitle(f"{sheet.metric.value}, 95 % bands")
        letters = sum(len(curve.name) for curve in sheet.curves)
        self.chart.setMinimumHeight(
            _CHART_HEIGHT + (_LEGEND_ROW if letters > _ONE_ROW_LETTERS else 0)
        )
        self.chart.set_data(sheet.curves, start=sheet.curve_start)

    def select(self, name: str) -> None:
        """Select the row of the model of this name, if it is there."""
        names = [row.name for row in self.table.rows()]
        if name in names:
            self.table.selectRow(names.index(name))

    def footer_text(self) -> str:
        """How many responses the table rests on, and what is unscored."""
        return self._footer.text()

    def _choose(self, row: int) -> None:
        rows = self.table.rows()
        if 0 <= row < len(rows):
            self.model_chosen.emit(rows[row].name)

    def _save_chart(self) -> None:
        try:
            self.chart.ask_and_save()
        except OSError as error:
            self.failed.emit(f"The chart could not be saved ({error.strerror}).")
