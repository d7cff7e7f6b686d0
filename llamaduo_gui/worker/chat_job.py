"""The chat job: loads a model in a child process and answers what its parent asks.

The option `kind` says which: `gguf` (the default; the file of the option `gguf`, else the
project's newest export), or `base`, `tuned` (of the option `round`) or `service` of the project.

Commands on standard input: `ask` (chat_id, messages, settings), `stop` (chat_id, or all), `unload`.
Events: `loaded` with the fields of ChatInfo; then for each question tokens, now and then `writing`
with those of WritingProgress, and at its end `answered` with those of ChatReply, or `failed` with
`error` and `is_user_error`. The conversation is the parent's: every `ask` brings all of it.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from llamaduo_gui.core.base_model import resolve_base_model
from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.events import Chat, Token
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.llama_library import listening
from llamaduo_gui.core.types import Message, ModelKind
from llamaduo_gui.inference.chat import ChatInfo, ChatReply, ChatSession, ChatSettings, OnText
from llamaduo_gui.inference.writing import WritingProgress
from llamaduo_gui.pipeline.backends import find_gguf, latest_student
from llamaduo_gui.store.project import Project
from llamaduo_gui.worker.protocol import ASK, CANCEL, STOP, UNLOAD, JobSpec

_BATCH_S = 0.03
_WRITING_S = 0.2
_ROLES = ("system", "user", "assistant")


class Commands(Protocol):
    """Whatever hands over the commands of the parent (`worker.child.CommandReader`)."""

    on_command: Callable[[str, dict[str, Any]], None] | None


class Session(Protocol):
    """A model that is loaded, or a service."""

    @property
    def info(self) -> ChatInfo:
        """Which weights are answering."""
        ...

    @property
    def progress(self) -> WritingProgress:
        """How far the answer being written is."""
        ...

    def answer(
        self,
        conversation: Sequence[Message],
        settings: ChatSettings,
        on_text: OnText,
        stop: threading.Event | None = None,
    ) -> ChatReply:
        """Answer a conversation; see `inference.chat.ChatSession.answer`."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


@dataclass(frozen=True, slots=True)
class _Question:
    chat_id: int
    values: Mapping[str, Any]
    stop: threading.Event = field(default_factory=threading.Event)


def run_chat(spec: JobSpec, context: JobContext, commands: Commands) -> dict[str, Any]:
    """Load the model that the options name, and answer.

    Returns:
        `answers` and `tokens` written, when the parent asked to `unload`.

    Raises:
        UserError: there is no file, or it cannot be used.
        JobCancelledError: the parent cancelled, or is gone.
    """
    inbox = _Inbox()
    commands.on_command = inbox.receive
    context.check_cancelled()
    with ExitStack() as stack:
        opened = opener(spec, context, stack)
        return _run(opened, context, inbox)


def _run(opened: Callable[[], Session], context: JobContext, inbox: _Inbox) -> dict[str, Any]:
    session = _load(opened, context, inbox)
    if session is None:
        return {"answers": 0, "tokens": 0}
    try:
        context.emit(Chat("loaded", data=describe(session.info)))
        return _serve(session, context, inbox)
    finally:
        session.close()


def find_file(spec: JobSpec) -> Path:
    """The GGUF file to chat with.

    Raises:
        UserError: the project has none yet.
    """
    if named := spec.options.get("gguf"):
        return Path(str(named)).expanduser()
    if not spec.project:
        raise UserError("Name a GGUF file, or a project that has exported one.")
    with Project.open(Path(spec.project)) as project:
        found = find_gguf(project)
        if found is None:
            raise UserError(
                f"{project.name} has no GGUF file yet; run the loop to its end or export one."
            )
        return project.artifacts.absolute(found)


def describe(info: ChatInfo) -> dict[str, Any]:
    """What is told about the model, JSON-able: the fields of ChatInfo, the path as text."""
    return {**asdict(info), "path": str(info.path)}


