"""Accepting and rejecting synthetic pairs by hand: asked about first where it matters, undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QWidget

from llamaduo_gui.core.types import RecordStatus
from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.models.synthesise_view import AcceptCheck, check_accept

if TYPE_CHECKING:
    from llamaduo_gui.store.project import Project

_MOST_UNDONE = 100


@dataclass(frozen=True, slots=True)
class _Decision:
    ids: tuple[int, ...]
    before: RecordStatus
    after: RecordStatus


class PairDecisions(QObject):
    """Writes decisions off the GUI thread and remembers how to take them back.

    Signals:
        done(str): pairs have another status now; what was done, in words.
        failed(str): it could not be done; one sentence.
    """

    done = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._window = parent
        self._background = Background(self)
        self._project: Project | None = None
        self._past: list[_Decision] = []

    @property
    def is_busy(self) -> bool:
        """Whether a decision is being checked or written."""
        return self._background.is_busy

    @property
    def can_undo(self) -> bool:
        """Whether there is a decision to take back."""
        return bool(self._past)

    def set_project(self, project: Project | None) -> None:
        """Work in another project; decisions in the one before cannot be taken back any more."""
        self._project = project
        self._past.clear()

    def decide(self, ids: Sequence[int], status: RecordStatus) -> None:
        """Accept or reject pairs; asks first where an accepted one is contaminated."""
        project = self._project
        if project is None or not ids or self.is_busy:
            return
        if status is RecordStatus.REJECTED:
            self._write(_Decision(tuple(ids), RecordStatus.KEPT, status))
            return
        self._background.run(
            "check", lambda: check_accept(project, ids), self._accept, self.failed.emit
        )

    def undo(self) -> None:
        """Take the last decision back."""
        if self._past and not self.is_busy:
            last = self._past.pop()
            self._write(_Decision(last.ids, last.after, last.before), is_undo=True)

    def _accept(self, check: AcceptCheck) -> None:
        decision = _Decision(check.ids, RecordStatus.REJECTED, RecordStatus.KEPT)
        if not check.contaminated:
            self._write(decision)
            return
        title, text, action = check.question
        dialog = ConfirmDialog(
            self._window, title, text, action, kind="danger", details=[check.contaminated[0][2]]
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(lambda: self._write(decision, check))
        dialog.open()

    def _write(
        self, decision: _Decision, check: AcceptCheck | None = None, *, is_undo: bool = False
    ) -> None:
        project = self._project
        if project is None:
            return

        def write() -> tuple[int, ...]:
            rows = project.records.by_ids(decision.ids)
            changed = tuple(row.id for row in rows if row.status is decision.before)
            for record_id, against, detail in check.contaminated if check else ():
                project.records.note_contaminated(record_id, against, detail)
            project.records.set_status(changed, decision.after)
            return changed

        def note(changed: tuple[int, ...]) -> None:
            if not changed:
                return
            if not is_undo:
                self._past.append(_Decision(changed, decision.before, decision.after))
                del self._past[:-_MOST_UNDONE]
            self.done.emit(_words(len(changed), decision.after, is_undo=is_undo))

        self._background.run("write", write, note, self.failed.emit)


def _words(count: int, status: RecordStatus, *, is_undo: bool) -> str:
    pairs = "1 pair" if count == 1 else f"{count:,} pairs"
    if is_undo:
        state = "kept" if status is RecordStatus.KEPT else "rejected"
        return f"Undone: {pairs} {state} again."
    return f"{'Accepted' if status is RecordStatus.KEPT else 'Rejected'} {pairs}."
