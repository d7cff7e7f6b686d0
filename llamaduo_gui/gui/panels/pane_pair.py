"""Two models beside one another: one prompt for both, and blind votes on their answers."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from llamaduo_gui.gui.chat_model import ChatOptions, ChatState
from llamaduo_gui.gui.models.try_view import CastVote, ChatTarget
from llamaduo_gui.gui.panels.chat_pane import SHORT_HASH, ChatPane
from llamaduo_gui.gui.panels.vote_bar import VoteBar
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.wording import format_size

ALIASES = ("Left", "Right")
_BEGIN = "Names are hidden. Send a prompt to both, then say which answer is better."
_WAIT = "Both are writing; the answers are shown together, so that speed does not tell."
_OPEN = "Which answer is better?"


class PanePair(QWidget):
    """One pane, or two side by side.

    Under hidden names every prompt begins a conversation of its own, the sides are drawn by lot
    (seeded), and both answers appear together, without their numbers.

    Args:
        first: the pane that is there in either case.

    Signals:
        changed(): what can be done changed.
        voted(CastVote): the user said which answer is better.
    """

    changed = Signal()
    voted = Signal(object)

    def __init__(self, first: ChatPane) -> None:
        super().__init__()
        self.first = first
        self.second = ChatPane()
        self.second.setAccessibleName("Second model")
        self.bar = VoteBar()
        self.is_side = False
        self.is_blind = False
        self.votes = 0
        self._targets: list[ChatTarget] = []
        self._question = ("", "")
        self._is_pending = False
        self._order = [self.first, self.second]
        self._row = QHBoxLayout()
        self._row.setSpacing(SPACE.m)
        for pane in self._order:
            self._row.addWidget(pane, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE.m)
        column.addLayout(self._row, 1)
        column.addWidget(self.bar)
        for pane in self._order:
            pane.changed.connect(self.changed)
            pane.settled.connect(self._settle)
            pane.target_chosen.connect(lambda index, pane=pane: self._choose(pane, index))
        self.second.load_requested.connect(self.second.load)
        self.bar.voted.connect(self.vote)
        self._show()

    @property
    def panes(self) -> list[ChatPane]:
        """The panes in use, from left to right."""
        return list(self._order) if self.is_side else [self.first]

    @property
    def is_writing(self) -> bool:
        """Whether there is an answer to stop."""
        return any(pane.model.state is ChatState.WRITING for pane in self.panes)

    @property
    def is_ready(self) -> bool:
        """Whether a prompt can be sent to every pane in use."""
        is_ready = all(pane.model.state is ChatState.READY for pane in self.panes)
        return is_ready and not self.same_weights

    @property
    def same_weights(self) -> str:
        """The hash both panes have in common, empty if their weights differ."""
        hashes = [str(pane.model.info.get("sha256", "")) for pane in self.panes]
        is_same = len(hashes) > 1 and hashes[0] == hashes[1]
        return hashes[0][:SHORT_HASH] if is_same else ""

    def set_side(self, is_side: bool) -> None:
        """One model, or two."""
        self.is_side = is_side
        if not is_side:
            self.set_blind(False)
            self.second.shutdown()
        self._show_choices()
        self._show()

    def set_blind(self, is_blind: bool) -> None:
        """Hide the names and vote, or show them."""
        if is_blind == self.is_blind:
            return
        self.is_blind = is_blind
        self._is_pending = False
        for pane in (self.first, self.second):
            pane.set_alias("")
            pane.new_chat()
        self._place([self.first, self.second])
        self.bar.set_open(False, _BEGIN)
        self._show_aliases()
        self._show()

    def set_targets(self, targets: Sequence[ChatTarget]) -> None:
        """What the panes may hold; the second one takes another than the first."""
        self._targets = list(targets)
        chosen = self.second.target
        same = next((item for item in targets if chosen and item.path == chosen.path), None)
        if same is not None or not self.second.has_conversation:
            self.second.set_target(same or self._another())
        self._show_choices()

    def ask(self, text: str, options: ChatOptions) -> None:
        """Put a question to every pane in use."""
        if not self.is_ready:
            return
        if self.is_blind:
            self._begin_blind(text, options)
        for pane in self.panes:
            pane.ask(text, options)
        self.changed.emit()

    def stop(self) -> None:
        """End the answers being written."""
        for pane in self.panes:
            pane.model.stop()

    def new_chat(self) -> None:
        """Forget both conversations."""
        for pane in self.panes:
            pane.new_chat()
        self._is_pending = False
        if self.is_blind:
            self._show_aliases()
            self.bar.set_open(False, _BEGIN)

    def shutdown(self) -> None:
        """End the processes."""
        self.first.shutdown()
        self.second.shutdown()

    def vote(self, choice: str) -> None:
        """Take a vote on what is shown, and tell who wrote what."""
        if not self.bar.is_open:
            return
        left, right = (self._side(pane) for pane in self.panes)
        system, prompt = self._question
        names = [self._describe(pane) for pane in self.panes]
        word = {"left": "the left one", "right": "the right one"}.get(choice, "neither")
        self._reveal()
        self.votes += 1
        self.bar.set_open(False, f"You preferred {word}. Left: {names[0]}. Right: {names[1]}.")
        self.voted.emit(CastVote(system, prompt, left, right, choice))

    def show_tally(self, text: str) -> None:
        """Add how the votes stand to what the last vote revealed."""
        self.bar.set_open(False, f"{self.bar.text.text()} {text}")

    def _begin_blind(self, text: str, options: ChatOptions) -> None:
        """Empty both panes and draw the sides for this prompt."""
        self._question = (options.system, text)
        self._is_pending = True
        for pane in self._order:
            pane.new_chat()
        order = [self.first, self.second]
        # One lot a prompt: the same votes on the same prompts see the same sides again.
        if random.Random(f"{options.seed}\n{self.votes}\n{text}").random() < 0.5:
            order.reverse()
        self._place(order)
        self._show_aliases()
        self.bar.set_open(False, _WAIT)

    def _settle(self) -> None:
        """One of two is done: when both are, show the answers and ask for the vote."""
        if not self._is_pending or self.is_writing:
            return
        answers = [pane.held_answer for pane in self.panes]
        self._is_pending = False
        for pane in self.panes:
            pane.show_held()
        if any(answer is None for answer in answers):
            self._reveal()
            self.bar.set_open(False, "No vote: not both of them answered.")
            return
        self.bar.set_open(True, _OPEN)
        self.changed.emit()
        self.bar.buttons["same"].setFocus()

    def _reveal(self) -> None:
        for pane in self.panes:
            pane.set_alias("")

    def _side(self, pane: ChatPane) -> dict[str, str]:
        info = pane.model.info
        return {
            "kind": str(info["kind"]),
            "name": str(info["name"]),
            "sha256": str(info["sha256"]),
            "answer": pane.held_answer or "",
        }

    def _describe(self, pane: ChatPane) -> str:
        name = pane.target.name if pane.target else ""
        info = pane.model.info
        if pane.target is not None and pane.target.is_service:
            return name
        return f"{name}, {format_size(info['size_bytes'])}, weights {info['sha256'][:SHORT_HASH]}"

    def _choose(self, pane: ChatPane, index: int) -> None:
        pane.set_target(self._targets[index])
        self._show_choices()

    def _another(self) -> ChatTarget | None:
        taken = self.first.target.path if self.first.target else None
        return next((item for item in self._targets if item.path != taken), None)

    def _show_choices(self) -> None:
        texts = [target.choice for target in self._targets] if self.is_side else []
        paths = [target.path for target in self._targets]
        for pane in (self.first, self.second):
            path = pane.target.path if pane.target else None
            pane.set_choices(texts, paths.index(path) if path in paths else -1)

    def _show_aliases(self) -> None:
        for pane, alias in zip(self._order, ALIASES, strict=True):
            pane.set_alias(alias if self.is_blind else "")

    def _place(self, order: list[ChatPane]) -> None:
        self._order = order
        for position, pane in enumerate(order):
            self._row.removeWidget(pane)
            self._row.insertWidget(position, pane, 1)
        QWidget.setTabOrder(order[0], order[1])

    def _show(self) -> None:
        self.second.setVisible(self.is_side)
        self.bar.setVisible(self.is_side and self.is_blind)
        self.changed.emit()
