"""The settings of a project as a form: teacher, judge, student, answers, rounds."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.core.config import PipelineConfig, validate_config
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.paths import resource
from llamaduo_gui.core.quants import load_quants
from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.gui.dialogs.model_list import ModelListDialog
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, check_box, combo_box, decimal_box, spin_box
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.providers.registry import all_providers


class ServiceFields(QWidget):
    """Provider, model, address and rate limit of one service LLM.

    `secrets` has the keys with which a service is asked for its models.
    """

    changed = Signal()

    def __init__(self, name: str, secrets: SecretStore) -> None:
        super().__init__()
        self._name = name
        self._secrets = secrets
        infos = all_providers().values()
        self._provider = combo_box([(i.title, i.name) for i in infos], f"{name}: provider")
        self._model = _line(f"{name}: model", "name of the model")
        self._url = _line(f"{name}: address", "http://localhost:11434/v1")
        self._rpm = spin_box(f"{name}: requests a minute", 0, 1_000_000, 0)
        self._rpm.setSpecialValueText("no limit")
        self.models_button = Button("List models...", name=f"{name}: list the models")
        self.models_button.clicked.connect(self.list_models)
        form = _form(self)
        form.addRow("Provider", self._provider)
        form.addRow("Model", _side_by_side(self._model, self.models_button))
        form.addRow("Address", self._url)
        form.addRow("Requests a minute", self._rpm)
        self._form = form
        self._extra: dict[str, Any] = {}
        self._provider.currentIndexChanged.connect(self._update)
        for field in (self._model, self._url):
            field.textChanged.connect(self.changed)
        self._update()

    def _update(self) -> None:
        info = all_providers()[self._provider.currentData()]
        self._form.setRowVisible(self._url, info.needs_base_url or bool(self._url.text()))
        self.models_button.setVisible(info.is_llm)
        if not info.is_llm and not self._model.text():
            self._model.setText("tutor")
        self.changed.emit()

    def list_models(self) -> ModelListDialog:
        """Ask the service for its models and let one be chosen."""
        info = all_providers()[self._provider.currentData()]
        dialog = ModelListDialog(self, self._secrets, info.title, can_choose=True)
        dialog.chosen.connect(self._model.setText)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        address = self._url.text().strip() if self._form.isRowVisible(self._url) else ""
        dialog.ask(info.name, address)
        return dialog

    def set_values(self, values: dict[str, Any]) -> None:
        """Show the settings of a service; what the form has no field for is kept."""
        shown = {"provider", "model", "base_url", "max_rpm"}
        self._extra = {key: value for key, value in values.items() if key not in shown}
        index = self._provider.findData(values.get("provider", "openai_compatible"))
        self._provider.setCurrentIndex(max(0, index))
        self._model.setText(values.get("model", ""))
        self._url.setText(values.get("base_url") or "")
        self._rpm.setValue(values.get("max_rpm") or 0)
        self._update()

    def values(self) -> dict[str, Any]:
        """The settings as `pipeline.yaml` has them.

        Raises:
            ConfigError: the model or its address is missing.
        """
        if not self._model.text().strip():
            raise ConfigError(f"{self._name}: name the model.")
        info = all_providers()[self._provider.currentData()]
        if info.needs_base_url and not self._url.text().strip():
            raise ConfigError(f"{self._name}: give the address, such as http://localhost:11434/v1.")
        found = {"provider": self._provider.currentData(), "model": self._model.text().strip()}
        if not self._form.isRowVisible(self._url):
            return {**self._extra, **found, "max_rpm": self._rpm.value() or None}
        return {
            **self._extra,
            **found,
            "base_url": self._url.text().strip() or None,
            "max_rpm": self._rpm.value() or None,
        }


class PipelineForm(QWidget):
    """All settings a person changes often; the rest stays as `pipeline.yaml` has it.

    `secrets` has the keys with which services are asked for their models.
    """

    changed = Signal()

    def __init__(self, secrets: SecretStore) -> None:
        super().__init__()
        self._data: dict[str, Any] = {}
        self._teacher = ServiceFields("Teacher", secrets)
        self._judge = ServiceFields("Judge", secrets)
        self._same = check_box("The teacher judges as well", checked=True)
        self._repeats = spin_box("Judgements of each answer", 1, 50, 1)
        self._base = _line("Base model", "folder, Hub id or builtin:tiny")
        recipes = sorted(path.stem for path in resource("recipes").glob("*.yaml"))
        self._recipe = combo_box([(name, name) for name in recipes], "Recipe")
        self._recipe.setEditable(True)
        line = self._recipe.lineEdit()
        if line is not None:
            line.setAccessibleName("Recipe")
        self._samples = spin_box("Samples a prompt", 1, 64, 4)
        self._tokens = spin_box("Longest answer in tokens", 1, 32768, 512)
        self._pairs = spin_box("New pairs a round", 1, 1_000_000, 2000)
        self._rounds = spin_box("Last round", 0, 100, 5)
        self._margin = decimal_box("Margin", 0.0, 50.0, 10.0, decimals=1, suffix=" %")
        self._quant = combo_box([(name, name) for name in load_quants()], "Quantisation")
        self._build()
        self._same.toggled.connect(self._update)
        for fields in (self._teacher, self._judge):
            fields.changed.connect(self.changed)
        self._base.textChanged.connect(self.changed)
        self._update()

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.s)
        column.addWidget(Label("Teacher: the service LLM to replace", "heading"))
        column.addWidget(self._teacher)
        column.addWidget(Label("Judge: scores the answers", "heading"))
        column.addWidget(self._same)
        column.addWidget(self._judge)
        student = QWidget()
        form = _form(student)
        form.addRow("Judgements of each answer", self._repeats)
        column.addWidget(student)
        column.addWidget(Label("Student: the local model", "heading"))
        local = QWidget()
        form = _form(local)
        form.addRow("Base model", self._base_row())
        form.addRow("Recipe", self._recipe)
        form.addRow("Samples a prompt", self._samples)
        form.addRow("Longest answer, tokens", self._tokens)
        form.addRow("File format", self._quant)
        column.addWidget(local)
        column.addWidget(Label("Loop", "heading"))
        loop = QWidget()
        form = _form(loop)
        form.addRow("New pairs a round", self._pairs)
        form.addRow("Last round", self._rounds)
        form.addRow("Margin to the teacher", self._margin)
        column.addWidget(loop)

    def _base_row(self) -> QWidget:
        choose = Button("Choose folder...", icon="folder")
        choose.clicked.connect(self._choose_base)
        return _side_by_side(self._base, choose)

    def _choose_base(self) -> None:
        dialog = QFileDialog(self, "Folder of the base model")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(self._base.setText)
        dialog.open()

    def _update(self) -> None:
        self._judge.setVisible(not self._same.isChecked())
        self.changed.emit()

    def set_config(self, config: PipelineConfig) -> None:
        """Show these settings."""
        data = config.model_dump(mode="json")
        self._data = data
        teacher = data.get("teacher") or {"provider": "openai_compatible"}
        judges = data.get("judges") or []
        self._teacher.set_values(teacher)
        judge = dict(judges[0]) if judges else dict(teacher)
        self._repeats.setValue(judge.pop("repeats", 1))
        self._judge.set_values(judge)
        plain = {key: value for key, value in judge.items() if key in teacher}
        self._same.setChecked(not judges or plain == teacher)
        self._base.setText(data["student"]["base_model"])
        self._recipe.setCurrentText(data["student"]["recipe"])
        self._samples.setValue(data["inference"]["samples"])
        self._tokens.setValue(data["inference"]["max_new_tokens"])
        self._pairs.setValue(data["synthesis"]["pairs_per_round"])
        self._rounds.setValue(data["decision"]["max_rounds"])
        self._margin.setValue(100 * data["decision"]["margin"])
        self._quant.setCurrentText(data["export"]["quant"])
        self._update()

    def config(self) -> PipelineConfig:
        """The settings with what the form says.

        Raises:
            ConfigError: a field is missing or wrong; one sentence.
        """
        data = {
            key: dict(value) if isinstance(value, dict) else value
            for key, value in self._data.items()
        }
        data["teacher"] = self._teacher.values()
        first = self._teacher.values() if self._same.isChecked() else self._judge.values()
        others = list(data.get("judges") or [])[1:]
        data["judges"] = [{**first, "repeats": self._repeats.value()}, *others]
        data["student"].update(
            base_model=self._base.text().strip(), recipe=self._recipe.currentText().strip()
        )
        data["inference"].update(samples=self._samples.value(), max_new_tokens=self._tokens.value())
        data["synthesis"].update(pairs_per_round=self._pairs.value())
        data["decision"].update(
            max_rounds=self._rounds.value(), margin=round(self._margin.value() / 100, 4)
        )
        data["export"].update(quant=self._quant.currentText())
        return validate_config(data, name="Settings")


def _form(parent: QWidget) -> QFormLayout:
    form = QFormLayout(parent)
    form.setContentsMargins(0, 0, 0, SPACE.xs)
    form.setHorizontalSpacing(SPACE.m)
    form.setVerticalSpacing(SPACE.s)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def _side_by_side(field: QLineEdit, button: Button) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(field, 1)
    layout.addWidget(button)
    return row


def _line(name: str, hint: str) -> QLineEdit:
    line = QLineEdit()
    line.setAccessibleName(name)
    line.setPlaceholderText(hint)
    return line
