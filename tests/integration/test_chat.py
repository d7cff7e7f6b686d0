"""A real chat process with a real GGUF file: streamed, stopped, refused, and gone afterwards."""

from __future__ import annotations

import queue
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.events import Chat, Event, Token
from llamaduo_gui.worker.protocol import ASK, STOP, UNLOAD, JobSpec
from llamaduo_gui.worker.supervisor import JobHandle
from tests.chat_models import make_endless_gguf

WAIT_S = 60.0
QUESTION = [{"role": "user", "content": "Which queue does this ticket belong to?"}]
GREEDY = {"temperature": 0.0, "max_new_tokens": 24}
# Enough for seconds of writing, so that there is something to stop.
ENDLESS = {"temperature": 0.0, "max_new_tokens": 100_000}


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_endless_gguf(tmp_path_factory.mktemp("chat"))


class Chatting:
    """A chat job whose events can be waited for."""

    def __init__(self, path: Path) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.handle = JobHandle(
            JobSpec("chat", options={"gguf": str(path), "context_length": 8192}),
            {},
            on_event=self.events.put,
        ).start()

    def wait_for(self, kind: str) -> tuple[Chat, str]:
        """The next chat event of a kind, and the text streamed before it."""
        text = ""
        while True:
            event = self.events.get(timeout=WAIT_S)
            if isinstance(event, Token):
                text += event.text
            elif isinstance(event, Chat) and event.kind == kind:
                return event, text

    def wait_for_token(self) -> str:
        """The first piece of an answer."""
        while True:
            event = self.events.get(timeout=WAIT_S)
            if isinstance(event, Token):
                return event.text

    def ask(self, chat_id: int, settings: dict[str, Any], messages: Any = None) -> None:
        """Ask the usual question."""
        messages = QUESTION if messages is None else messages
        self.handle.send(ASK, chat_id=chat_id, messages=messages, settings=settings)


@pytest.fixture
def start(gguf: Path) -> Iterator[Callable[..., Chatting]]:
    started: list[Chatting] = []

    def make(path: Path = gguf) -> Chatting:
        started.append(Chatting(path))
        return started[-1]

    yield make
    for chat in started:
        chat.handle.cancel()
        chat.handle.wait(WAIT_S)


def test_the_loaded_event_says_which_weights_will_answer(
    start: Callable[..., Chatting], gguf: Path
) -> None:
    loaded, _ = start().wait_for("loaded")
    assert loaded.data["path"] == str(gguf)
    assert loaded.data["size_bytes"] == gguf.stat().st_size
    assert loaded.data["quant"] == "F16"
    assert len(loaded.data["sha256"]) == 12
    assert loaded.data["context_length"] == 8192


def test_an_answer_is_streamed_whole_with_its_measures(start: Callable[..., Chatting]) -> None:
    chat = start()
    chat.wait_for("loaded")
    chat.ask(5, GREEDY)
    answered, streamed = chat.wait_for("answered")
    assert answered.chat_id == 5
    assert streamed == answered.data["text"] != ""
    assert answered.data["finish_reason"] == "length"
    assert answered.data["completion_tokens"] == GREEDY["max_new_tokens"]
    assert 0 < answered.data["first_token_s"] <= answered.data["seconds"]
    assert answered.data["tokens_per_second"] > 0
    used = answered.data["prompt_tokens"] + answered.data["completion_tokens"]
    assert answered.data["context_used"] == used


def test_a_second_turn_finds_the_first_in_the_cache(start: Callable[..., Chatting]) -> None:
    chat = start()
    chat.wait_for("loaded")
    chat.ask(1, GREEDY)
    first, _ = chat.wait_for("answered")
    turns = [
        *QUESTION,
        {"role": "assistant", "content": first.data["text"]},
        {"role": "user", "content": "Why?"},
    ]
    chat.ask(2, GREEDY, turns)
    second, _ = chat.wait_for("answered")
    assert second.data["cached_tokens"] >= first.data["prompt_tokens"]


def test_stop_ends_an_answer_at_once_and_the_next_question_is_answered(
    start: Callable[..., Chatting],
) -> None:
    chat = start()
    chat.wait_for("loaded")
    chat.ask(1, ENDLESS)
    chat.wait_for_token()
    asked = time.monotonic()
    chat.handle.send(STOP)
    answered, _ = chat.wait_for("answered")
    # 0.1 s is meant; a busy machine gets the rest.
    assert time.monotonic() - asked < 1.0
    assert answered.data["finish_reason"] == "stopped"
    chat.ask(2, GREEDY)
    answered, _ = chat.wait_for("answered")
    assert (answered.chat_id, answered.data["finish_reason"]) == (2, "length")


def test_a_conversation_beyond_the_context_fails_and_the_model_stays(
    start: Callable[..., Chatting],
) -> None:
    chat = start()
    chat.wait_for("loaded")
    chat.ask(1, GREEDY, [{"role": "user", "content": "word " * 9000}])
    failed, _ = chat.wait_for("failed")
    assert "start a new conversation" in failed.data["error"]
    chat.ask(2, GREEDY)
    assert chat.wait_for("answered")[0].chat_id == 2


def test_unloading_while_it_writes_ends_the_process(start: Callable[..., Chatting]) -> None:
    chat = start()
    chat.wait_for("loaded")
    chat.ask(1, ENDLESS)
    chat.wait_for_token()
    chat.handle.send(UNLOAD)
    result = chat.handle.wait(WAIT_S)
    assert result.status == "succeeded"
    assert result.result["answers"] == 1


def test_a_file_that_is_no_gguf_ends_in_one_sentence(
    start: Callable[..., Chatting], tmp_path: Path
) -> None:
    bad = tmp_path / "notes.gguf"
    bad.write_text("not a model")
    result = start(bad).handle.wait(WAIT_S)
    assert (result.status, result.is_user_error) == ("failed", True)
    assert result.error.startswith("notes.gguf is not a GGUF file")


def test_a_chat_ends_when_its_parent_is_gone(gguf: Path) -> None:
    from llamaduo_gui.worker.protocol import encode_job
    from llamaduo_gui.worker.supervisor import worker_command, worker_environment

    job = encode_job(JobSpec("chat", options={"gguf": str(gguf)}), {})
    done = subprocess.run(
        worker_command(),
        input=job + "\n",
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=worker_environment(),
        check=False,
    )
    assert done.returncode == 1
    assert '"status": "cancelled"' in done.stdout
