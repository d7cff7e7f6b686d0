"""The Data page: browse the records, their splits, and why synthetic ones were rejected."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, Qt, QTimer
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QStackedLayout,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.core.types import Split
from llamaduo_gui.gui.models.data_view import (
    CHIPS,
    FILTER_SETTING,
    DataView,
    read_data,
    read_detail,
    read_ids,
    reason_text,
    record_filter,
)
from llamaduo_gui.gui.models.record_model import RecordModel
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.panels.record_panel import RecordPanel
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card, Tile, TileRow
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.filter_bar import FilterBar, FilterState
from llamaduo_gui.gui.widgets.labels import Label, restyle
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.tables import setup_table
from llamaduo_gui.gui.widgets.wording import format_count

if TYPE_CHECKING:
    from llamaduo_gui.gui.models.data_view import (
        RecordDetail,
    )
    from llamaduo_gui.gui.session import ProjectSession
    from llamaduo_gui.gui.workspace import Workspace
    from llamaduo_gui.pipeline.create import Created

# Pairs arrive several times a second while a round is synthesised.
_REFRESH_MS = 1000
_SHOWN_PROBLEMS = 3
_SHOWN_REASONS = 1


class DataPage(WorkspacePage):
    """Every record of the project: a searchable table, and the selected record beside it."""

    tables = frozenset({"records"})

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Data", workspace, scrolls=False)
        self.setAcceptDrops(True)
        self.export_button = Button("Export data...", icon="export")
        self.export_button.clicked.connect(self.export_data)
        self.header.add_action(self.export_button)
        self._view = DataView()
        self._is_first = True
        self._banner = MessageBanner()
        self.body.addWidget(self._banner)
        self._build_empty()
        self._build_tiles()
        self._build_table()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(_REFRESH_MS)
        self._later.timeout.connect(self._read)

    # What the window asks of a page

    def attach(self, session: ProjectSession | None) -> None:
        """Forget the rows of another project."""
        self._later.stop()
        self._is_first = True
        self._view = DataView()
        self._banner.clear()
        self.panel.show_detail(None)
        self.model.set_source(session.project.records.by_ids if session else None)

    def refresh(self) -> None:
        """Read the records again; while pairs arrive, once a second."""
        if self.session is None:
            return
        if self._is_first:
            self._read()
        elif not self._later.isActive():
            self._later.start()

    def focus_search(self) -> None:
        """Ctrl+F goes to the search field."""
        self.filters.focus_search()

    # Building

    def _build_empty(self) -> None:
        self._drop = QFrame()
        self._drop.setProperty("surface", "drop")
        self._empty = EmptyState(
            "data",
            "Drop your prompts and wanted answers here",
            "JSON lines, JSON, CSV, Parquet or a Hub dataset makes a new project: the records "
            "are split into train, validation and test, and the splits stay as they are.",
            "New project...",
            "Try the demo",
        )
        self._empty.action_clicked.connect(lambda: self.make_project([]))
        self._empty.secondary_clicked.connect(self._start_demo)
        column = QVBoxLayout(self._drop)
        column.addWidget(self._empty)
        self._drop.hide()
        self.body.addWidget(self._drop, 1)

    def _build_tiles(self) -> None:
        self._tiles = {split: Tile(split.value.capitalize()) for split in Split}
        self._kept = Tile("Synthetic, kept")
        self._rejected = Tile("Synthetic, rejected")
        self._tile_row = TileRow([*self._tiles.values(), self._kept, self._rejected])
        self.body.addWidget(self._tile_row)
        self._notes = Label("", "small", tone="text2", wrap=True)
        self._notes.hide()
        self.body.addWidget(self._notes)

    def _build_table(self) -> None:
        self.filters = FilterBar("Search every text", CHIPS)
        self.filters.changed.connect(self._filter)
        self.model = RecordModel()
        self.model.sort_requested.connect(self._read_rows)
        self.table = QTableView()
        self.table.setModel(self.model)
        setup_table(self.table, "Records", stretch_column=None)
        self.table.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.table.horizontalHeader().setSortIndicatorClearable(True)
        self.table.setSortingEnabled(True)
        self.table.setSelectionMode(QTableView.SelectionMode.ExtendedSelection)
        self.table.selectionModel().currentRowChanged.connect(self._open_row)
        # A scroll bar that comes or goes changes the room of the columns.
        self.table.verticalScrollBar().rangeChanged.connect(self._fit_later)
        self._nothing = EmptyState(
            "search", "No record matches", "Take a filter off to see more.", "Clear filters"
        )
        self._nothing.action_clicked.connect(self.filters.clear)
        holder = QWidget()
        self._stack = QStackedLayout(holder)
        self._stack.addWidget(self.table)
        self._stack.addWidget(self._nothing)
        self._records = Card()
        self._records.body.addWidget(holder, 1)
        self.panel = RecordPanel()
        self.panel.setMinimumWidth(scaled(260))
        self.body.addWidget(self.filters)
        self._columns = QWidget()
        row = QHBoxLayout(self._columns)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE.m)
        row.addWidget(self._records, 2)
        row.addWidget(self.panel, 1)
        self.body.addWidget(self._columns, 1)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Share the table's width anew once the layout has settled."""
        super().resizeEvent(event)
        self._fit_later()

    def _fit_later(self) -> None:
        QTimer.singleShot(0, self, self._fit_columns)

    def _fit_columns(self) -> None:
        """Narrow columns by their words, the two texts share the rest.

        Where that is too little, the least telling columns go; the record beside has it all.
        """
        metrics = self.table.fontMetrics()
        category = max(["Category", *self._view.categories], key=metrics.horizontalAdvance)
        words = (category, "Validation", "Round 10", "Too close to seed")
        widths = [metrics.horizontalAdvance(text) + _CELL_SIDES for text in words]
        widths[0] = min(widths[0], scaled(110))
        width = self.table.viewport().width()
        shown = dict(zip(range(2, 6), widths, strict=True))
        for column in _GIVES_WAY:
            if width - sum(shown.values()) < scaled(200):
                del shown[column]
        room = max(scaled(120), width - sum(shown.values()))
        shown |= {0: round(0.55 * room), 1: room - round(0.55 * room)}
        for column in range(6):
            self.table.setColumnHidden(column, column not in shown)
            if column in shown:
                self.table.setColumnWidth(column, shown[column])

    # Reading and showing

    def _read(self) -> None:
        if self.session is None:
            return
        project = self.session.project
        self.background.run("view", lambda: read_data(project), self._show, self._show_error)
        if not self._is_first:
            self._read_rows()

    def _read_rows(self) -> None:
        if self.session is None:
            return
        project, state = self.session.project, self.filters.state()
        view = record_filter(state.text, state.chips)
        sort, is_descending = self.model.sort_key, self.model.is_descending
        self.background.run(
            "rows",
            lambda: read_ids(project, view, sort, is_descending=is_descending),
            self._show_rows,
            self._show_error,
        )

    def _show(self, view: DataView) -> None:
        self._view = view
        has_records = view.total > 0
        for part in (self._tile_row, self.filters, self._columns, self.export_button):
            part.setVisible(has_records)
        self._drop.setVisible(not has_records)
        self.model.set_beginning(view.beginning)
        self._show_tiles(view)
        if self._is_first:
            self._is_first = False
            self.filters.set_state(FilterState(view.filter_text, view.filter_chips))
            self._show_problems(view)
            self._read_rows()
        else:
            self.filters.set_count(self.model.rowCount(), view.total)

    def _show_tiles(self, view: DataView) -> None:
        for split, tile in self._tiles.items():
            tile.set_value(format_count(view.splits.get(split, 0)), "", _SPLIT_NOTES[split])
        self._kept.set_value(format_count(view.synthetic_kept), "", "added to the train split")
        self._rejected.set_value(format_count(view.synthetic_rejected), "", _reject_note(view))
        self._notes.setText(" ".join(view.split_notes))
        self._notes.setVisible(bool(view.split_notes))

    def _show_problems(self, view: DataView) -> None:
        if not view.problems:
            return
        count = max(len(view.problems), view.problem_count)
        lines = "1 line was" if count == 1 else f"{count:,} lines were"
        shown = [
            f"{file} line {number} {reason}".strip()
            for file, number, reason in view.problems[:_SHOWN_PROBLEMS]
        ]
        more = count - len(shown)
        detail = "; ".join(shown) + (f"; and {more:,} more." if more else ".")
        text = f"{lines} left out when the data was read."
        self._banner.show_message("warn", text, detail=detail)

    def _show_rows(self, ids: array[int]) -> None:
        opened = self.panel.detail.row.id if self.panel.detail else None
        self.model.set_ids(ids)
        self.filters.set_count(len(ids), self._view.total)
        has_none = not ids and self._view.total > 0
        self._stack.setCurrentIndex(1 if has_none else 0)
        self._fit_columns()
        if not ids:
            self.panel.show_detail(None)
        elif not self.table.currentIndex().isValid():
            row = self.model.row_of(opened) if opened is not None else None
            index = self.model.index(row or 0, 0)
            self.table.setCurrentIndex(index)
            self.table.scrollTo(index, QTableView.ScrollHint.PositionAtCenter)

    def _open_row(self, current: QModelIndex, _previous: QModelIndex) -> None:
        record_id = self.model.record_id(current.row()) if current.isValid() else None
        if record_id is None or self.session is None:
            return
        project = self.session.project
        self.background.run(
            "record", lambda: read_detail(project, record_id), self._show_record, self._show_error
        )

    def _show_record(self, detail: RecordDetail | None) -> None:
        self.panel.show_detail(detail)

    def _show_error(self, text: str) -> None:
        self._banner.show_message("bad", text)

    # Doing

    def _filter(self, state: FilterState) -> None:
        self._read_rows()
        if self.session is None:
            return
        project = self.session.project
        kept = {"text": state.text, "chips": sorted(state.chips)}
        self.background.run("keep", lambda: project.set_setting(FILTER_SETTING, kept), _ignore)

    def make_project(self, files: Sequence[Path]) -> None:
        """Ask for a new project of these coverage files."""
        # Imported here: its data and configuration libraries would slow the start-up down.
        from llamaduo_gui.gui.dialogs.new_project import NewProjectDialog

        dialog = NewProjectDialog(self, list(files), self.workspace.secrets)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.created.connect(self._open_created)
        dialog.open()

    def export_data(self) -> None:
        """Ask where the project's data goes."""
        if self.session is None:
            return
        from llamaduo_gui.gui.dialogs.export_data import ExportDataDialog

        dialog = ExportDataDialog(self, self.session.project)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _start_demo(self) -> None:
        self.workspace.start_demo()

    def _open_created(self, created: Created) -> None:
        self.workspace.open_project(Path(created.folder), then_page="data")

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files."""
        if event.mimeData().hasUrls():
            restyle(self._drop, active=True)
            event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Stop showing that files would be taken."""
        restyle(self._drop, active=False)
        super().dragLeaveEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        """Offer a new project of the dropped files: the splits of this one are frozen."""
        restyle(self._drop, active=False)
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if files := [path for path in paths if path.is_file()]:
            self.make_project(files)


_CELL_SIDES = 20
_GIVES_WAY = (4, 2)
_SPLIT_NOTES = {
    Split.TRAIN: "what the student learns from",
    Split.VALIDATION: "what decides after each round",
    Split.TEST: "scored for the report alone",
}


def _reject_note(view: DataView) -> str:
    if not view.rejects:
        return "none so far"
    shown = view.rejects[:_SHOWN_REASONS]
    words = ", ".join(f"{number:,} {reason_text(reason)}" for reason, number in shown)
    rest = sum(number for _, number in view.rejects[_SHOWN_REASONS:])
    return f"{words}, {rest:,} others" if rest else words


def _ignore(_nothing: None) -> None:
    """Keeping the filters has no result to show."""


INFO = PageInfo("data", "Data", "data", 20, DataPage)
