"""Tests of the chat with a GGUF: streaming, stopping, memory of earlier turns, a full context."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.core.types import Message
from llamaduo_gui.inference.base import Generation, GenerationSettings, PromptJob
from llamaduo_gui.inference.chat import ChatSession, ChatSettings, _Writer
from llamaduo_gui.inference.llama_context import DecodingStopped, Entry, LlamaContext
from llamaduo_gui.inference.llama_cpp_backend import LlamaCppBackend
from tests.gguf_files import write_test_gguf
from tests.tiny_models import make_tiny_model

GREEDY = ChatSettings(temperature=0.0, max_new_tokens=12)
LONG = ChatSettings(temperature=1.5, top_p=1.0, max_new_tokens=100_000, seed=4)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF of a tiny model with room for 512 tokens."""
    folder = tmp_path_factory.mktemp("chat")
    return write_test_gguf(make_tiny_model(folder / "model"), folder / "model.gguf", "Q8_0")


@pytest.fixture
def session(path: Path) -> Iterator[ChatSession]:
    """A fresh conversation."""
    found = ChatSession(path)
    yield found
    found.close()


def test_the_session_names_the_exact_weights(session: ChatSession, path: Path) -> None:
    info = session.info
    assert info.path == path
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert (info.quant, info.architecture) == ("Q8_0", "llama")
    assert info.size_bytes == path.stat().st_size
    assert info.context_length == 512
    assert info.name == "Test model"
    assert info.base_model == "test-base"
    assert info.parameters > 100_000


def test_pieces_are_the_answer_and_it_joins_the_conversation(session: ChatSession) -> None:
    pieces: list[str] = []
    reply = session.ask("Which queue?", GREEDY, pieces.append)
    assert "".join(pieces) == reply.text
    assert len(pieces) > 2
    assert session.messages == (Message("user", "Which queue?"), Message("assistant", reply.text))
    assert reply.completion_tokens == 12
    assert reply.finish_reason == "length"
    assert reply.context_used == reply.prompt_tokens + 12
    assert reply.first_token_s is not None
    assert 0 < reply.first_token_s <= reply.seconds
    assert reply.tokens_per_second is not None
    assert reply.tokens_per_second > 1


def test_chat_and_batch_answer_alike(session: ChatSession, path: Path) -> None:
    found: list[Generation] = []
    backend = LlamaCppBackend(path)
    job = PromptJob(0, 0, (Message("user", "Which queue?"),), 0)
    settings = GenerationSettings(0.0, 1.0, 12)
    backend.generate([job], settings, lambda _job, got: found.append(got), lambda: None)
    backend.close()
    reply = session.ask("Which queue?", GREEDY, lambda _: None)
    assert found[0].text == reply.text.strip()


def test_later_turns_run_only_what_is_new_and_answer_as_if_they_ran_all(path: Path) -> None:
    settings = ChatSettings(temperature=0.0, max_new_tokens=6)
    session = ChatSession(path, system="Be brief.")
    session.ask("How many metres are in three kilometres?", settings, lambda _: None)
    second = session.ask("And in four?", settings, lambda _: None)
    assert second.cached_tokens > 20
    turns = session.messages
    session.close()
    backend = LlamaCppBackend(path)
    found: list[Generation] = []
    job = PromptJob(0, 0, turns[:-1], 0)
    backend.generate(
        [job], GenerationSettings(0.0, 1.0, 6), lambda _job, got: found.append(got), lambda: None
    )
    backend.close()
    assert found[0].prompt_tokens == second.prompt_tokens
    assert found[0].text == second.text.strip()


def test_the_same_seed_repeats_an_answer_and_another_does_not(session: ChatSession) -> None:
    first = session.ask("Hi", ChatSettings(seed=1, max_new_tokens=16), lambda _: None)
    again = session.regenerate(ChatSettings(seed=1, max_new_tokens=16), lambda _: None)
    other = session.regenerate(ChatSettings(seed=2, max_new_tokens=16), lambda _: None)
    assert first.text == again.text != other.text
    assert session.messages == (Message("user", "Hi"), Message("assistant", other.text))


def test_there_must_be_something_to_answer_again(session: ChatSession) -> None:
    with pytest.raises(UserError, match="ask something first"):
        session.regenerate(GREEDY, lambda _: None)


