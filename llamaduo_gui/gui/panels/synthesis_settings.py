"""The settings of a round's synthesis as a card: how many pairs, from which seeds, how new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QWidget

from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, combo_box, decimal_box, spin_box
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Label

if TYPE_CHECKING:
    from llamaduo_gui.core.config import PipelineConfig
    from llamaduo_gui.gui.models.synthesise_view import StrategyText

_MOST_PAIRS = 1_000_000


class SynthesisSettings(Card):
    """Fields over `config.synthesis`; what they have no field for is kept.

    Signals:
        changed(): a person changed a setting.
        limits_wanted(): the button for thresholds and quotas was pressed.
    """

    changed = Signal()
    limits_wanted = Signal()

    def __init__(self) -> None:
        super().__init__("Settings")
        self._config: PipelineConfig | None = None
        self._strategies: tuple[StrategyText, ...] = ()
        self.strategy = combo_box((), "Strategy")
        self.pairs = spin_box("Pairs wanted", 1, _MOST_PAIRS, 1)
        self.per_request = spin_box("Pairs a request", 1, 64, 8)
        self.temperature = decimal_box("Temperature", 0.0, 2.0, 1.0, decimals=2)
        self.limits_button = Button("Limits and quotas...", icon="filter")
        self.limits_button.clicked.connect(self.limits_wanted)
        self._explanation = Label("", "small", tone="text2", wrap=True)
        self._limits = Label("", "small", tone="text2", wrap=True)
        self.forecast = Label("", wrap=True)
        self.forecast.setAccessibleName("Forecast")
        self._build()
        self.strategy.currentIndexChanged.connect(self._note_changed)
        for box in (self.pairs, self.per_request):
            box.valueChanged.connect(self._note_changed)
        self.temperature.valueChanged.connect(self._note_changed)

    def _build(self) -> None:
        grid = QGridLayout()
        grid.setHorizontalSpacing(SPACE.m)
        grid.setVerticalSpacing(SPACE.xs)
        self._wanted = Label("Pairs wanted")
        rows: Sequence[tuple[Label, QWidget, str, QWidget]] = (
            (Label("Seeds"), self.strategy, "Pairs a request", self.per_request),
            (self._wanted, self.pairs, "Temperature", self.temperature),
        )
        for line, (left, first, right, second) in enumerate(rows):
            grid.addWidget(left, line, 0)
            grid.addWidget(first, line, 1)
            grid.addWidget(Label(right), line, 2)
            grid.addWidget(second, line, 3)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)
        self.body.addLayout(grid)
        self.body.addWidget(self._explanation)
        limits = QHBoxLayout()
        limits.setSpacing(SPACE.m)
        limits.addWidget(self.limits_button, 0, Qt.AlignmentFlag.AlignTop)
        limits.addWidget(self._limits, 1)
        self.body.addLayout(limits)
        self.body.addWidget(self.forecast)
        self.body.addStretch(1)

    def set_config(
        self, config: PipelineConfig, strategies: Sequence[StrategyText], round_number: int
    ) -> None:
        """Show settings; changes a person has not saved are replaced."""
        self._config = config
        synthesis = config.synthesis
        self._wanted.setText(f"Pairs in round {round_number}")
        fields = (self.strategy, self.pairs, self.per_request, self.temperature)
        blockers = [QSignalBlocker(item) for item in fields]
        if tuple(strategies) != self._strategies:
            self._strategies = tuple(strategies)
            self.strategy.clear()
            for item in strategies:
                self.strategy.addItem(item.title, item.name)
        self.strategy.setCurrentIndex(self.strategy.findData(synthesis.strategy))
        self.pairs.setValue(synthesis.pairs_per_round)
        self.per_request.setValue(synthesis.pairs_per_request)
        self.temperature.setValue(synthesis.temperature)
        del blockers
        self._explain()

    def config(self) -> PipelineConfig | None:
        """The settings with what the fields say; None before any were shown."""
        if self._config is None:
            return None
        return self.with_values(
            strategy=self.strategy.currentData(),
            pairs_per_round=self.pairs.value(),
            pairs_per_request=self.per_request.value(),
            temperature=round(self.temperature.value(), 2),
        )

    def with_values(self, **values: Any) -> PipelineConfig | None:
        """The settings shown with other values under `synthesis`."""
        if self._config is None:
            return None
        synthesis = self._config.synthesis.model_copy(update=values)
        return self._config.model_copy(update={"synthesis": synthesis})

    def set_editable(self, *, is_editable: bool) -> None:
        """A round that runs keeps its settings."""
        for item in (self.strategy, self.pairs, self.per_request, self.temperature):
            item.setEnabled(is_editable)
        self.limits_button.setEnabled(is_editable)

    def _note_changed(self) -> None:
        self._explain()
        self.changed.emit()

    def _explain(self) -> None:
        name = self.strategy.currentData()
        self._explanation.setText(
            next((item.explanation for item in self._strategies if item.name == name), "")
        )
        if self._config is None:
            return
        limits = self._config.synthesis
        quotas = len(limits.category_quotas)
        words = {0: "no quotas", 1: "1 quota"}.get(quotas, f"{quotas} quotas")
        self._limits.setText(
            f"Rejected from Jaccard {limits.near_duplicate_jaccard:g}, ROUGE-L "
            f"{limits.seed_rouge_l:g} to the seed, {limits.contamination_ngram} words of "
            f"validation or test in a row; {words}."
        )
