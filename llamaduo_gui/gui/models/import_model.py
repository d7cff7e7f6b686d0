"""An import being prepared: sources, columns and what a worker process says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtCore import Signal as QtSignal

from llamaduo_gui.core.config import SplitConfig
from llamaduo_gui.core.events import Event, Progress
from llamaduo_gui.data.preview import Preview, PreviewColumn, PreviewRow
from llamaduo_gui.gui.models.text_lines import one_line
from llamaduo_gui.gui.session import Job
from llamaduo_gui.gui.theme.theme import color
from llamaduo_gui.worker.protocol import JobSpec
from llamaduo_gui.worker.supervisor import JobResult

# Beyond this, reading everything takes long enough to show the first rows before it.
_LARGE_BYTES = 5_000_000
_Index = QModelIndex | QPersistentModelIndex


class ImportModel(QObject):
    """Reads previews in a child process; the answer of an older question is dropped.

    Signals:
        changed(): the preview, the error or whether something is being read is another.
        progressed(int, int): bytes read, and in all.
    """

    changed = QtSignal()
    progressed = QtSignal(int, int)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.sources: tuple[str, ...] = ()
        self.mapping: dict[str, str] = {}
        self.preview: Preview | None = None
        self.error = ""
        self._splits = SplitConfig()
        self._job: Job | None = None

    @property
    def is_reading(self) -> bool:
        """Whether an answer is awaited."""
        return self._job is not None

    @property
    def is_ready(self) -> bool:
        """Whether there are sources that give records."""
        found = self.preview
        return found is not None and not self.error and not found.error

    @property
    def is_counted(self) -> bool:
        """Whether every row has been read."""
        return self.preview is not None and self.preview.counts is not None

    def set_sources(self, sources: Sequence[Path | str]) -> None:
        """Look at other sources; columns chosen for the ones before are forgotten."""
        self.sources = tuple(str(source) for source in sources)
        self.mapping = {}
        self._restart()

    def set_mapping(self, mapping: Mapping[str, str]) -> None:
        """Read the same sources with other columns."""
        self.mapping = dict(mapping)
        self._restart()

    def set_splits(self, splits: SplitConfig) -> None:
        """Count with other shares from the next reading on."""
        self._splits = splits

    def options(self) -> dict[str, Any]:
        """What the worker needs to read the sources like this."""
        return {"sources": list(self.sources), "mapping": self.mapping}

    def stop(self) -> None:
        """End the reading; what is known stays."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            self.changed.emit()

    def _restart(self) -> None:
        self.stop()
        self.preview, self.error = None, ""
        if not self.sources:
            self.changed.emit()
            return
        self._start(is_whole=not self._is_large())

    def _is_large(self) -> bool:
        sizes = []
        for source in self.sources:
            try:
                sizes.append(Path(source).expanduser().stat().st_size)
            except (OSError, ValueError):
                return True
        return sum(sizes) > _LARGE_BYTES

    def _start(self, *, is_whole: bool) -> None:
        splits = self._splits.model_dump(mode="json")
        options = {**self.options(), "is_whole": is_whole, "splits": splits}
        job = Job(JobSpec("preview", options=options), {}, self)
        job.events.connect(self._take)
        job.finished.connect(lambda result, job=job: self._finish(job, result))
        self._job = job
        job.start()
        self.changed.emit()

    def _take(self, events: list[Event]) -> None:
        last = next((item for item in reversed(events) if isinstance(item, Progress)), None)
        if last is not None and self.sender() is self._job:
            self.progressed.emit(last.done, last.total)

    def _finish(self, job: Job, result: JobResult) -> None:
        job.deleteLater()
        if job is not self._job:
            return
        self._job = None
        if result.status != "succeeded":
            self.error = result.error
        else:
            self.preview = Preview.from_dict(result.result)
            if self.preview.counts is None:
                self._start(is_whole=True)
                return
        self.changed.emit()


class PreviewTable(QAbstractTableModel):
    """The first rows as they will be; or, where no layout is known, the columns to choose from."""

    ROW_TITLES = ("Row", "Prompt", "Response", "Category")
    COLUMN_TITLES = ("", "Column", "For example", "Holds")

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._titles: tuple[str, ...] = self.ROW_TITLES
        self._cells: Sequence[tuple[str, ...]] = ()
        self._broken: Sequence[bool] = ()

    def set_rows(self, rows: Sequence[PreviewRow]) -> None:
        """Show rows; a broken one says why in place of its prompt."""
        cells = [tuple(_cell(row, place) for place in range(4)) for row in rows]
        self._set(self.ROW_TITLES, cells, [bool(row.problem) for row in rows])

    def set_columns(self, columns: Sequence[PreviewColumn]) -> None:
        """Show columns with a value of each."""
        cells = [("", column.name, column.sample, column.kind) for column in columns]
        self._set(self.COLUMN_TITLES, cells, [False] * len(cells))

    def _set(
        self, titles: tuple[str, ...], cells: Sequence[tuple[str, ...]], broken: Sequence[bool]
    ) -> None:
        self.beginResetModel()
        self._titles, self._cells, self._broken = titles, cells, broken
        self.endResetModel()

    def widest(self, place: int) -> list[str]:
        """The title and every text of a column, for its width."""
        return [self._titles[place], *(cells[place][:24] for cells in self._cells)]

    def rowCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._cells)

    def columnCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._titles)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._titles[section]
        if role == Qt.ItemDataRole.TextAlignmentRole and section == 0:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        text = self._cells[index.row()][index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return one_line(text)
        if role == Qt.ItemDataRole.ToolTipRole:
            return text[:1000]
        if role == Qt.ItemDataRole.ForegroundRole and self._broken[index.row()]:
            return color("bad")
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() == 0:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None


def _cell(row: PreviewRow, column: int) -> str:
    if column == 0:
        return str(row.number)
    if row.problem:
        return f"Broken: {row.problem}" if column == 1 else ""
    if column == 1:
        turns = row.messages[:-1]
        if len(turns) == 1:
            return turns[0]["content"]
        return "  ".join(f"[{turn['role']}] {turn['content']}" for turn in turns)
    return row.messages[-1]["content"] if column == 2 else row.category
