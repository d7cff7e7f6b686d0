"""The student's settings as a card: base model, recipe, and the numbers most often changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QAbstractSpinBox, QGridLayout, QHBoxLayout, QWidget

from llamaduo_gui.gui.models.train_view import FORM_KEYS
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, combo_box, decimal_box, spin_box
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Label

if TYPE_CHECKING:
    from llamaduo_gui.core.config import StudentConfig
    from llamaduo_gui.gui.models.train_view import RecipeText

_WHOLE = ("batch_size", "max_length", "r")


class TrainForm(Card):
    """Fields over `config.student`; overrides that have no field are kept.

    Signals:
        changed(): a person changed a setting.
        folder_wanted(), hub_wanted(): another base model is to be looked for.
    """

    changed = Signal()
    folder_wanted = Signal()
    hub_wanted = Signal()

    def __init__(self) -> None:
        super().__init__("Settings")
        self._student: StudentConfig | None = None
        self._recipes: tuple[RecipeText, ...] = ()
        self.model = combo_box((), "Base model")
        self.recipe = combo_box((), "Recipe")
        self.folder_button = Button("Folder...", icon="folder")
        self.hub_button = Button("Hub...", icon="download")
        self.fields: dict[str, Any] = {
            "epochs": decimal_box("Epochs", 0.01, 1000.0, 3.0, decimals=2),
            "learning_rate": decimal_box("Learning rate", 1e-7, 0.9, 2e-4, decimals=7),
            "batch_size": spin_box("Batch size", 1, 4096, 8),
            "max_length": spin_box("Longest record", 16, 1_000_000, 1024, suffix=" tokens"),
            "r": spin_box("LoRA r", 1, 4096, 16),
            "alpha": decimal_box("LoRA alpha", 0.01, 16384.0, 32.0, decimals=2),
        }
        self.fields["learning_rate"].setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        self.description = Label("", "small", tone="text2", wrap=True)
        self._build()
        self.model.currentIndexChanged.connect(self.changed)
        self.recipe.currentIndexChanged.connect(self._note_recipe)
        for field in self.fields.values():
            field.valueChanged.connect(self.changed)
        self.folder_button.clicked.connect(self.folder_wanted)
        self.hub_button.clicked.connect(self.hub_wanted)

    def _build(self) -> None:
        grid = QGridLayout()
        grid.setHorizontalSpacing(SPACE.m)
        grid.setVerticalSpacing(SPACE.s)
        chooser = QHBoxLayout()
        chooser.setSpacing(SPACE.s)
        chooser.addWidget(self.model, 1)
        chooser.addWidget(self.folder_button)
        chooser.addWidget(self.hub_button)
        grid.addWidget(Label("Base model"), 0, 0)
        grid.addLayout(chooser, 0, 1, 1, 3)
        grid.addWidget(Label("Recipe"), 1, 0)
        grid.addWidget(self.recipe, 1, 1, 1, 3)
        grid.addWidget(self.description, 2, 1, 1, 3)
        names: Sequence[str] = tuple(self.fields)
        for place, key in enumerate(names):
            line, side = 3 + place // 2, 2 * (place % 2)
            field: QWidget = self.fields[key]
            grid.addWidget(Label(field.accessibleName()), line, side)
            grid.addWidget(field, line, side + 1)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)
        self.body.addLayout(grid)
        self.body.addStretch(1)

    def set_student(
        self,
        student: StudentConfig,
        recipes: Sequence[RecipeText],
        models: Sequence[tuple[str, str]],
    ) -> None:
        """Show settings; changes a person has not saved are replaced."""
        self._student, self._recipes = student, tuple(recipes)
        blockers = [QSignalBlocker(self.model), QSignalBlocker(self.recipe)]
        self.model.clear()
        for title, reference in models:
            self.model.addItem(title, reference)
        self.model.setCurrentIndex(self.model.findData(student.base_model))
        self.recipe.clear()
        for item in recipes:
            self.recipe.addItem(item.name, item.name)
        self.recipe.setCurrentIndex(self.recipe.findData(student.recipe))
        del blockers
        self._fill(_plain(student.overrides))

    def add_model(self, title: str, reference: str, revision: str = "main") -> None:
        """Offer another base model and choose it."""
        if self._student is not None:
            self._student = self._student.model_copy(update={"revision": revision})
        if self.model.findData(reference) < 0:
            self.model.addItem(title, reference)
        self.model.setCurrentIndex(self.model.findData(reference))
        self.changed.emit()

    def student(self) -> StudentConfig | None:
        """The settings with what the fields say; None before any were shown."""
        recipe = self._recipe()
        if self._student is None or recipe is None:
            return None
        overrides = {
            key: value
            for key, value in _plain(self._student.overrides).items()
            if key not in FORM_KEYS
        }
        for key, field in self.fields.items():
            value = field.value()
            if abs(float(value) - recipe.values[key]) > 1e-9:
                overrides[key] = int(value) if key in _WHOLE else round(float(value), 7)
        reference = self.model.currentData() or self._student.base_model
        is_same = reference == self._student.base_model
        return self._student.model_copy(
            update={
                "base_model": reference,
                "revision": self._student.revision if is_same or "/" in reference else "main",
                "recipe": recipe.name,
                "overrides": overrides,
            }
        )

    def set_editable(self, *, is_editable: bool) -> None:
        """A training that runs keeps its settings."""
        for item in (self.model, self.recipe, self.folder_button, self.hub_button):
            item.setEnabled(is_editable)
        is_adapter = (found := self._recipe()) is not None and found.method != "full"
        for key, field in self.fields.items():
            field.setEnabled(is_editable and (is_adapter or FORM_KEYS[key] != "lora"))

    def _recipe(self) -> RecipeText | None:
        name = self.recipe.currentData()
        return next((item for item in self._recipes if item.name == name), None)

    def _note_recipe(self) -> None:
        self._fill({})
        self.set_editable(is_editable=self.recipe.isEnabled())
        self.changed.emit()

    def _fill(self, overrides: dict[str, Any]) -> None:
        recipe = self._recipe()
        if recipe is None:
            return
        for key, field in self.fields.items():
            blocker = QSignalBlocker(field)
            value = overrides.get(key, recipe.values[key])
            field.setValue(int(value) if key in _WHOLE else float(value))
            del blocker
        self.description.setText(recipe.description)


def _plain(overrides: dict[str, Any]) -> dict[str, Any]:
    """Overrides by plain name, as `r` for `lora.r` and for `{lora: {r: 8}}`."""
    found: dict[str, Any] = {}
    for key, value in overrides.items():
        if isinstance(value, dict) and key in ("lora", "training"):
            found |= value
        else:
            found[key.rpartition(".")[2]] = value
    return found
