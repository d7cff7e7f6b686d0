"""Which column plays which part: one combo box a part."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QWidget

from llamaduo_gui.data.preview import Preview
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import combo_box
from llamaduo_gui.gui.widgets.labels import Label

_PARTS = (
    ("prompt", "Prompt"),
    ("response", "Response"),
    ("system", "System"),
    ("category", "Category"),
)


class ColumnBoxes(QWidget):
    """Shows the columns that were found and lets the user name others.

    Signals:
        chosen(dict[str, str]): the user named columns, by part; prompt and response together.
    """

    chosen = Signal(dict)

    def __init__(self) -> None:
        super().__init__()
        self.boxes = {part: combo_box([], f"Column of the {word.lower()}") for part, word in _PARTS}
        self._found: Preview | None = None
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(SPACE.m)
        grid.setVerticalSpacing(SPACE.xs)
        for place, (part, word) in enumerate(_PARTS):
            box = self.boxes[part]
            label = Label(word, "small", tone="text2")
            label.setBuddy(box)
            grid.addWidget(label, 0, place)
            grid.addWidget(box, 1, place)
            grid.setColumnStretch(place, 1)
            box.activated.connect(self._choose)

    def set_preview(self, found: Preview, mapping: Mapping[str, str]) -> None:
        """Show what was found; `mapping` has the columns the user named."""
        self._found = found
        for part, box in self.boxes.items():
            box.clear()
            used = found.mapping.get(part)
            is_own = part in mapping
            automatic = f"{used} (found)" if used and not is_own else "not chosen"
            box.addItem(automatic if not is_own else "find by itself", None)
            for column in found.columns:
                box.addItem(column.name, column.name)
                sample = f"{column.kind}: {column.sample}" if column.sample else column.kind
                box.setItemData(box.count() - 1, sample, Qt.ItemDataRole.ToolTipRole)
            index = box.findData(mapping.get(part)) if is_own else 0
            box.setCurrentIndex(max(0, index))

    def _choose(self) -> None:
        named = {part: box.currentData() for part, box in self.boxes.items()}
        mapping = {part: str(name) for part, name in named.items() if name}
        for part, other in (("prompt", "response"), ("response", "prompt")):
            if part in mapping and other not in mapping:
                # One column alone says nothing: the other is taken from what was found.
                guess = self._guess(other)
                if guess is None or guess == mapping[part]:
                    return
                mapping[other] = guess
        self.chosen.emit(mapping)

    def _guess(self, part: str) -> str | None:
        found = self._found
        return found.mapping.get(part) or found.suggestion.get(part) if found else None
