"""Changes what synthetic pairs are rejected for, and how many a category may have."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDialog, QFormLayout, QHBoxLayout, QSpinBox, QVBoxLayout, QWidget

from llamaduo_gui.core.config import SynthesisConfig
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, decimal_box, spin_box
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.page import scroll_area

_NO_QUOTA = -1
_MOST_PAIRS = 1_000_000


class SynthesisLimitsDialog(QDialog):
    """Thresholds, each with what it means, and a quota for every category.

    Signals:
        saved(dict): the changed values of `config.synthesis`.
    """

    saved = Signal(dict)

    def __init__(
        self,
        parent: QWidget | None,
        settings: SynthesisConfig,
        categories: Sequence[tuple[str, int]],
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Limits and quotas")
        self.setAccessibleName("Limits and quotas")
        self.setModal(True)
        self.resize(560, 560)
        self.jaccard = decimal_box(
            "Near-duplicate from Jaccard", 0.05, 1.0, settings.near_duplicate_jaccard
        )
        self.rouge = decimal_box("Too close to its seed from ROUGE-L", 0.05, 1.0, 0.7)
        self.rouge.setValue(settings.seed_rouge_l)
        self.ngram = spin_box("Contaminated from words in a row", 5, 100, 13, suffix=" words")
        self.ngram.setValue(settings.contamination_ngram)
        # Quotas of categories that no training record has stay as they are.
        self._other_quotas = {
            name: quota
            for name, quota in settings.category_quotas.items()
            if name not in dict(categories)
        }
        self.quotas: dict[str, QSpinBox] = {}
        for name, _ in categories:
            box = spin_box(f"Quota of {name}", _NO_QUOTA, _MOST_PAIRS, _NO_QUOTA, suffix=" pairs")
            box.setSpecialValueText("no quota")
            box.setValue(settings.category_quotas.get(name, _NO_QUOTA))
            self.quotas[name] = box
        self._build(categories)

    def _build(self, categories: Sequence[tuple[str, int]]) -> None:
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(SPACE.xl, 0, SPACE.xl, SPACE.l)
        inner.setSpacing(SPACE.s)
        limits = _form(inner, "A pair is rejected when it is")
        limits.addRow("a near-duplicate, Jaccard", self.jaccard)
        limits.addRow("too close to its seed, ROUGE-L", self.rouge)
        limits.addRow("contaminated, words in a row", self.ngram)
        inner.addWidget(
            Label(
                "Compared with training pairs, all earlier rounds, and the validation and test "
                "data; wording that all prompts share is left out.",
                "small",
                tone="text2",
                wrap=True,
            )
        )
        quotas = _form(inner, "Most pairs a round, by category")
        for name, number in categories:
            pairs = "1 training pair" if number == 1 else f"{number:,} training pairs"
            quotas.addRow(Label(f"{name}, {pairs}", wrap=True), self.quotas[name])
        inner.addStretch(1)
        cancel, self.save_button = Button("Cancel"), Button("Save", "primary")
        cancel.clicked.connect(self.reject)
        self.save_button.clicked.connect(self._save)
        self.save_button.setDefault(True)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(SPACE.xl, 0, SPACE.xl, 0)
        buttons.addStretch(1)
        buttons.addWidget(cancel)
        buttons.addWidget(self.save_button)
        head = QVBoxLayout()
        head.setContentsMargins(SPACE.xl, 0, SPACE.xl, 0)
        head.addWidget(Label("Limits and quotas", "title"))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, SPACE.xl, 0, SPACE.l)
        column.setSpacing(SPACE.m)
        column.addLayout(head)
        column.addWidget(scroll_area(content, "Limits and quotas form"), 1)
        column.addLayout(buttons)

    def values(self) -> dict[str, object]:
        """The settings as the fields have them."""
        chosen = {
            name: box.value() for name, box in self.quotas.items() if box.value() != _NO_QUOTA
        }
        return {
            "near_duplicate_jaccard": round(self.jaccard.value(), 2),
            "seed_rouge_l": round(self.rouge.value(), 2),
            "contamination_ngram": self.ngram.value(),
            "category_quotas": {**self._other_quotas, **chosen},
        }

    def _save(self) -> None:
        self.saved.emit(self.values())
        self.accept()


def _form(column: QVBoxLayout, title: str) -> QFormLayout:
    column.addWidget(Label(title, "heading"))
    form = QFormLayout()
    form.setHorizontalSpacing(SPACE.m)
    form.setVerticalSpacing(SPACE.s)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    column.addLayout(form)
    return form
