"""A field for an API key: masked, with its source, Show, Test, Save and Remove."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, IconButton
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label
from llamaduo_gui.gui.widgets.pill import Pill, PillKind


class KeyField(QWidget):
    """Takes a key for one provider; what is typed leaves only through the signals.

    The widget holds no stored key: it says where one was found (`set_source`), so that an
    empty field can mean "keep the one there is".
    """

    save_requested = Signal(str)
    test_requested = Signal(str)
    delete_requested = Signal()

    def __init__(self, label: str, hint: str = "") -> None:
        super().__init__()
        self._label = Label(label, "strong")
        self._source = ElidedLabel("", "small", tone="text2")
        self._state = Pill("")
        self._state.hide()
        self._field = QLineEdit()
        self._field.setAccessibleName(f"Key for {label}")
        self._field.setPlaceholderText(hint)
        self._field.setInputMethodHints(
            Qt.InputMethodHint.ImhSensitiveData | Qt.InputMethodHint.ImhNoPredictiveText
        )
        self._field.setClearButtonEnabled(False)
        self._show = IconButton("eye", f"Show the key for {label}")
        self._show.setCheckable(True)
        self._test = Button("Test connection", name=f"Test the key for {label}")
        self._save = Button("Save", name=f"Save the key for {label}")
        self._delete = IconButton("trash", f"Remove the stored key for {label}")
        self._provider = label
        self._is_set = False
        self._needs_key = True
        # What can be done with a key only.
        self._askers: list[QPushButton] = [self._test]
        self._lay_out()
        self._show.toggled.connect(self._set_shown)
        self._field.textChanged.connect(self._update_buttons)
        self._field.returnPressed.connect(self._on_save)
        self._save.clicked.connect(self._on_save)
        self._test.clicked.connect(lambda: self.test_requested.emit(self._field.text().strip()))
        self._delete.clicked.connect(self.delete_requested)
        self._set_shown(False)
        self.set_source("Not set", is_set=False)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(SPACE.s)
        head.addWidget(self._label)
        head.addWidget(self._source, 1)
        head.addWidget(self._state)
        self._row = row = QHBoxLayout()
        row.setSpacing(SPACE.s)
        row.addWidget(self._field, 1)
        for button in (self._show, self._test, self._save, self._delete):
            row.addWidget(button)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.xs)
        column.addLayout(head)
        column.addLayout(row)

    def set_source(self, text: str, *, is_set: bool, can_delete: bool = False) -> None:
        """Say where the key in use comes from: keyring, an environment variable, this session."""
        self._source.setText(text)
        self._is_set = is_set
        self._delete.setVisible(can_delete)
        self._update_buttons()

    def set_test_state(self, kind: PillKind, text: str) -> None:
        """Show the outcome of a test, such as run/"Testing…", ok/"Works"; empty text hides it."""
        self._state.set(kind, text)
        self._state.setVisible(bool(text))
        self._test.setEnabled(kind != "run" and self._can_ask())

    def state_text(self) -> str:
        """The outcome of a test as shown, or an empty text."""
        return "" if self._state.isHidden() else self._state.text()

    def set_can_save(self, can_save: bool, tooltip: str = "") -> None:
        """Offer Save or not, for where no key can be kept."""
        self._save.setVisible(can_save)
        self._save.setToolTip(tooltip)

    def set_needs_key(self, needs_key: bool) -> None:
        """Whether a service can be asked only with a key; otherwise Test is always offered."""
        self._needs_key = needs_key
        self._update_buttons()

    def add_asker(self, button: QPushButton) -> None:
        """Put a button after Test that, like it, needs a key."""
        self._askers.append(button)
        self._row.insertWidget(self._row.indexOf(self._test) + 1, button)
        QWidget.setTabOrder(self._test, button)
        self._update_buttons()

    def test_button(self) -> QPushButton:
        """The button that tries the service out."""
        return self._test

    def delete_button(self) -> QWidget:
        """The button that removes the stored key; hidden where there is none to remove."""
        return self._delete

    def clear(self) -> None:
        """Forget what was typed and mask the field again."""
        self._field.clear()
        self._show.setChecked(False)

    def source_text(self) -> str:
        """Where the key in use comes from, as shown."""
        return self._source.text()

    def field(self) -> QLineEdit:
        """The field itself, for focus and tab order."""
        return self._field

    def _can_ask(self) -> bool:
        return not self._needs_key or self._is_set or bool(self._field.text().strip())

    def _update_buttons(self) -> None:
        self._save.setEnabled(bool(self._field.text().strip()))
        for button in self._askers:
            button.setEnabled(self._can_ask())
        self._show.setEnabled(bool(self._field.text()))

    def _on_save(self) -> None:
        key = self._field.text().strip()
        if key:
            self.save_requested.emit(key)

    def _set_shown(self, is_shown: bool) -> None:
        mode = QLineEdit.EchoMode.Normal if is_shown else QLineEdit.EchoMode.Password
        self._field.setEchoMode(mode)
        verb = "Hide" if is_shown else "Show"
        self._show.set_icon(
            "eye-off" if is_shown else "eye", f"{verb} the key for {self._provider}"
        )
