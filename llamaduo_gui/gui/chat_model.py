"""One model that can be loaded in a child process, and the conversation with it; no widgets."""

from __future__ import annotations

import collections
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from llamaduo_gui.core.events import Chat, Event, Log, Token
from llamaduo_gui.core.types import Message
from llamaduo_gui.gui.session import Job
from llamaduo_gui.gui.widgets.log_view import LogLine
from llamaduo_gui.worker.protocol import ASK, STOP, JobSpec
from llamaduo_gui.worker.supervisor import JobResult

_LOG_LINES = 2000


class ChatState(Enum):
    """Where a model is between file and answer."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    WRITING = "writing"


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How answers are asked for. `seed` None draws another one for every answer."""

    system: str = ""
    temperature: float = 0.8
    max_new_tokens: int = 512
    seed: int | None = 42
    top_p: float = 1.0

    def settings(self) -> dict[str, Any]:
        """The part that the chat process takes as settings."""
        values = asdict(self)
        del values["system"]
        return values


class ChatModel(QObject):
    """A model's process and its conversation.

    Attributes:
        info: ChatInfo of what was loaded last, empty before.
        context_used: tokens of the conversation when it was last answered.
        cost_usd: of all answers since the model was loaded.
        has_failed: whether the file could not be loaded, or its process died.
        turns: the conversation without its system prompt.
        log: what the process said since it was started.

    Signals:
        changed(): state, file or context use changed.
        text_came(str): a piece of the answer.
        measured(dict): WritingProgress of the answer so far.
        answered(dict): ChatReply, the answer is complete.
        failed(str): the question has no answer; it is not part of the conversation.
        ended(str): the model could not be loaded, or its process died; one sentence.
    """

    changed = Signal()
    text_came = Signal(str)
    measured = Signal(dict)
    answered = Signal(dict)
    failed = Signal(str)
    ended = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state = ChatState.UNLOADED
        self.path: Path | None = None
        self.info: dict[str, Any] = {}
        self.context_used = 0
        self.cost_usd = 0.0
        self.has_failed = False
        self.turns: list[Message] = []
        self.log: collections.deque[LogLine] = collections.deque(maxlen=_LOG_LINES)
        self._job: Job | None = None
        self._chat_id = 0
        self._attempt = 0

    @property
    def is_loaded(self) -> bool:
        """Whether it can answer or is answering."""
        return self.state in (ChatState.READY, ChatState.WRITING)

    @property
    def can_regenerate(self) -> bool:
        """Whether there is an answer to write again."""
        has_answer = bool(self.turns) and self.turns[-1].role == "assistant"
        return self.state is ChatState.READY and has_answer

    def load(
        self, path: Path, spec: JobSpec | None = None, secrets: Mapping[str, str] | None = None
    ) -> None:
        """Start the process and load a model; what was loaded before is unloaded.

        Args:
            path: what the model is known by; a GGUF file where there is no `spec`.
            spec: the chat job that loads it.
            secrets: the API keys it needs.
        """
        self._end_job()
        self.path, self.info = path, {}
        self.cost_usd = 0.0
        self.has_failed = False
        self.log.clear()
        job = Job(spec or JobSpec("chat", options={"gguf": str(path)}), secrets or {}, self)
        job.events.connect(self._take)
        job.finished.connect(self._note_finished)
        self._job = job
        job.start()
        self._set_state(ChatState.LOADING)

    def unload(self) -> None:
        """End the process, whatever it does; the conversation stays."""
        was_writing = self.state is ChatState.WRITING
        self._end_job()
        self._set_state(ChatState.UNLOADED)
        if was_writing:
            self._drop_question()
            self.failed.emit("Stopped: the model was unloaded.")

    def ask(self, text: str, options: ChatOptions) -> None:
        """Ask the next question; nothing happens while the model is not ready."""
        if self.state is not ChatState.READY:
            return
        self._attempt = 0
        self.turns.append(Message("user", text))
        self._send(options)

    def regenerate(self, options: ChatOptions) -> None:
        """Write the last answer again, with the next seed, so that it can come out differently."""
        if not self.can_regenerate:
            return
        self.turns.pop()
        self._attempt += 1
        seed = None if options.seed is None else options.seed + self._attempt
        self._send(replace(options, seed=seed))

    def stop(self) -> None:
        """End the answer being written; what is there stays."""
        if self._job is not None and self.state is ChatState.WRITING:
            self._job.send(STOP, chat_id=self._chat_id)

    def clear(self) -> None:
        """Begin a new conversation; an answer being written is stopped and forgotten."""
        self.stop()
        self._chat_id += 1
        self.turns.clear()
        self.context_used = 0
        is_writing = self.state is ChatState.WRITING
        self._set_state(ChatState.READY if is_writing else self.state)

    def forget(self) -> None:
        """Forget the file that was loaded, as before another is."""
        self.path, self.info, self.has_failed = None, {}, False

    def _send(self, options: ChatOptions) -> None:
        if self._job is None:
            return
        self._chat_id += 1
        system = [Message("system", options.system)] if options.system.strip() else []
        messages = [message.to_dict() for message in (*system, *self.turns)]
        self._set_state(ChatState.WRITING)
        self._job.send(ASK, chat_id=self._chat_id, messages=messages, settings=options.settings())

    def _take(self, batch: list[Event]) -> None:
        for event in batch:
            if isinstance(event, Log):
                now = time.strftime("%H:%M:%S")
                self.log.append(LogLine(now, event.source, event.text, event.level))
            elif isinstance(event, Token) and event.chat_id == self._chat_id:
                self.text_came.emit(event.text)
            elif isinstance(event, Chat):
                self._take_chat(event)

    def _take_chat(self, event: Chat) -> None:
        if event.kind == "loaded":
            self.info = event.data
            self._set_state(ChatState.READY)
        elif event.chat_id != self._chat_id:
            return
        elif event.kind == "writing":
            self.measured.emit(event.data)
        elif event.kind == "answered":
            self._keep_answer(event.data)
            self._set_state(ChatState.READY)
            self.answered.emit(event.data)
        else:
            self._drop_question()
            self._set_state(ChatState.READY)
            self.failed.emit(str(event.data["error"]))

    def _keep_answer(self, data: dict[str, Any]) -> None:
        self.context_used = int(data["context_used"])
        self.cost_usd += data.get("cost_usd") or 0.0
        if data["text"] or data["finish_reason"] != "stopped":
            self.turns.append(Message("assistant", data["text"]))
        else:
            self._drop_question()

    def _drop_question(self) -> None:
        """A question without an answer is not part of the conversation."""
        if self.turns and self.turns[-1].role == "user":
            self.turns.pop()

    def _note_finished(self, result: JobResult) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.deleteLater()
        was_writing = self.state is ChatState.WRITING
        self.has_failed = True
        self._set_state(ChatState.UNLOADED)
        text = _sentence(result)
        self.log.append(LogLine(time.strftime("%H:%M:%S"), "chat", text, "error"))
        if was_writing:
            self._drop_question()
            self.failed.emit("The answer broke off.")
        self.ended.emit(text)

    def _end_job(self) -> None:
        """Let go of the process at once; its own object waits for its end."""
        job, self._job = self._job, None
        if job is None:
            return
        job.events.disconnect(self._take)
        job.finished.disconnect(self._note_finished)
        job.finished.connect(job.deleteLater)
        job.cancel()

    def _set_state(self, state: ChatState) -> None:
        self.state = state
        self.changed.emit()


def _sentence(result: JobResult) -> str:
    """How the process ended; a death is told for a chat, where nothing is kept or resumed."""
    if result.status == "interrupted":
        return result.error.replace(
            "finished work is kept, resume to go on", "load the model again to go on"
        )
    return result.error or "The model's process ended."