def test_stopping_keeps_what_was_written(session: ChatSession) -> None:
    stop = threading.Event()
    pieces: list[str] = []

    def stop_after_five(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 5:
            stop.set()

    reply = session.ask("Tell me everything", LONG, stop_after_five, stop)
    assert reply.finish_reason == "stopped"
    assert len(pieces) in (5, 6)  # half a character may be waiting
    assert session.messages[-1] == Message("assistant", reply.text)
    after = session.ask("Go on", GREEDY, lambda _: None)
    assert after.finish_reason == "length"


def test_stopping_before_the_first_token_leaves_the_conversation_as_it_was(
    session: ChatSession,
) -> None:
    session.ask("First", GREEDY, lambda _: None)
    before = session.messages
    stop = threading.Event()
    stop.set()
    reply = session.ask("word " * 60, GREEDY, lambda _: None, stop)
    assert (reply.finish_reason, reply.text, reply.completion_tokens) == ("stopped", "", 0)
    assert reply.first_token_s is None
    assert session.messages == before
    assert session.ask("Again", GREEDY, lambda _: None).completion_tokens == 12


def test_a_decode_is_stopped_in_the_middle(path: Path) -> None:
    calls = 0

    def stop_at_the_fifth_question() -> bool:
        nonlocal calls
        calls += 1
        return calls >= 5

    with LlamaModel(path) as model:
        context = LlamaContext(model, length=512, should_stop=stop_at_the_fifth_question)
        with context, pytest.raises(DecodingStopped):
            context.decode([Entry(token, token) for token in range(100)])
    assert calls == 5


def test_a_full_context_ends_the_answer_and_says_so(session: ChatSession) -> None:
    # Random weights happen upon a stop token now and then: the first seed that does not.
    for seed in range(20):
        session.reset()
        settings = ChatSettings(temperature=0.7, max_new_tokens=100_000, seed=seed)
        reply = session.ask("Tell me everything", settings, lambda _: None)
        if reply.finish_reason != "stop":
            break
    assert reply.finish_reason == "context"
    assert reply.context_used == reply.context_length == 512
    with pytest.raises(UserError, match=r"context holds\s+512: start a new conversation"):
        session.ask("word " * 200, GREEDY, lambda _: None)
    session.reset()
    assert session.ask("Hi", GREEDY, lambda _: None).completion_tokens > 0


def test_a_conversation_can_be_kept_shorter_than_the_model_allows(path: Path) -> None:
    session = ChatSession(path, context_length=64)
    assert session.info.context_length == 64
    with pytest.raises(UserError, match="context holds"):
        session.ask("word " * 60, GREEDY, lambda _: None)
    assert session.messages == ()
    reply = session.ask("Hi", LONG, lambda _: None)
    assert reply.context_used <= 64
    session.close()


def test_the_system_prompt_can_be_changed(session: ChatSession) -> None:
    plain = session.ask("Hi", GREEDY, lambda _: None)
    session.set_system("Answer in one word.")
    assert session.messages[0] == Message("system", "Answer in one word.")
    changed = session.regenerate(GREEDY, lambda _: None)
    assert changed.prompt_tokens > plain.prompt_tokens
    session.reset()
    assert session.messages == (Message("system", "Answer in one word."),)


def test_characters_split_over_tokens_come_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "a\u00e9\u4f60\U0001f600!".encode() + b"\xf0\x9f"
    pieces: list[str] = []
    with LlamaModel(path, vocab_only=True) as model:
        monkeypatch.setattr(model, "piece", lambda token: data[token : token + 1])
        writer = _Writer(model, pieces.append)
        for position in range(len(data)):
            writer.write(position)
        text = writer.finish()
    assert pieces == ["a", "\u00e9", "\u4f60", "\U0001f600", "!", "\ufffd"]
    assert text == "a\u00e9\u4f60\U0001f600!\ufffd"
    assert writer.count == len(data)


def test_a_failure_in_llama_cpp_leaves_a_usable_session(
    session: ChatSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = LlamaContext.decode

    def fail(_context: LlamaContext, _entries: object) -> None:
        raise LlamaDuoError("llama.cpp failed to decode (-1): it gave no reason")

    monkeypatch.setattr(LlamaContext, "decode", fail)
    with pytest.raises(LlamaDuoError, match="failed to decode"):
        session.ask("Hi", GREEDY, lambda _: None)
    monkeypatch.setattr(LlamaContext, "decode", decode)
    assert session.messages == ()
    assert session.ask("Hi", GREEDY, lambda _: None).completion_tokens == 12


def test_a_file_that_is_not_a_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.gguf"
    path.write_text("not a model", encoding="utf-8")
    with pytest.raises(UserError, match=r"notes\.gguf is not a GGUF file"):
        ChatSession(path)
