"""`llamaduo-gui chat`: one answer, or a conversation, with a GGUF file at the terminal.

The model runs in the same child process as the window's Try page. Answers go to standard output,
all else to standard error.
"""

from __future__ import annotations

import argparse
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llamaduo_gui.console import EXIT_FAILED, EXIT_OK, print_json, say
from llamaduo_gui.core.errors import JobCancelledError, LlamaDuoError, UserError
from llamaduo_gui.core.events import Chat, Event, Token
from llamaduo_gui.worker.protocol import ASK, STOP, UNLOAD, JobSpec
from llamaduo_gui.worker.supervisor import JobHandle, JobResult

_POLL_S = 0.05  # Ctrl+C is noticed between waits
_UNLOAD_S = 5.0
_CHAT_ID = 1


def chat(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code.

    Raises:
        UserError: the arguments or the file cannot be used.
        LlamaDuoError: the chat process failed.
    """
    spec, settings = _read_arguments(arguments)
    link = _Link(spec)
    try:
        model = link.load()
        if arguments.prompt is None:
            return _converse(link, model, settings, arguments.system)
        return _answer_once(link, model, settings, arguments)
    except KeyboardInterrupt:
        raise JobCancelledError("Stopped.") from None
    finally:
        link.close()


def _read_arguments(arguments: argparse.Namespace) -> tuple[JobSpec, dict[str, Any]]:
    if arguments.project is None and arguments.gguf is None:
        raise UserError("Name a project (chat DIR) or a model file (chat --gguf FILE).")
    if arguments.project is not None and arguments.gguf is not None:
        raise UserError("Name a project or --gguf FILE, not both.")
    if arguments.json and arguments.prompt is None:
        raise UserError("--json prints one answer; give the question with --prompt TEXT.")
    if arguments.prompt is not None and not arguments.prompt.strip():
        raise UserError("--prompt is empty; write what the model is to answer.")
    if arguments.temperature < 0 or arguments.max_tokens < 1:
        raise UserError("--temperature must be 0 or more, and --max-tokens 1 or more.")
    settings = {"temperature": arguments.temperature, "max_new_tokens": arguments.max_tokens}
    if arguments.gguf is not None:
        path = arguments.gguf.expanduser().resolve()
        return JobSpec("chat", options={"gguf": str(path)}), settings
    return JobSpec("chat", str(arguments.project.expanduser().resolve())), settings


class _Link:
    """The chat process, spoken to from the terminal's thread."""

    def __init__(self, spec: JobSpec) -> None:
        self._inbox: queue.Queue[Event | JobResult] = queue.Queue()
        self._handle = JobHandle(
            spec, {}, on_event=self._inbox.put, on_done=self._inbox.put
        ).start()

    def load(self) -> dict[str, Any]:
        """Wait until the model is loaded; returns what it is."""
        while True:
            event = self._next()
            if isinstance(event, Chat) and event.kind == "loaded":
                return event.data

    def ask(
        self,
        messages: list[dict[str, str]],
        settings: Mapping[str, Any],
        on_text: Callable[[str], None],
    ) -> dict[str, Any]:
        """Stream an answer; Ctrl+C stops it. Returns the answer with its measures.

        Raises:
            UserError: the conversation cannot be answered; another may.
            LlamaDuoError: the answer failed, or the process did.
        """
        self._handle.send(ASK, chat_id=_CHAT_ID, messages=messages, settings=dict(settings))
        with _ctrl_c() as is_pressed:
            while True:
                event = self._next(is_pressed)
                if event is None:
                    self._handle.send(STOP)
                elif isinstance(event, Token):
                    on_text(event.text)
                elif isinstance(event, Chat) and event.kind == "answered":
                    return event.data
                elif isinstance(event, Chat) and event.kind == "failed":
                    raise _error(event.data["error"], is_user_error=event.data["is_user_error"])

    def close(self) -> None:
        """End the process."""
        self._handle.send(UNLOAD)
        try:
            self._handle.wait(_UNLOAD_S)
        except TimeoutError:
            self._handle.cancel()

    def _next(self, is_pressed: threading.Event | None = None) -> Event | None:
        """The next event, or None if Ctrl+C was pressed since."""
        while True:
            if is_pressed is not None and is_pressed.is_set():
                is_pressed.clear()
                return None
            try:
                event = self._inbox.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if isinstance(event, JobResult):
                raise _error(event.error, is_user_error=event.is_user_error)
            return event


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Note Ctrl+C in place of raising KeyboardInterrupt wherever the program happens to be."""
    is_pressed = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: is_pressed.set())
    try:
        yield is_pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _error(text: str, *, is_user_error: bool) -> LlamaDuoError:
    return UserError(text) if is_user_error else LlamaDuoError(text)


def _answer_once(
    link: _Link,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> int:
    show = _ignore if arguments.json else _show
    messages = [*_system(arguments.system), {"role": "user", "content": arguments.prompt}]
    reply = link.ask(messages, settings, show)
    if arguments.json:
        print_json(_document(reply, model))
    else:
        _end_answer(reply)
    return EXIT_FAILED if reply["finish_reason"] == "stopped" else EXIT_OK


def _converse(
    link: _Link, model: Mapping[str, Any], settings: Mapping[str, Any], system: str
) -> int:
    say(
        f"{Path(model['path']).name}: {model['quant']}, {model['size_bytes'] / 1e6:,.1f} MB, "
        f"weights {model['sha256']}, {model['context_length']:,} tokens of context"
    )
    say("Ctrl+C stops an answer, Ctrl+D ends.")
    messages = _system(system)
    while (text := _read_line()) is not None:
        if not text:
            continue
        messages.append({"role": "user", "content": text})
        try:
            reply = link.ask(messages, settings, _show)
        except UserError as error:
            say(str(error))
            messages.pop()
            continue
        _end_answer(reply)
        if reply["text"] or reply["finish_reason"] != "stopped":
            messages.append({"role": "assistant", "content": reply["text"]})
        else:
            messages.pop()
    return EXIT_OK


def _read_line() -> str | None:
    """What the user types, None at the end of the input."""
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            say("")
            continue
        if not line and sys.stdin.isatty():
            say("")
        return line.strip() if line else None


def _system(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": text}] if text.strip() else []


def _show(text: str) -> None:
    """Print a piece of an answer; to a terminal without the control codes a model may write."""
    if sys.stdout.isatty():
        text = "".join(letter for letter in text if letter in "\n\t" or letter.isprintable())
    sys.stdout.write(text)
    sys.stdout.flush()


def _ignore(_text: str) -> None:
    """With --json the answer is printed as a whole."""


def _end_answer(reply: Mapping[str, Any]) -> None:
    _show("\n")
    parts = []
    if reply["tokens_per_second"] is not None:
        parts.append(f"{reply['tokens_per_second']:.0f} tokens/s")
    if reply["first_token_s"] is not None:
        parts.append(f"first token {reply['first_token_s']:.2f} s")
    parts.append(f"{reply['completion_tokens']:,} tokens")
    if reply["finish_reason"] != "stop":
        parts.append(_ENDINGS[reply["finish_reason"]])
    say(" · ".join(parts))


_ENDINGS = {
    "length": "cut off at --max-tokens",
    "context": "cut off: the context is full",
    "stopped": "stopped",
}


def _document(reply: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    measures = {name: value for name, value in reply.items() if name != "text"}
    return {
        "answer": reply["text"],
        "tokens": measures.pop("completion_tokens"),
        **measures,
        "model": dict(model),
    }
