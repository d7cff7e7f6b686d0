"""Base models of the Hub: search, download with progress, and what is on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDialog, QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.core.events import Progress
from llamaduo_gui.core.hub_models import (
    CachedModel,
    HubModel,
    cached_models,
    delete_model,
    is_offline,
    search_models,
)
from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.session import Job
from llamaduo_gui.gui.theme.fonts import scaled
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.filter_bar import SearchField
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.progress import ProgressRow, ProgressState
from llamaduo_gui.gui.widgets.text_table import TextColumn, TextTable
from llamaduo_gui.gui.widgets.wording import format_count, format_size
from llamaduo_gui.worker.model_jobs import download_spec

if TYPE_CHECKING:
    from llamaduo_gui.worker.supervisor import JobResult

_COLUMNS = (TextColumn("Model"), TextColumn("Parameters"), TextColumn("State"))


class HubModelsDialog(QDialog):
    """Search and download; closing it stops a download, which goes on where it was later.

    Signals:
        chosen(str, str): the model to use and the revision it is pinned to.
    """

    chosen = Signal(str, str)

    def __init__(self, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Models of the Hugging Face Hub")
        self.setAccessibleName("Models of the Hugging Face Hub")
        self.setModal(True)
        self.resize(scaled(640), scaled(520))
        self._background = Background(self)
        self._job: Job | None = None
        self._here: dict[str, CachedModel] = {}
        self._found: list[HubModel] = []
        self._ids: list[str] = []
        self.search = SearchField("Search the Hub, Enter to ask")
        self.search.returnPressed.connect(self.ask)
        self.banner = MessageBanner()
        self.table = TextTable("Models", _COLUMNS)
        self.table.row_selected.connect(lambda _: self._update())
        self.progress = ProgressRow("Downloading")
        self.progress.stop_requested.connect(self.stop)
        self.progress.hide()
        self.disk = Label("", "small", tone="text2", wrap=True)
        self.delete_button = Button("Delete...", icon="trash")
        self.delete_button.clicked.connect(self._ask_to_delete)
        self.download_button = Button("Download", icon="download")
        self.download_button.clicked.connect(self.download)
        self.use_button = Button("Use this model", "primary")
        self.use_button.clicked.connect(self._use)
        self.finished.connect(lambda _: self.stop())
        self._build()
        self._read_cache()

    def ask(self) -> None:
        """Search the Hub for the text of the field."""
        text = self.search.text().strip()
        if not text:
            return
        self.banner.clear()
        self.disk.setText("Asking the Hub")
        self._background.run("search", lambda: search_models(text), self._show_found, self._fail)

    def download(self) -> None:
        """Download the selected model; what is there of it is not fetched again."""
        name = self._selected()
        if not name or self._job is not None:
            return
        self.banner.clear()
        self._job = Job(download_spec(name), {}, self)
        self._job.events.connect(self._note_events)
        self._job.finished.connect(self._note_finished)
        self.progress.set_label(f"Downloading {name}")
        self.progress.set_state(ProgressState(0, 0, "MB"))
        self.progress.show()
        self._job.start()
        self._update()

    def stop(self) -> None:
        """Stop the download; what came is kept."""
        if self._job is not None:
            self._job.cancel()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE.xl, SPACE.xl, SPACE.xl, SPACE.xl)
        layout.setSpacing(SPACE.m)
        for widget in (self.search, self.banner):
            layout.addWidget(widget)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.progress)
        layout.addWidget(self.disk)
        row = QHBoxLayout()
        row.addWidget(self.delete_button)
        row.addStretch(1)
        row.addWidget(self.download_button)
        row.addWidget(self.use_button)
        layout.addLayout(row)
        if is_offline():
            self.banner.show_message(
                "info", "HF_HUB_OFFLINE is set: only models on this machine are offered."
            )
            self.search.setEnabled(False)

    def _read_cache(self) -> None:
        self._background.run("cache", cached_models, self._show_cache, self._fail)

    def _show_cache(self, models: list[CachedModel]) -> None:
        self._here = {model.id: model for model in models}
        total = sum(model.size_bytes for model in models)
        self.disk.setText(
            f"{format_count(len(models))} models on this machine take {format_size(total)}."
        )
        self._show_rows()

    def _show_found(self, models: list[HubModel]) -> None:
        self._found = models
        self.disk.setText(f"{format_count(len(models))} models found.")
        self._show_rows()

    def _show_rows(self) -> None:
        chosen = self._selected()
        rows = [
            (m.id, f"{m.parameters / 1e9:.2f} B" if m.parameters else "", self._state(m))
            for m in self._found
        ]
        names = {m.id for m in self._found}
        others = (model for model in self._here.values() if model.id not in names)
        rows.extend((model.id, "", _here_text(model)) for model in others)
        self._ids = [row[0] for row in rows]
        self.table.set_rows(rows)
        if chosen in self._ids:
            self.table.select_row(self._ids.index(chosen))
        self._update()

    def _state(self, model: HubModel) -> str:
        if model.id in self._here:
            return _here_text(self._here[model.id])
        return "licence to accept on the Hub" if model.gated else ""

    def _selected(self) -> str:
        return self.table.selected_name()

    def _update(self) -> None:
        model = self._here.get(self._selected())
        is_idle = self._job is None
        self.delete_button.setEnabled(is_idle and model is not None)
        is_wanted = bool(self._selected()) and (model is None or not model.is_complete)
        self.download_button.setEnabled(is_idle and is_wanted and not is_offline())
        self.use_button.setEnabled(is_idle and model is not None and model.is_complete)

    def _use(self) -> None:
        model = self._here.get(self._selected())
        if model is not None:
            self.chosen.emit(model.id, model.revision)
            self.accept()

    def _note_events(self, events: list[object]) -> None:
        for event in events:
            if isinstance(event, Progress):
                self.progress.set_state(ProgressState(event.done, event.total, event.units))

    def _note_finished(self, result: JobResult) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.deleteLater()
        self.progress.hide()
        if result.status == "cancelled":
            self.banner.show_message(
                "info", "Stopped. What came is kept; Download goes on where it stopped."
            )
        elif result.status != "succeeded":
            self._fail(result.error)
        self._read_cache()

    def _ask_to_delete(self) -> None:
        model = self._here.get(self._selected())
        if model is None:
            return
        dialog = ConfirmDialog(
            self,
            f"Delete {model.id}?",
            f"It frees {format_size(model.size_bytes)}. Projects that use it as their base model "
            "need it again for training and export, and then it has to be downloaded again.",
            "Delete",
            kind="danger",
        )
        dialog.accepted.connect(lambda: self._delete(model.id))
        dialog.open()

    def _delete(self, name: str) -> None:
        self._background.run(
            "delete", lambda: delete_model(name), lambda _: self._read_cache(), self._fail
        )

    def _fail(self, text: str) -> None:
        self.banner.show_message("bad", text)


def _here_text(model: CachedModel) -> str:
    size = format_size(model.size_bytes)
    return f"{size} on this machine" if model.is_complete else f"{size}, not complete"
