"""The Try page: chat with an exported model, or with any GGUF file, on this computer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QFileDialog

from llamaduo_gui.gui.chat_model import ChatOptions, ChatState
from llamaduo_gui.gui.dialogs.chat_options import ChatOptionsDialog
from llamaduo_gui.gui.models.try_view import ChatTarget, Example, TryView, opened_file, read_try
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.panels.chat_pane import ChatPane
from llamaduo_gui.gui.panels.prompt_box import PromptBox
from llamaduo_gui.gui.session import ProjectSession
from llamaduo_gui.gui.widgets.buttons import Button, combo_box
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.wording import format_size
from llamaduo_gui.gui.workspace import Workspace

OPEN_TEXT = "Open a GGUF file..."
_SUFFIX = ".gguf"


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
        self.header.add_filter(self.choice)
        self.header.add_action(self.open_button)
        self.header.add_action(self.new_button)
        self._banner = MessageBanner()
        self.pane = ChatPane()
        self.prompt = PromptBox()
        self.body.addWidget(self._banner)
        self.body.addWidget(self.pane, 1)
        self.body.addWidget(self.prompt)
        self._connect()
        self._show_targets()
        self._show_options()

    # What the window asks of a page

    def attach(self, session: ProjectSession | None) -> None:
        """Another project: what belongs to the last one is ended and forgotten."""
        if self._had_session:
            self._opened.clear()
            self.pane.set_target(None)
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
        """Ctrl+Enter loads the model, or sends the prompt."""
        target = self.pane.target
        if self.pane.model.state is ChatState.UNLOADED and target is not None and target.exists:
            self.pane.load()
        else:
            self.prompt.submit()

    def escape(self) -> None:
        """Esc stops what is under way: the answer, or loading."""
        if self.pane.model.state is ChatState.LOADING:
            self.pane.shutdown()
        else:
            self.pane.model.stop()

    def shutdown(self) -> None:
        """The window closes."""
        self.pane.shutdown()

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
        self.pane.new_chat()
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
        self.pane.changed.connect(self._show_state)
        self.pane.load_requested.connect(self._follow_empty)
        self.pane.secondary_clicked.connect(self._ask_for_file)
        self.pane.example_chosen.connect(self._ask_example)
        self.pane.again.clicked.connect(lambda: self.pane.regenerate(self._options))
        self.pane.model.changed.connect(self._focus_when_loaded)
        self.prompt.sent.connect(lambda text: self.pane.ask(text, self._options))
        self.prompt.stop_requested.connect(self.pane.model.stop)
        self.prompt.options_requested.connect(self._change_options)

    # Which model

    def _targets(self) -> list[ChatTarget]:
        return [*self._opened, *self._view.targets]

    def _show(self, view: TryView) -> None:
        self._view = view
        if self._is_first:
            self._is_first = False
            self._set_options(view.options)
        self.pane.set_examples(view.examples)
        self._show_targets()

    def _show_targets(self) -> None:
        """List the files; without a choice of the user's, the newest is taken."""
        targets = self._targets()
        current = self.pane.target
        same = next((item for item in targets if current and item.path == current.path), None)
        if same is not None or not self.pane.has_conversation:
            self.pane.set_target(same or next(iter(targets), None))
        self.choice.clear()
        for target in targets:
            self.choice.addItem(target.choice, str(target.path))
        if self.pane.target is not None:
            self.choice.setCurrentIndex(self.choice.findData(str(self.pane.target.path)))
        self.choice.setVisible(len(targets) > 1)
        self._describe_empty()

    def _choose(self, index: int) -> None:
        self.pane.set_target(self._targets()[index])
        self._describe_empty()

    def _describe_empty(self) -> None:
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
            self.pane.set_empty(
                "try",
                f"{target.name} is not loaded",
                f"{target.path.name}, {format_size(target.size_bytes)}. It runs in llama.cpp on "
                "this computer and takes about as much memory as the file.",
                "Load model",
                "",
            )

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
        if example.system and not self._options.system:
            self._set_options(replace(self._options, system=example.system))
        self.pane.ask(example.prompt, self._options)

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
        if self._options.temperature == 0:
            self.pane.set_regenerate_hint(
                "At temperature 0 the answer would be the same", can=False
            )
        elif self._options.seed is None:
            self.pane.set_regenerate_hint("Write the answer again with another seed", can=True)
        else:
            self.pane.set_regenerate_hint("Write the answer again with the next seed", can=True)

    # Showing

    def _show_state(self) -> None:
        self._describe_empty()
        state = self.pane.model.state
        self.new_button.setEnabled(self.pane.has_conversation)
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

    def _focus_when_loaded(self) -> None:
        before, self._last_state = self._last_state, self.pane.model.state
        if before is ChatState.LOADING and self._last_state is ChatState.READY:
            self._focus_prompt()

    def _focus_prompt(self) -> None:
        if self.isVisible():
            self.prompt.field.setFocus(Qt.FocusReason.OtherFocusReason)

    def _show_error(self, text: str) -> None:
        self._banner.show_message("bad", text)


def _dropped_file(event: QDropEvent) -> Path | None:
    """The GGUF file being dragged, if it is one file of that name."""
    urls = event.mimeData().urls()
    if len(urls) != 1 or not urls[0].isLocalFile():
        return None
    path = Path(urls[0].toLocalFile())
    return path if path.suffix.lower() == _SUFFIX else None


INFO = PageInfo("try", "Try", "try", 70, TryPage, needs_project=False)
