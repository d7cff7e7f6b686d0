"""One model on the Try page: which weights answer, what was said, and the context it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QStackedLayout, QVBoxLayout, QWidget

from llamaduo_gui.core.types import ModelKind
from llamaduo_gui.gui.chat_model import ChatModel, ChatOptions, ChatState
from llamaduo_gui.gui.dialogs.log_dialog import LogDialog
from llamaduo_gui.gui.models.try_view import ChatTarget, Example
from llamaduo_gui.gui.panels.chat_start import ChatStart
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import Button, IconButton, combo_box
from llamaduo_gui.gui.widgets.chat import Bubble, BubbleFooter, ChatView
from llamaduo_gui.gui.widgets.empty_state import EmptyState
from llamaduo_gui.gui.widgets.labels import ElidedLabel, Label, MarkerLabel, Separator
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.pill import Pill
from llamaduo_gui.gui.widgets.progress import Bar, ProgressRow
from llamaduo_gui.gui.widgets.wording import format_count, format_money, format_size

SHORT_HASH = 8
_NEARLY_FULL = 0.9
_LOADING_WIDTH = 460
_ENDINGS = {"length": "cut off at the token limit", "context": "cut off, the context is full"}


class ChatPane(QFrame):
    """A model's header, conversation and footer. Several can stand side by side.

    Signals:
        changed(): the model's state or its conversation changed.
        load_requested(): the user wants the model loaded.
        secondary_clicked(): the other button of the empty state.
        example_chosen(Example): the user took a prompt to start from.
        target_chosen(int): the user took another model from the list of this pane.
        settled(): the question has its answer, or will have none; under an alias the answer is
            hidden until `show_held`.
    """

    changed = Signal()
    load_requested = Signal()
    secondary_clicked = Signal()
    example_chosen = Signal(object)
    target_chosen = Signal(int)
    settled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("surface", "card")
        self.setAccessibleName("Model")
        self.model = ChatModel(self)
        self._target: ChatTarget | None = None
        self._options = ChatOptions()
        self._bubble: Bubble | None = None
        self.find_secrets: Callable[[str], Mapping[str, str]] = lambda _: {}
        self._alias = ""
        self._held: dict[str, Any] | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(1, 1, 1, 1)
        column.setSpacing(0)
        column.addWidget(self._build_head())
        column.addWidget(self._build_banner())
        column.addLayout(self._build_stack(), 1)
        column.addWidget(self._build_foot())
        self._connect()
        self._show_state()

    # What the page says

    @property
    def target(self) -> ChatTarget | None:
        """The file this pane stands for."""
        return self._target

    @property
    def has_conversation(self) -> bool:
        """Whether anything has been said."""
        return bool(self.chat.bubbles())

    def set_target(self, target: ChatTarget | None) -> None:
        """Stand for another file (or none): the old one is unloaded, its conversation forgotten."""
        is_other = self._target is None or target is None or self._target.path != target.path
        self._target = target
        if is_other:
            self.shutdown()
            self.model.forget()
            self._clear_banner()
            self.new_chat()
        self._show_state()

    def set_empty(self, icon: str, title: str, text: str, action: str, secondary: str) -> None:
        """What to say while nothing is loaded and nothing has been said."""
        self.empty.set_content(icon, title, text, action, secondary)

    def set_examples(self, examples: Sequence[Example]) -> None:
        """Prompts offered at the start of a conversation."""
        self.start.set_examples(examples)

    def load(self) -> None:
        """Load the file."""
        if self._target is not None:
            self._clear_banner()
            target = self._target
            secrets = self.find_secrets(target.provider) if target.provider else {}
            self.model.load(target.path, target.spec(), secrets)

    def ask(self, text: str, options: ChatOptions) -> None:
        """Put the next question."""
        if self.model.state is ChatState.READY:
            self._options = options
            self.chat.add_user(text)
            self._bubble = self.chat.start_answer(self._name())
            self._held = None
            self.model.ask(text, options)

    def regenerate(self, options: ChatOptions) -> None:
        """Write the last answer again in its place."""
        if self.model.can_regenerate:
            self._held = None
            self.chat.remove_last()
            self._bubble = self.chat.start_answer(self._name())
            self.model.regenerate(options)

    def set_choices(self, texts: Sequence[str], current: int) -> None:
        """Offer these models in the pane's head; none hides the list."""
        self.choice.clear()
        self.choice.addItems(list(texts))
        self.choice.setCurrentIndex(current)
        self._show_state()

    def set_alias(self, alias: str) -> None:
        """Hide which model this is behind another name, and its answers until they are shown.

        Empty shows the name again, with the numbers of the last answer.
        """
        self._alias = alias
        bubbles = self.chat.bubbles()
        if not alias and self._held is not None and bubbles:
            self.show_held()
            bubbles[-1].set_footer(_answer_footer(self._held))
            bubbles[-1].setAccessibleName(self._name())
        self._show_state()

    @property
    def held_answer(self) -> str | None:
        """The answer to the last question when it is complete and was asked under an alias."""
        return None if self._held is None else str(self._held["text"])

    def show_held(self) -> None:
        """Show the answer, without the numbers that would tell whose it is."""
        if self._bubble is not None and self._held is not None:
            bubble, self._bubble = self._bubble, None
            bubble.append(self._held["text"])
            bubble.finish(BubbleFooter())
            self._show_state()

    def new_chat(self) -> None:
        """Forget the conversation."""
        self._bubble, self._held = None, None
        self.chat.clear()
        self.model.clear()

    def set_regenerate_hint(self, hint: str, *, can: bool) -> None:
        """Whether writing an answer again makes sense, and what it does."""
        self.again.setToolTip(hint)
        self._may_regenerate = can
        self._show_state()

    def shutdown(self) -> None:
        """End the model's process."""
        if self.model.state is not ChatState.UNLOADED:
            self.model.unload()

    # Building

    def _build_head(self) -> QWidget:
        self._head = QWidget()
        self._marker = MarkerLabel(ModelKind.GGUF.value)
        self.title = ElidedLabel("", "heading")
        self.choice = combo_box([], "Model of this pane")
        self.choice.hide()
        self.detail = ElidedLabel("", "caption", tone="text2")
        self.pill = Pill("")
        self.load_button = Button("Load", icon="play", name="Load the model")
        self.eject = IconButton("eject", "Eject the model: end its process, free its memory")
        names = QVBoxLayout()
        names.setSpacing(2)
        names.addWidget(self.choice)
        names.addWidget(self.title)
        names.addWidget(self.detail)
        row = QHBoxLayout()
        row.setContentsMargins(14, 7, 12, 7)
        row.setSpacing(SPACE.s)
        row.addWidget(self._marker)
        row.addLayout(names, 1)
        row.addWidget(self.pill)
        row.addWidget(self.load_button)
        row.addWidget(self.eject)
        column = QVBoxLayout(self._head)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(row)
        column.addWidget(Separator())
        return self._head

    def _build_banner(self) -> QWidget:
        self.banner = MessageBanner()
        self._banner_frame = QWidget()
        frame = QVBoxLayout(self._banner_frame)
        frame.setContentsMargins(SPACE.m, SPACE.m, SPACE.m, 0)
        frame.addWidget(self.banner)
        self._banner_frame.hide()
        return self._banner_frame

    def _build_stack(self) -> QStackedLayout:
        self.empty = EmptyState("try", "")
        self.loading = ProgressRow("Loading the model")
        self.loading.setMaximumWidth(_LOADING_WIDTH)
        self._loading_page = _centred(self.loading)
        self.start = ChatStart()
        self.chat = ChatView("Conversation")
        self._stack = QStackedLayout()
        for part in (self.empty, self._loading_page, self.start, self.chat):
            self._stack.addWidget(part)
        return self._stack

    def _build_foot(self) -> QWidget:
        self._foot = QWidget()
        self._foot_text = Label("", "caption", tone="text2")
        self._meter = Bar("Context used")
        self._meter.setMaximumWidth(120)
        self.again = Button("Regenerate", "quiet", "refresh", "Write the last answer again")
        self._may_regenerate = True
        row = QHBoxLayout(self._foot)
        row.setContentsMargins(14, 2, SPACE.s, 4)
        row.setSpacing(SPACE.s)
        row.addWidget(self._foot_text)
        row.addWidget(self._meter)
        row.addStretch(1)
        row.addWidget(self.again)
        return self._foot

    def _connect(self) -> None:
        self.model.changed.connect(self._show_state)
        self.model.text_came.connect(self._append)
        self.model.measured.connect(self._measure)
        self.model.answered.connect(self._finish)
        self.model.failed.connect(self._fail)
        self.model.ended.connect(self._show_end)
        self.choice.activated.connect(self.target_chosen)
        self.empty.action_clicked.connect(self.load_requested)
        self.empty.secondary_clicked.connect(self.secondary_clicked)
        self.load_button.clicked.connect(self.load_requested)
        self.loading.stop_requested.connect(self.model.unload)
        self.eject.clicked.connect(self.model.unload)
        self.start.example_chosen.connect(self.example_chosen)
        self.banner.action_clicked.connect(self._show_log)
        self.banner.closed.connect(self._banner_frame.hide)

    # Showing

    def _name(self) -> str:
        if self._alias:
            return f"Answer, {self._alias.lower()}"
        return f"Answer of {self._target.name}" if self._target else "Answer"

    def _show_state(self) -> None:
        state = self.model.state
        target = self._target
        is_named = not self._alias
        has_choice = self.choice.count() > 0 and is_named
        self._head.setVisible(target is not None or has_choice)
        self.choice.setVisible(has_choice)
        self.title.setVisible(not has_choice)
        self.detail.setVisible(is_named)
        self._marker.setVisible(is_named)
        self._foot.setVisible(is_named and (self.model.is_loaded or self.has_conversation))
        is_idle = state is ChatState.UNLOADED
        self.load_button.setVisible(is_idle and self.has_conversation)
        self.eject.setVisible(self.model.is_loaded)
        if target is not None:
            self._marker.set_kind(target.kind.value)
            self.title.setText(self._alias or target.name)
            self.detail.setText(self._detail_text(target))
            self.detail.setAccessibleDescription(str(target.path) if is_named else "")
        if self.model.is_loaded:
            self.pill.set("ok", "Loaded")
        elif state is ChatState.LOADING:
            self.pill.set("run", "Loading", "clock")
        else:
            self.pill.set("neutral", "Not loaded", "minus")
        self._show_part()
        self._show_context()
        self.again.setVisible(self.has_conversation)
        self.again.setEnabled(self.model.can_regenerate and self._may_regenerate)
        self.changed.emit()

    def _show_part(self) -> None:
        if self.has_conversation:
            part: QWidget = self.chat
        elif self.model.state is ChatState.LOADING:
            part = self._loading_page
        else:
            part = self.start if self.model.is_loaded else self.empty
        self._stack.setCurrentWidget(part)

    def _detail_text(self, target: ChatTarget) -> str:
        if target.is_service:
            return f"about {format_money(self.model.cost_usd)} so far, paid for each answer"
        if target.kind is not ModelKind.GGUF:
            return self._trained_text(target)
        parts = ["llama.cpp"]
        if not target.is_exported and self.model.info:
            parts.append(str(self.model.info["quant"]))
        parts.append(format_size(target.size_bytes) if target.exists else "file missing")
        if self.model.info:
            parts.append(f"weights {self.model.info['sha256'][:SHORT_HASH]}")
        return " · ".join(parts)

    def _trained_text(self, target: ChatTarget) -> str:
        """Base or tuned: what runs it, in which number format, its size and the hashes."""
        info = self.model.info
        if not info:
            size = f" · {format_size(target.size_bytes)}" if target.size_bytes else ""
            return f"transformers{size}"
        weights = f"weights {info['sha256'][:SHORT_HASH]}"
        if info["base_sha256"]:
            weights += f" on base {info['base_sha256'][:SHORT_HASH]}"
        size = format_size(info["size_bytes"])
        parts = [info["note"], weights, size, f"transformers, {info['quant']}"]
        return " · ".join(part for part in parts if part)

    def _show_context(self) -> None:
        length = int(self.model.info.get("context_length", 0))
        used = self.model.context_used
        self._meter.setVisible(length > 0)
        if not length:
            self._foot_text.setText("")
            return
        is_tight = used >= _NEARLY_FULL * length
        words = f"Context: {format_count(used)} of {format_count(length)} tokens"
        self._foot_text.setText(f"{words}, nearly full" if is_tight else words)
        self._foot_text.set_tone("warn" if is_tight else "text2")
        self._meter.set_progress(used, length)
        self._meter.setAccessibleName(words)

    # What the model says

    def _append(self, text: str) -> None:
        if self._bubble is not None and not self._alias:
            self._bubble.append(text)

    def _measure(self, data: dict[str, Any]) -> None:
        if self._bubble is not None and not self._alias:
            self._bubble.set_footer(_footer(data, data["tokens"]))

    def _finish(self, data: dict[str, Any]) -> None:
        if self._bubble is None:
            return
        if self._alias:
            self._held = data
            self.settled.emit()
            return
        self._bubble.finish(_answer_footer(data))
        self._bubble = None
        self._show_state()
        self.settled.emit()

    def _fail(self, text: str) -> None:
        if self._bubble is not None:
            # The reason would tell who it is.
            self._bubble.fail("This one has no answer." if self._alias else text)
            self._bubble = None
        self.settled.emit()

    def _show_end(self, text: str) -> None:
        self.banner.show_message("bad", text, action="Show log")
        self._banner_frame.show()

    def _clear_banner(self) -> None:
        self.banner.clear()
        self._banner_frame.hide()

    def _show_log(self) -> None:
        dialog = LogDialog(self, "Log of the model", list(self.model.log))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()


def _footer(data: dict[str, Any], tokens: int, note: str = "") -> BubbleFooter:
    return BubbleFooter(
        tokens_per_s=data["tokens_per_second"],
        first_token_s=data["first_token_s"],
        tokens=tokens,
        cost_usd=data.get("cost_usd"),
        note=note,
    )


def _answer_footer(data: dict[str, Any]) -> BubbleFooter:
    reason = data["finish_reason"]
    note = "stopped" if reason == "stopped" else _ENDINGS.get(reason, "")
    return _footer(data, data["completion_tokens"], note)


def _centred(widget: QWidget) -> QWidget:
    """A page with the widget in its middle."""
    page = QWidget()
    row = QHBoxLayout()
    row.addStretch(1)
    row.addWidget(widget, 100)
    row.addStretch(1)
    column = QVBoxLayout(page)
    column.setContentsMargins(SPACE.l, SPACE.xl, SPACE.l, SPACE.xl)
    column.addStretch(1)
    column.addLayout(row)
    column.addStretch(1)
    return page
