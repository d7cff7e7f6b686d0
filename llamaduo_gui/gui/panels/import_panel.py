"""Chooses data to import: files or a Hub dataset, its columns, and what will come of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QKeyEvent
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from llamaduo_gui.data.preview import Counts, Preview
from llamaduo_gui.gui.models.import_model import ImportModel, PreviewTable
from llamaduo_gui.gui.models.text_lines import one_line
from llamaduo_gui.gui.panels.column_boxes import ColumnBoxes
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, check_box
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.labels import Label, restyle
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.progress import ProgressRow, ProgressState
from llamaduo_gui.gui.widgets.segmented import SegmentedControl
from llamaduo_gui.gui.widgets.tables import setup_table
from llamaduo_gui.gui.widgets.wording import format_count

_HUB = "hub:"
_FILTERS = (
    "Data (*.jsonl *.ndjson *.json *.csv *.tsv *.txt *.parquet *.gz)",
    "All files (*)",
)
_SHOWN_FILES = 3
_SHOWN_PROBLEMS = 3
_TABLE_ROWS = 6
_MEGABYTE = 1_000_000


class ImportPanel(QWidget):
    """Everything about the data of a new project; reading happens in a worker process.

    Signals:
        changed(): other sources, columns or news of them.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.model = ImportModel(self)
        self.files: list[Path] = []
        self._kind = SegmentedControl([("files", "Files"), ("hub", "Hub dataset")], "Source")
        self._file_label = Label("No file chosen", tone="text2", wrap=True)
        self.choose_button = Button("Choose files...", icon="folder")
        self.hub_name = QLineEdit()
        self.hub_name.setAccessibleName("Hub dataset")
        self.hub_name.setPlaceholderText("OWNER/NAME@REVISION#SPLIT, or a dataset folder")
        self.read_button = Button("Read", icon="download")
        self._progress = ProgressRow("Reading")
        self._found = Label("", tone="text2", wrap=True)
        self.banner = MessageBanner()
        self.columns = ColumnBoxes()
        self.rows = PreviewTable(self)
        self.table = QTableView()
        self.keep = check_box("Leave broken rows out and import the rest")
        self._splits = Label("", "strong", wrap=True)
        self._notes = Label("", "small", tone="text2", wrap=True)
        self._rest = QWidget()
        self.setAcceptDrops(True)
        self._build()
        self._connect()
        self._show_kind("files")
        self._show()

    def set_files(self, files: Sequence[Path]) -> None:
        """Choose files."""
        self._kind.set_current("files")
        self._show_kind("files")
        self.files = list(files)
        names = [path.name for path in self.files]
        more = len(names) - _SHOWN_FILES
        shown = ", ".join(names[:_SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
        self._file_label.setText(shown or "No file chosen")
        self._file_label.setToolTip("\n".join(str(path) for path in self.files))
        self.model.set_sources(self.files)

    def set_hub_name(self, name: str) -> None:
        """Choose a Hub dataset."""
        self._kind.set_current("hub")
        self._show_kind("hub")
        self.hub_name.setText(name)
        self._read_hub()

    @property
    def has_source(self) -> bool:
        """Whether something is chosen."""
        return bool(self.model.sources)

    def problem(self) -> str:
        """Why the data cannot be imported as it is, or an empty text."""
        if not self.has_source:
            return "Choose the data first."
        found = self.model.preview
        text = self.model.error or (found.error if found else "")
        counts = found.counts if found else None
        if not text and counts and counts.problem_count and not self.keep.isChecked():
            text = f"{_rows_words(counts.problem_count)} broken: correct the file, or tick the box."
        return text

    def suggested_name(self) -> str:
        """A word for what is imported, for the project's folder and task."""
        source = self.model.sources[0] if self.model.sources else "data"
        name = source.removeprefix(_HUB).partition("@")[0].partition("#")[0]
        return Path(name).name.removesuffix(".gz").partition(".")[0] or "data"

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter in the name of a dataset reads it and goes no further to the dialog's button."""
        is_enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_enter and self.hub_name.hasFocus():
            event.accept()
            return
        super().keyPressEvent(event)

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
        """Choose the dropped files."""
        restyle(self._drop, active=False)
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if files := [path for path in paths if path.is_file()]:
            self.set_files(files)

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.m)
        column.addLayout(self._source_row())
        column.addWidget(self._progress)
        column.addWidget(self.banner)
        column.addWidget(self._found)
        column.addWidget(self.columns)
        self.table.setModel(self.rows)
        setup_table(self.table, "First rows", stretch_column=None, compact=True)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        for narrow in (0, 3):
            header.setSectionResizeMode(narrow, QHeaderView.ResizeMode.Interactive)
        self.table.setMinimumHeight(scaled(28) * _TABLE_ROWS)
        column.addWidget(self.table, 1)
        self._drop = QFrame()
        self._drop.setProperty("surface", "drop")
        drop_column = QVBoxLayout(self._drop)
        drop_column.addWidget(
            EmptyState(
                "data",
                "Drop files here",
                "JSON lines, JSON, CSV, TSV or Parquet, also packed with gzip: messages, prompt "
                "and response columns, Alpaca, ShareGPT, OpenAI logs. The format is found by "
                "itself.",
            )
        )
        column.addWidget(self._drop, 1)
        column.addWidget(self._rest, 1)
        column.addWidget(self.keep)
        column.addWidget(self._splits)
        column.addWidget(self._notes)

    def _source_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(SPACE.m)
        row.addWidget(self._kind)
        row.addWidget(self._file_label, 1)
        row.addWidget(self.choose_button)
        row.addWidget(self.hub_name, 1)
        row.addWidget(self.read_button)
        return row

    def _connect(self) -> None:
        self._kind.changed.connect(self._switch_kind)
        self.choose_button.clicked.connect(self._choose_files)
        self.read_button.clicked.connect(self._read_hub)
        self.hub_name.returnPressed.connect(self._read_hub)
        self._progress.stop_requested.connect(self.model.stop)
        self.model.changed.connect(self._show)
        self.model.progressed.connect(self._show_progress)
        self.keep.toggled.connect(self.changed)
        self.banner.action_clicked.connect(self._take_suggestion)
        self.columns.chosen.connect(self.model.set_mapping)

    def _switch_kind(self, kind: str) -> None:
        self._show_kind(kind)
        if kind == "files":
            self.model.set_sources(self.files)
        else:
            self._read_hub()

    def _show_kind(self, kind: str) -> None:
        is_hub = kind == "hub"
        for of_files in (self._file_label, self.choose_button):
            of_files.setVisible(not is_hub)
        for of_hub in (self.hub_name, self.read_button):
            of_hub.setVisible(is_hub)

    def _choose_files(self) -> None:
        dialog = QFileDialog(self, "Coverage data")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.setNameFilters(list(_FILTERS))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.filesSelected.connect(self._take_files)
        dialog.open()

    def _take_files(self, names: list[str]) -> None:
        self.set_files([Path(name) for name in names])

    def _read_hub(self) -> None:
        name = self.hub_name.text().strip()
        self.model.set_sources([f"{_HUB}{name.removeprefix(_HUB)}"] if name else [])

    def _take_suggestion(self) -> None:
        found = self.model.preview
        if found is not None and found.suggestion:
            self.model.set_mapping(found.suggestion)

    def _show_progress(self, done: int, total: int) -> None:
        state = ProgressState(done // _MEGABYTE, total // _MEGABYTE, "MB") if total else None
        self._progress.set_state(state or ProgressState(0, 0))

    def _show(self) -> None:
        found = self.model.preview
        self._progress.setVisible(self.model.is_reading)
        if self.model.is_reading and found is None:
            self._progress.set_state(ProgressState(0, 0))
        has_rows = found is not None and bool(found.columns)
        self._drop.setHidden(has_rows or self.model.is_reading)
        self._rest.setHidden(has_rows or not self._drop.isHidden())
        for widget in (self._found, self.columns, self.table):
            widget.setVisible(has_rows)
        if found is not None and not found.mapping:
            self.rows.set_columns(found.columns)
        else:
            self.rows.set_rows(found.rows if found else ())
        self._found.setText(_describe(found) if found else "")
        if found is not None:
            self.columns.set_preview(found, self.model.mapping)
            self._fit_columns()
        self._show_problems(found)
        self._show_counts(found.counts if found else None)
        self.changed.emit()

    def _fit_columns(self) -> None:
        metrics = self.table.fontMetrics()
        for place in (0, 3):
            widest = max(map(metrics.horizontalAdvance, self.rows.widest(place)))
            self.table.setColumnWidth(place, widest + 28)

    def _show_problems(self, found: Preview | None) -> None:
        text = self.model.error or (found.error if found else "")
        counts = found.counts if found else None
        self.keep.setVisible(bool(counts and counts.problem_count and not text))
        if found is not None and text and found.suggestion:
            samples = {column.name: one_line(column.sample) for column in found.columns}
            guess = [found.suggestion[part] for part in ("prompt", "response")]
            listed = " and ".join(f"{name} (\u201c{samples.get(name, '')}\u201d)" for name in guess)
            self.banner.show_message(
                "warn",
                "Say which columns hold the prompt and the wanted response.",
                action="Use the guess",
                detail=f"A guess: {listed}.",
                closable=False,
            )
        elif text:
            self.banner.show_message("bad", text, closable=False)
        elif counts and counts.problem_count:
            shown = [
                f"{item['file']} {item['unit']} {item['line_number']} {item['reason']}"
                for item in counts.problems[:_SHOWN_PROBLEMS]
            ]
            more = counts.problem_count - len(shown)
            detail = "; ".join(shown) + (f"; and {more:,} more." if more > 0 else ".")
            head = f"{_rows_words(counts.problem_count)} broken."
            self.banner.show_message("warn", head, detail=detail, closable=False)
        else:
            self.banner.clear()

    def _show_counts(self, counts: Counts | None) -> None:
        is_split = counts is not None and bool(counts.splits)
        self._splits.setVisible(is_split)
        self._notes.setVisible(is_split)
        if counts is None or not counts.splits:
            return
        parts = ", ".join(f"{format_count(n)} {name}" for name, n in counts.splits.items())
        self._splits.setText(f"Will be split into {parts}.")
        notes = list(counts.notes)
        if counts.copies:
            notes.insert(0, f"{_rows_words(counts.copies)} a repetition, read once.")
        if len(counts.categories) > 1:
            notes.insert(0, f"{len(counts.categories):,} categories, each with its share.")
        self._notes.setText(" ".join(notes))
        self._notes.setVisible(bool(notes))


def _rows_words(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _describe(found: Preview) -> str:
    """What the first source is, in one line."""
    source = found.sources[0]
    parts = [source.format, source.encoding, found.layout_title and f"layout: {found.layout_title}"]
    if found.counts is not None:
        parts.append(f"{format_count(found.counts.records)} records")
    text = " \u00b7 ".join(part for part in parts if part)
    return text if len(found.sources) == 1 else f"{len(found.sources)} files \u00b7 {text}"