def opener(spec: JobSpec, context: JobContext, stack: ExitStack) -> Callable[[], Session]:
    """What loads the model that the options name; `stack` keeps what it needs until the end.

    Raises:
        UserError: there is no such model yet.
    """
    kind = str(spec.options.get("kind", ModelKind.GGUF.value))
    if kind == ModelKind.GGUF.value:
        path = find_file(spec)
        context.log("chat", f"Loading {path}")
        length = spec.options.get("context_length")
        return lambda: ChatSession(path, context_length=None if length is None else int(length))
    if not spec.project:
        raise UserError("Only a project has a base model, a tuned one and a service.")
    project = stack.enter_context(Project.open(Path(spec.project)))
    if kind == ModelKind.SERVICE.value:
        return _service_opener(project, context)
    if kind not in (ModelKind.BASE.value, ModelKind.TUNED.value):
        raise UserError(f"There is no kind of model named {kind!r}.")
    return _trained_opener(project, spec, ModelKind(kind), context)


def _service_opener(project: Project, context: JobContext) -> Callable[[], Session]:
    from llamaduo_gui.inference.service_chat import ServiceChat

    config = project.config
    service = config.teacher
    if service is None:
        raise UserError("The project has no service LLM; name one as the teacher.")
    limit = config.budget.usd
    budget = None if limit is None else Budget(limit, project.costs.spent_usd)
    return lambda: ServiceChat(service, context.secrets, ledger=project.replies, budget=budget)


def _trained_opener(
    project: Project, spec: JobSpec, kind: ModelKind, context: JobContext
) -> Callable[[], Session]:
    # Trying a model never downloads one. Read when huggingface_hub is imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    student = project.config.student
    number = spec.options.get("round")
    row = latest_student(project, None if number is None else int(number))
    if kind is ModelKind.TUNED and row is None:
        raise UserError("There is no trained student yet; run the loop or fine-tune first.")
    folder = project.artifacts.absolute(row) if row and kind is ModelKind.TUNED else None
    is_adapter = row is not None and row.kind == "adapter"

    def load() -> Session:
        from llamaduo_gui.inference.transformers_chat import TransformersChat

        if folder is not None and not is_adapter:
            return TransformersChat(folder, None, name=folder.name, kind=kind)
        base = _find_base(student.base_model, student.revision)
        return TransformersChat(base, folder, name=student.base_model, kind=kind)

    context.log("chat", f"Loading {student.base_model}" + (f" with {folder}" if folder else ""))
    return load


def _find_base(reference: str, revision: str) -> Path:
    try:
        return resolve_base_model(reference, revision)
    except UserError as error:
        if "HF_HUB_OFFLINE" not in str(error):
            raise
        raise UserError(
            f"The base model {reference} is not on this computer; fine-tuning downloads it, "
            "trying it does not."
        ) from error


class _Inbox:
    """Takes commands on the reader's thread; stops act there, at once."""

    def __init__(self) -> None:
        self._questions: queue.Queue[_Question | None] = queue.Queue()
        self._open: dict[int, _Question] = {}
        self._lock = threading.Lock()
        self.has_ended = threading.Event()

    def receive(self, name: str, values: Mapping[str, Any]) -> None:
        """Handle one command."""
        if name == ASK:
            question = _Question(int(values.get("chat_id", 0)), dict(values))
            with self._lock:
                self._open[question.chat_id] = question
            self._questions.put(question)
        elif name == STOP:
            self._stop(values.get("chat_id"))
        elif name in (UNLOAD, CANCEL):
            self._stop(None)
            self.has_ended.set()
            self._questions.put(None)

    def next(self) -> _Question | None:
        """Wait for a question; None when it is time to end."""
        return None if self.has_ended.is_set() else self._questions.get()

    def settle(self, question: _Question) -> None:
        """Forget a question that has its answer."""
        with self._lock:
            if self._open.get(question.chat_id) is question:
                del self._open[question.chat_id]

    def _stop(self, chat_id: int | None) -> None:
        with self._lock:
            for question in self._open.values():
                if chat_id is None or question.chat_id == chat_id:
                    question.stop.set()


