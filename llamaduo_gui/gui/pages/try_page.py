"""The Try page: chat with an exported model, or with any GGUF file, on this computer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QKeyEvent
from PySide6.QtWidgets import QFileDialog

from llamaduo_gui.core.types import ModelKind
from llamaduo_gui.gui.chat_model import ChatOptions, ChatState
from llamaduo_gui.gui.dialogs.chat_options import ChatOptionsDialog
from llamaduo_gui.gui.models.try_view import (
    CastVote,
    ChatTarget,
    Example,
    TryView,
    keep_vote,
    opened_file,
    read_try,
)
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.panels.chat_pane import ChatPane
from llamaduo_gui.gui.panels.pane_pair import PanePair
from llamaduo_gui.gui.panels.prompt_box import PromptBox
from llamaduo_gui.gui.session import ProjectSession
from llamaduo_gui.gui.widgets.buttons import Button, check_box, combo_box
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.segmented import SegmentedControl
from llamaduo_gui.gui.widgets.wording import format_size
from llamaduo_gui.gui.workspace import Workspace

OPEN_TEXT = "Open a GGUF file..."
_SUFFIX = ".gguf"
_SAME = "Both panes hold the same weights"
_VOTE_KEYS = {
    int(Qt.Key.Key_1): "left",
    int(Qt.Key.Key_2): "same",
    int(Qt.Key.Key_3): "right",
}


class TryPage(WorkspacePage):
    """One model and the prompt below it. Nothing is loaded before the user says so."""

    tables = frozenset({"artifacts"})

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Try", workspace, scrolls=False)
        self.setAcceptDrops(True)
        self._view = TryView()
        self._opened: list[ChatTarget] = []
        self._options = ChatOptions()
        self._last_state = ChatState.UNLOADED
        self._had_session = False
        self._is_first = True
        self.choice = combo_box([], "Model to try")
        self.choice.activated.connect(self._choose)
        self.open_button = Button(OPEN_TEXT, icon="folder")
        self.open_button.clicked.connect(self._ask_for_file)
        self.new_button = Button("New chat")
        self.new_button.clicked.connect(self.new_chat)
        self.mode = SegmentedControl([("one", "One"), ("side", "Side by side")], "How many models")
        self.mode.changed.connect(self._set_mode)
        self.hide_names = check_box("Hide names")
        self.hide_names.setToolTip("Vote on answers without knowing whose they are")
        self.hide_names.toggled.connect(self._set_blind)
        self.header.add_filter(self.mode)
        self.header.add_filter(self.choice)
        self.header.add_filter(self.hide_names)
        self.header.add_action(self.open_button)
        self.header.add_action(self.new_button)
        self._banner = MessageBanner()
        self.pane = ChatPane()
        self.pair = PanePair(self.pane)
        self.prompt = PromptBox()
        self.body.addWidget(self._banner)
        self.body.addWidget(self.pair, 1)
        self.body.addWidget(self.prompt)
        self._connect()
        self._show_targets()
        self._show_options()

    # What the window asks of a page

    def attach(self, session: ProjectSession | None) -> None:
        """Another project: what belongs to the last one is ended and forgotten."""
        if self._had_session:
            self._opened.clear()
            for pane in (self.pane, self.pair.second):
                pane.set_target(None)
        self.hide_names.setChecked(False)
        self._had_session = session is not None
        self._is_first = True
        self._view = TryView()
        self._banner.clear()
        self._set_options(ChatOptions())
        self.pane.set_examples(())
        self._show_targets()

    def refresh(self) -> None:
        """Look again for exported files."""
        if self.session is not None:
            project = self.session.project
            self.background.run("view", lambda: read_try(project), self._show, self._show_error)

    def main_action(self) -> None:
        """Ctrl+Enter loads what is not loaded, or sends the prompt."""
        unloaded = [
            pane
            for pane in self.pair.panes
            if pane.model.state is ChatState.UNLOADED and pane.target and pane.target.exists
        ]
        for pane in unloaded:
            pane.load()
        if not unloaded:
            self.prompt.submit()

    def escape(self) -> None:
        """Esc stops what is under way: the answer, or loading."""
        for pane in self.pair.panes:
            if pane.model.state is ChatState.LOADING:
                pane.shutdown()
            else:
                pane.model.stop()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """1, 2 and 3 vote; a text field with the focus takes them for itself."""
        choice = _VOTE_KEYS.get(event.key())
        if choice is not None and self.pair.bar.is_open:
            self.pair.vote(choice)
        else:
            super().keyPressEvent(event)

    def shutdown(self) -> None:
        """The window closes."""
        self.pair.shutdown()

    def open_file(self, path: Path) -> None:
        """Take a GGUF file from anywhere and load it."""
        target = opened_file(path)
        self._opened = [item for item in self._opened if item.path != path]
        self._opened.insert(0, target)
        self.pane.set_target(target)
        self._show_targets()
        self.pane.load()

    def new_chat(self) -> None:
        """Begin again with an empty conversation."""
        self.pair.new_chat()
        self._show_state()
        self._focus_prompt()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take GGUF files."""
        if _dropped_file(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Load a dropped GGUF file."""
        path = _dropped_file(event)
        if path is not None:
            self.open_file(path)

    # Building

    def _connect(self) -> None:
        self.pair.changed.connect(self._show_state)
        self.pair.voted.connect(self._keep_vote)
        self.pair.second.example_chosen.connect(self._ask_example)
        self.pair.second.again.clicked.connect(lambda: self.pair.second.regenerate(self._options))
        for pane in (self.pane, self.pair.second):
            pane.find_secrets = self._find_secrets
        self.pane.load_requested.connect(self._follow_empty)
        self.pane.secondary_clicked.connect(self._ask_for_file)
        self.pane.example_chosen.connect(self._ask_example)
        self.pane.again.clicked.connect(lambda: self.pane.regenerate(self._options))
        self.pane.model.changed.connect(self._focus_when_loaded)
        self.prompt.sent.connect(lambda text: self.pair.ask(text, self._options))
        self.prompt.stop_requested.connect(self.pair.stop)
        self.prompt.options_requested.connect(self._change_options)

    # Which model

    def _targets(self) -> list[ChatTarget]:
        return [*self._opened, *self._view.targets]

    def _show(self, view: TryView) -> None:
        self._view = view
        if self._is_first:
            self._is_first = False
            self._set_options(view.options)
        for pane in (self.pane, self.pair.second):
            pane.set_examples(view.examples)
        self.pair.votes = view.votes
        self._show_targets()

    def _show_targets(self) -> None:
        """List the files; without a choice of the user's, the newest is taken."""
        targets = self._targets()
        current = self.pane.target
        known = [*targets, *self._view.others] if self.pair.is_side else targets
        same = next((item for item in known if current and item.path == current.path), None)
        if same is not None or not self.pane.has_conversation:
            self.pane.set_target(same or next(iter(targets), None))
        self.choice.clear()
        for target in targets:
            self.choice.addItem(target.choice, str(target.path))
        if self.pane.target is not None:
            self.choice.setCurrentIndex(self.choice.findData(str(self.pane.target.path)))
        self.choice.setVisible(len(targets) > 1 and not self.pair.is_side)
        self.pair.set_targets([*targets, *self._view.others])
        self._describe_empty()

    def _choose(self, index: int) -> None:
        self.pane.set_target(self._targets()[index])
        self._describe_empty()

    def _set_mode(self, mode: str) -> None:
        self.pair.set_side(mode == "side")
        if mode != "side":
            self.hide_names.setChecked(False)
        self._show_targets()
        self._show_state()

    def _set_blind(self, is_blind: bool) -> None:
        self.pair.set_blind(is_blind)
        self._show_state()

    def _keep_vote(self, vote: CastVote) -> None:
        if self.session is not None:
            project = self.session.project
            self.background.run(
                "vote", lambda: keep_vote(project, vote), self.pair.show_tally, self._show_error
            )
        self._focus_prompt()

    def _find_secrets(self, provider: str) -> dict[str, str]:
        return self.workspace.secrets.collect([provider])

    def _describe_empty(self) -> None:
        self._describe_second()
        target = self.pane.target
        if target is None and self.session is None:
            self.pane.set_empty(
                "try",
                "Try a model on this computer",
                "Take any GGUF file of an instruct model, or open a project to try what it "
                "exported. Nothing leaves this computer and nothing is downloaded.",
                OPEN_TEXT,
                "",
            )
        elif target is None:
            self.pane.set_empty(
                "export",
                "Nothing is exported yet",
                "The loop writes a GGUF file at its end. Until then any other GGUF file can "
                "be tried.",
                "Go to Migrate",
                OPEN_TEXT,
            )
        elif not target.exists:
            self.pane.set_empty(
                "warning",
                "The file is not there any more",
                f"{target.path} was moved or deleted. Put it back, or export it again.",
                "Look again",
                OPEN_TEXT,
            )
        elif self.pane.model.has_failed:
            self.pane.set_empty(
                "warning",
                f"{target.name} is not loaded",
                f"{target.path.name}, {format_size(target.size_bytes)}, could not be loaded or "
                "stopped working.",
                "Load again",
                OPEN_TEXT,
            )
        else:
            self.pane.set_empty(*_not_loaded(target))

    def _describe_second(self) -> None:
        target = self.pair.second.target
        if target is not None:
            self.pair.second.set_empty(*_not_loaded(target))
        else:
            text = "A project has a base model, a tuned one and a service to stand beside a file."
            self.pair.second.set_empty("try", "There is no second model", text, "", "")

    def _follow_empty(self) -> None:
        """The main button of what is shown while nothing is loaded."""
        target = self.pane.target
        if target is not None and target.exists:
            self.pane.load()
        elif target is not None:
            self._look_again()
        elif self.session is not None:
            self.workspace.page_requested.emit("migrate")
        else:
            self._ask_for_file()

    def _look_again(self) -> None:
        self._opened = [opened_file(item.path) for item in self._opened]
        self._show_targets()
        self.refresh()

    def _ask_for_file(self) -> None:
        dialog = QFileDialog(self, "Open a GGUF file")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setNameFilters(["GGUF models (*.gguf)", "All files (*)"])
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda name: self.open_file(Path(name)))
        dialog.open()

    # Asking

    def _ask_example(self, example: Example) -> None:
        if self.pair.is_side and not self.pair.is_ready:
            self.prompt.field.setPlainText(example.prompt)
            return
        if example.system and not self._options.system:
            self._set_options(replace(self._options, system=example.system))
        self.pair.ask(example.prompt, self._options)

    def _change_options(self) -> None:
        length = int(self.pane.model.info.get("context_length", 0))
        dialog = ChatOptionsDialog(self, self._options, max_tokens=length)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.chosen.connect(self._set_options)
        dialog.open()

    def _set_options(self, options: ChatOptions) -> None:
        self._options = options
        self._show_options()

    def _show_options(self) -> None:
        self.prompt.set_options(self._options)
        hint, can = "Write the answer again with the next seed", True
        if self._options.temperature == 0:
            hint, can = "At temperature 0 the answer would be the same", False
        elif self._options.seed is None:
            hint = "Write the answer again with another seed"
        for pane in (self.pane, self.pair.second):
            pane.set_regenerate_hint(hint, can=can)

    # Showing

    def _show_state(self) -> None:
        self._describe_empty()
        self.hide_names.setVisible(self.pair.is_side)
        self.hide_names.setEnabled(self.session is not None)
        self.new_button.setEnabled(any(pane.has_conversation for pane in self.pair.panes))
        self.prompt.set_send_text("Send to both" if self.pair.is_side else "Send")
        if self.pair.is_side:
            self._show_side_state()
            return
        self._show_same_weights()
        state = self.pane.model.state
        name = self.pane.target.name if self.pane.target else "the model"
        placeholder = {
            ChatState.UNLOADED: "Load a model, then write a prompt",
            ChatState.LOADING: f"Write a prompt; it can be sent when {name} is loaded",
        }.get(state, f"Write a prompt for {name}")
        self.prompt.set_state(
            can_send=state is ChatState.READY,
            is_writing=state is ChatState.WRITING,
            placeholder=placeholder,
        )

    def _show_side_state(self) -> None:
        self._show_same_weights()
        is_loaded = all(pane.model.is_loaded for pane in self.pair.panes)
        self.prompt.set_state(
            can_send=self.pair.is_ready,
            is_writing=self.pair.is_writing,
            placeholder="Write a prompt for both"
            if is_loaded
            else "Load both, then write a prompt",
        )

    def _show_same_weights(self) -> None:
        """Two panes of one model would make a comparison of nothing."""
        same = self.pair.same_weights
        if same:
            self._banner.show_message(
                "warn",
                f"{_SAME} ({same}): choose another model in one of them.",
                closable=False,
            )
        elif self._banner.text().startswith(_SAME):
            self._banner.clear()

    def _focus_when_loaded(self) -> None:
        before, self._last_state = self._last_state, self.pane.model.state
        if before is ChatState.LOADING and self._last_state is ChatState.READY:
            self._focus_prompt()

    def _focus_prompt(self) -> None:
        if self.isVisible():
            self.prompt.field.setFocus(Qt.FocusReason.OtherFocusReason)

    def _show_error(self, text: str) -> None:
        self._banner.show_message("bad", text)


def _not_loaded(target: ChatTarget) -> tuple[str, str, str, str, str]:
    """What an empty pane says of a model that can be loaded."""
    if target.is_service:
        text = "What you ask is sent to the service, and each answer is paid for."
        return "try", f"{target.name} is not connected", text, "Connect", ""
    if target.kind is ModelKind.GGUF:
        text = (
            f"{target.path.name}, {format_size(target.size_bytes)}. It runs in llama.cpp on "
            "this computer and takes about as much memory as the file."
        )
    else:
        text = (
            "It runs in transformers on this computer, as it was trained. Nothing is downloaded: "
            "a base model from the Hub has to be here already."
        )
    return "try", f"{target.name} is not loaded", text, "Load model", ""


def _dropped_file(event: QDropEvent) -> Path | None:
    """The GGUF file being dragged, if it is one file of that name."""
    urls = event.mimeData().urls()
    if len(urls) != 1 or not urls[0].isLocalFile():
        return None
    path = Path(urls[0].toLocalFile())
    return path if path.suffix.lower() == _SUFFIX else None


INFO = PageInfo("try", "Try", "try", 70, TryPage, needs_project=False)
