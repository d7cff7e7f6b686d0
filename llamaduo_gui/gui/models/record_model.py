"""The table of records: row ids in memory, texts fetched a page at a time when seen."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt, Signal

from llamaduo_gui.core.types import RecordStatus
from llamaduo_gui.gui.models.data_view import (
    last_question,
    origin_text,
    status_text,
)
from llamaduo_gui.gui.models.text_lines import one_line
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.store.rows import RecordRow

if TYPE_CHECKING:
    from llamaduo_gui.store.records import SortKey

PAGE_ROWS = 100
MAX_PAGES = 80

Fetch = Callable[[Sequence[int]], list[RecordRow]]
_Index = QModelIndex | QPersistentModelIndex


class _Column(NamedTuple):
    title: str
    sort: SortKey


class _Line(NamedTuple):
    texts: tuple[str, ...]
    status: str
    is_rejected: bool


COLUMNS = (
    _Column("Prompt", "instruction"),
    _Column("Target response", "response"),
    _Column("Category", "category"),
    _Column("Split", "split"),
    _Column("From", "round"),
    _Column("Status", "status"),
)
STATUS_COLUMN = 5
_ANSWERED_ROLES = frozenset(
    {
        Qt.ItemDataRole.DisplayRole,
        Qt.ItemDataRole.ToolTipRole,
        Qt.ItemDataRole.AccessibleTextRole,
        Qt.ItemDataRole.ForegroundRole,
    }
)


class RecordModel(QAbstractTableModel):
    """Rows given by id; a page of texts is one look-up (3 ms measured among 256k records).

    Signals:
        sort_requested(): a header was clicked; `sort_key` and `is_descending` say what for.
    """

    sort_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._ids: array[int] = array("q")
        self._fetch: Fetch | None = None
        self._beginning = ""
        self._pages: OrderedDict[int, list[_Line]] = OrderedDict()
        self.sort_key: SortKey = "id"
        self.is_descending = False

    def set_source(self, fetch: Fetch | None) -> None:
        """Read rows from another project, or from none; the table is empty until `set_ids`."""
        self.beginResetModel()
        self._fetch = fetch
        self._ids = array("q")
        self._pages.clear()
        self.endResetModel()

    def set_beginning(self, beginning: str) -> None:
        """Leave this out at the start of prompts."""
        if beginning != self._beginning:
            self._beginning = beginning
            self._forget_texts()

    def set_ids(self, ids: array[int]) -> None:
        """Show these records; rows added at the end leave selection and scrolling alone."""
        old = len(self._ids)
        if old and ids[:old] == self._ids:
            if len(ids) > old:
                self.beginInsertRows(QModelIndex(), old, len(ids) - 1)
                self._ids = ids
                self._pages.pop(old // PAGE_ROWS, None)
                self.endInsertRows()
            self._forget_texts()
            return
        self.beginResetModel()
        self._ids = ids
        self._pages.clear()
        self.endResetModel()

    def record_id(self, row: int) -> int | None:
        """The id of the record in a row."""
        return self._ids[row] if 0 <= row < len(self._ids) else None

    def row_of(self, record_id: int) -> int | None:
        """The row of a record, or None if it is not shown."""
        try:
            return self._ids.index(record_id)
        except ValueError:
            return None

    def rowCount(self, _parent: _Index | None = None) -> int:
        return len(self._ids)

    def columnCount(self, _parent: _Index | None = None) -> int:
        return len(COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section].title
        return None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        # A table asks for seven roles a cell each time it paints; most have no answer.
        if role not in _ANSWERED_ROLES:
            return None
        line, column = self._line_at(index.row()), index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return line.texts[column]
        if role == Qt.ItemDataRole.ToolTipRole and column == STATUS_COLUMN:
            return line.status
        if role == Qt.ItemDataRole.AccessibleTextRole:
            said = line.status if column == STATUS_COLUMN else line.texts[column]
            return f"{COLUMNS[column].title}: {said}"
        if role == Qt.ItemDataRole.ForegroundRole:
            if column == STATUS_COLUMN and line.is_rejected:
                return color("warn")
            return color("text" if column < 2 else "text2")
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Ask for another order; the database sorts. A negative column is the order of reading."""
        self.sort_key = COLUMNS[column].sort if column >= 0 else "id"
        self.is_descending = column >= 0 and order == Qt.SortOrder.DescendingOrder
        self.sort_requested.emit()

    def _line_at(self, row: int) -> _Line:
        number, place = divmod(row, PAGE_ROWS)
        page = self._pages.get(number)
        if page is None:
            page = self._load(number)
        else:
            self._pages.move_to_end(number)
        return page[place]

    def _load(self, number: int) -> list[_Line]:
        wanted = self._ids[number * PAGE_ROWS : (number + 1) * PAGE_ROWS]
        rows = {row.id: row for row in self._fetch(wanted)} if self._fetch else {}
        page = [
            _make_line(rows[record_id], self._beginning) if record_id in rows else _MISSING
            for record_id in wanted
        ]
        self._pages[number] = page
        while len(self._pages) > MAX_PAGES:
            self._pages.popitem(last=False)
        return page

    def _forget_texts(self) -> None:
        self._pages.clear()
        if self._ids:
            last = self.index(len(self._ids) - 1, len(COLUMNS) - 1)
            self.dataChanged.emit(self.index(0, 0), last)


def _make_line(row: RecordRow, beginning: str) -> _Line:
    is_rejected = row.status is RecordStatus.REJECTED
    status = status_text(row)
    return _Line(
        (
            one_line(last_question(row.record), beginning),
            one_line(row.record.target),
            row.record.category,
            row.split.value.capitalize(),
            origin_text(row),
            status.removeprefix("Rejected: ").capitalize(),
        ),
        status,
        is_rejected,
    )


_MISSING = _Line(("", "", "", "", "", "Removed"), "Removed", is_rejected=False)
