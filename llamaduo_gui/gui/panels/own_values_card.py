"""A table of limits or prices in which the user's own values are set and removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Signal

from llamaduo_gui.gui.dialogs.own_values import Fields, OwnValuesDialog
from llamaduo_gui.gui.models.services_view import ServicesView, ServiceUse
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.text_table import TextColumn, TextTable


@dataclass(frozen=True, slots=True)
class OwnValues:
    """What a card shows and changes.

    Attributes:
        title, subtitle: of the card.
        noun: what is set of a service, for titles and buttons: "limits", "price".
        columns: of the table; the first is the service.
        is_shown, row: which services, and the cells of each.
        has_own: whether the user has set something of it.
        fields: the fields to change it with; None is a service to be named.
        dialog_notes: what to know while changing it.
        note: the sentence below the table, and whether it asks for something to be done.
        store: keeps a value, or removes it (None); called off the GUI thread.
    """

    title: str
    subtitle: str
    noun: str
    columns: Sequence[TextColumn]
    is_shown: Callable[[ServiceUse], bool]
    row: Callable[[ServiceUse], tuple[str, ...]]
    has_own: Callable[[ServiceUse], bool]
    fields: Callable[[ServiceUse | None], Fields]
    dialog_notes: Callable[[ServiceUse | None], Sequence[str]]
    note: Callable[[Sequence[ServiceUse]], tuple[str, bool]]
    store: Callable[[str, Any], object]


class OwnValuesCard(Card):
    """The table with Edit, Remove and Add; Enter in the table edits as well.

    Signals:
        changed(str, object): keep this value of a service (`provider:model`); None removes it.
    """

    changed = Signal(str, object)

    def __init__(self, values: OwnValues) -> None:
        super().__init__(values.title, values.subtitle)
        self.values = values
        self._view = ServicesView()
        self.table = TextTable(values.title, values.columns, is_whole=True)
        self.note = Label("", "small", tone="text2", wrap=True)
        self.edit_button = Button("Edit...", icon="edit", name=f"Edit the {values.noun}")
        self.remove_button = Button(
            "Remove own", icon="trash", name=f"Remove your own {values.noun}"
        )
        self.add_button = Button("Add a service...", icon="plus", name=f"Add {values.noun}")
        self.edit_button.clicked.connect(self.edit)
        self.remove_button.clicked.connect(self._remove)
        self.add_button.clicked.connect(lambda: self._open_dialog(None))
        self.table.row_selected.connect(lambda _: self._update_buttons())
        self.table.row_opened.connect(lambda _: self.edit())
        for button in (self.edit_button, self.remove_button, self.add_button):
            self.add_action(button)
        self.body.addWidget(self.table)
        self.body.addWidget(self.note)
        self.table.hide()
        self.note.setText("Reading\u2026")
        self._update_buttons()

    def show_services(self, view: ServicesView) -> None:
        """Show the services that are in use or have own values."""
        self._view = view
        uses = [use for use in view.uses if self.values.is_shown(use)]
        self.table.set_rows([self.values.row(use) for use in uses])
        self.table.setVisible(bool(uses))
        text, is_urgent = self.values.note(uses)
        if not uses and view.problem:
            text, is_urgent = view.problem, True
        self.note.setText(text)
        self.note.set_tone("warn" if is_urgent else "text2")
        self._update_buttons()

    def edit(self) -> OwnValuesDialog | None:
        """Change the selected service; the dialog, or None where none is selected."""
        use = self._selected()
        return None if use is None else self._open_dialog(use)

    def _selected(self) -> ServiceUse | None:
        return self._view.find(self.table.selected_name())

    def _open_dialog(self, use: ServiceUse | None) -> OwnValuesDialog:
        noun = self.values.noun
        dialog = OwnValuesDialog(
            self,
            f"{noun.capitalize()} of {use.name}" if use else f"Set your own {noun} of a service",
            self.values.fields(use),
            name=use.name if use else "",
            notes=self.values.dialog_notes(use),
            providers=self._view.providers,
        )
        dialog.saved.connect(self.changed)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        return dialog

    def _remove(self) -> None:
        use = self._selected()
        if use is not None:
            self.changed.emit(use.name, None)

    def _update_buttons(self) -> None:
        use = self._selected()
        self.edit_button.setEnabled(use is not None)
        self.remove_button.setEnabled(use is not None and self.values.has_own(use))
        self.add_button.setEnabled(bool(self._view.providers))