def _load(opened: Callable[[], Session], context: JobContext, inbox: _Inbox) -> Session | None:
    """Load on a thread of its own: a load cannot be interrupted, but it can be left behind.

    None if the parent asked to unload meanwhile.
    """
    outcome: queue.Queue[Session | BaseException] = queue.Queue()

    def load() -> None:
        try:
            with listening(lambda line: context.log("llama.cpp", line, level="debug")):
                session = opened()
                # Reads the whole file for its hash: belongs to loading, not to the first answer.
                _ = session.info
        except BaseException as error:  # noqa: BLE001 - raised again below, on the job's thread
            outcome.put(error)
        else:
            outcome.put(session)

    threading.Thread(target=load, name="chat-load", daemon=True).start()
    while True:
        try:
            loaded = outcome.get(timeout=0.05)
        except queue.Empty:
            context.check_cancelled()
            if inbox.has_ended.is_set():
                return None
            continue
        if isinstance(loaded, BaseException):
            raise loaded
        return loaded


def _serve(session: Session, context: JobContext, inbox: _Inbox) -> dict[str, Any]:
    answers = tokens = 0
    while (question := inbox.next()) is not None:
        try:
            reply = _answer(session, question, context)
        except LlamaDuoError as error:
            data = {"error": str(error), "is_user_error": isinstance(error, UserError)}
            context.emit(Chat("failed", question.chat_id, data))
        else:
            answers += 1
            tokens += reply.completion_tokens
            context.emit(Chat("answered", question.chat_id, asdict(reply)))
        finally:
            inbox.settle(question)
    context.check_cancelled()
    return {"answers": answers, "tokens": tokens}


def _answer(session: Session, question: _Question, context: JobContext) -> ChatReply:
    batch = _TokenBatch(session, question.chat_id, context)
    try:
        return session.answer(
            read_messages(question.values.get("messages")),
            read_settings(question.values.get("settings")),
            batch.add,
            question.stop,
        )
    finally:
        batch.flush()


class _TokenBatch:
    """Sends pieces of text every 30 ms and their count five times a second, not one by one."""

    def __init__(self, session: Session, chat_id: int, context: JobContext) -> None:
        self._session = session
        self._chat_id = chat_id
        self._context = context
        self._parts: list[str] = []
        self._sent_at = self._counted_at = 0.0

    def add(self, text: str) -> None:
        """Take a piece; the first is sent at once."""
        self._parts.append(text)
        now = time.monotonic()
        if now - self._sent_at >= _BATCH_S:
            self._sent_at = now
            self.flush()
        if now - self._counted_at >= _WRITING_S:
            self._counted_at = now
            data = asdict(self._session.progress)
            self._context.emit(Chat("writing", self._chat_id, data))

    def flush(self) -> None:
        """Send what is gathered."""
        if self._parts:
            self._context.emit(Token("".join(self._parts), self._chat_id))
            self._parts.clear()


def read_messages(data: object) -> list[Message]:
    """The conversation of an `ask`.

    Raises:
        UserError: it is not a list of turns with role and content.
    """
    turns = data if isinstance(data, list) else []
    try:
        found = [Message(item["role"], str(item["content"])) for item in turns]
    except (KeyError, TypeError):
        found = []
    if not found or any(message.role not in _ROLES for message in found):
        raise UserError("A conversation is a list of turns, each with a role and content.")
    return found


def read_settings(data: object) -> ChatSettings:
    """The sampling settings of an `ask`; those not given keep their default.

    Raises:
        UserError: a name is unknown or a value is out of range.
    """
    given: dict[str, Any] = dict(data) if isinstance(data, Mapping) else {}
    try:
        settings = ChatSettings(**given)
        is_fit = settings.temperature >= 0 and settings.max_new_tokens >= 1
        is_fit = is_fit and 0 < settings.top_p <= 1 and settings.top_k >= 0
    except TypeError as error:
        known = ", ".join(asdict(ChatSettings()))
        raise UserError(f"The chat settings are the numbers {known}.") from error
    if not is_fit:
        raise UserError(
            "Temperature must be 0 or more, the token limit 1 or more, and top-p above 0 up to 1."
        )
    return settings
