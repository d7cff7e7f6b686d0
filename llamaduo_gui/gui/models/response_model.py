"""The table model of the responses: light rows, sorted and searched before they get here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt

from llamaduo_gui.gui.theme.fonts import mono_font, ui_font
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.gui.theme.tokens import MEDIUM, REGULAR, SEMIBOLD
from llamaduo_gui.gui.widgets.wording import format_number

if TYPE_CHECKING:
    from llamaduo_gui.gui.models.response_view import ResponseList, ResponseRow

COLUMNS = ("Id", "Prompt", "Precision", "Similarity")
LOW_SCORE = 50.0
UNSCORED = "unscored"

_Index = QModelIndex | QPersistentModelIndex


class ResponseModel(QAbstractTableModel):
    """Responses of one model; scores below 50 are red and semibold."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[ResponseRow] = []
        self._decimals = 0

    def set_list(self, found: ResponseList) -> None:
        """Show these rows."""
        self.beginResetModel()
        self._rows = found.rows
        self._decimals = found.decimals
        self.endResetModel()

    def response(self, row: int) -> ResponseRow | None:
        """The response of a row."""
        return self._rows[row] if 0 <= row < len(self._rows) else None

    def row_of(self, candidate_id: int | None) -> int | None:
        """The row of a response, or None if it is not shown."""
        rows = enumerate(self._rows)
        return next((number for number, row in rows if row.candidate_id == candidate_id), None)

    def rowCount(self, _parent: _Index | None = None) -> int:
        return len(self._rows)

    def columnCount(self, _parent: _Index | None = None) -> int:
        return len(COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(section)
        return None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self._rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(row, column)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        if role == Qt.ItemDataRole.ForegroundRole:
            return color(_ink(row, column))
        if role == Qt.ItemDataRole.FontRole:
            return _font(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"Response {row.sample + 1} to: {row.prompt}"
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{COLUMNS[column]}: {self._text(row, column)}"
        return None

    def _text(self, row: ResponseRow, column: int) -> str:
        if column == 0:
            return row.prompt_id
        if column == 1:
            return row.prompt
        score = _score(row, column)
        return UNSCORED if score is None else format_number(score, self._decimals)


def _score(row: ResponseRow, column: int) -> float | None:
    return row.precision if column == 2 else row.similarity


def _ink(row: ResponseRow, column: int) -> str:
    if column == 0:
        return "text2"
    if column == 1:
        return "text"
    score = _score(row, column)
    if score is None:
        return "warn"
    return "bad" if score < LOW_SCORE else "text"


def _font(row: ResponseRow, column: int) -> Any:
    if column == 0:
        return mono_font("caption")
    if column == 1:
        return ui_font("body", REGULAR)
    score = _score(row, column)
    if score is None:
        return ui_font("caption", MEDIUM)
    return ui_font("body", SEMIBOLD if score < LOW_SCORE else REGULAR)


def _alignment(column: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if column >= 2 else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter
