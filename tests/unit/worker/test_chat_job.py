"""What the chat job accepts, which file it takes, and how it hands tokens on."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.events import Chat, Event, Token
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, Stage
from llamaduo_gui.inference.chat import WritingProgress
from llamaduo_gui.store.project import Project
from llamaduo_gui.worker import chat_job
from llamaduo_gui.worker.chat_job import find_file, read_messages, read_settings
from llamaduo_gui.worker.protocol import ASK, STOP, UNLOAD, JobSpec


def test_a_conversation_keeps_roles_and_text() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi ☃"}]
    assert read_messages(turns) == [Message("system", "Be brief."), Message("user", "Hi ☃")]


@pytest.mark.parametrize(
    "data", [None, [], "hello", [{"role": "user"}], [{"role": "robot", "content": "x"}], [7]]
)
def test_what_is_no_conversation_is_refused(data: object) -> None:
    with pytest.raises(UserError, match="list of turns"):
        read_messages(data)


def test_settings_that_are_not_given_keep_their_default() -> None:
    assert read_settings(None).max_new_tokens == 512
    assert read_settings({"temperature": 0, "seed": 7}).seed == 7


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"warmth": 1}, "numbers temperature"),
        ({"temperature": "hot"}, "numbers temperature"),
        ({"temperature": -0.1}, "0 or more"),
        ({"max_new_tokens": 0}, "1 or more"),
        ({"top_p": 0}, "top-p"),
    ],
)
def test_settings_out_of_range_are_refused_in_a_sentence(data: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_settings(data)


def test_a_named_file_goes_before_the_projects_newest_export(tmp_path: Path) -> None:
    with Project.create(tmp_path / "demo", PipelineConfig()) as project:
        spec = JobSpec("chat", str(project.folder))
        with pytest.raises(UserError, match="demo has no GGUF file yet"):
            find_file(spec)
        run = project.runs.find_or_create("export:Q8_0:r0", Stage.EXPORT)
        for name in ("older.gguf", "newer.gguf"):
            path = project.paths.artifacts / name
            path.write_bytes(name.encode())
            project.artifacts.add(run.id, "gguf", path)
        assert find_file(spec) == project.paths.artifacts / "newer.gguf"
        named = JobSpec("chat", str(project.folder), {"gguf": str(tmp_path / "other.gguf")})
        assert find_file(named) == tmp_path / "other.gguf"


def test_a_chat_without_project_and_file_says_what_to_name() -> None:
    with pytest.raises(UserError, match="Name a GGUF file"):
        find_file(JobSpec("chat"))


def test_a_stop_that_overtakes_its_question_still_stops_it() -> None:
    inbox = chat_job._Inbox()
    inbox.receive(ASK, {"chat_id": 1})
    inbox.receive(ASK, {"chat_id": 2})
    inbox.receive(STOP, {"chat_id": 2})
    first, second = inbox.next(), inbox.next()
    assert first is not None
    assert second is not None
    assert (first.stop.is_set(), second.stop.is_set()) == (False, True)


def test_unloading_stops_every_open_question_and_takes_no_other() -> None:
    inbox = chat_job._Inbox()
    inbox.receive(ASK, {"chat_id": 1})
    question = inbox.next()
    inbox.receive(ASK, {"chat_id": 2})
    inbox.receive(UNLOAD, {})
    assert question is not None
    assert question.stop.is_set()
    assert inbox.next() is None


def test_an_answered_question_is_not_stopped_later() -> None:
    inbox = chat_job._Inbox()
    inbox.receive(ASK, {"chat_id": 1})
    question = inbox.next()
    assert question is not None
    inbox.settle(question)
    inbox.receive(STOP, {})
    assert not question.stop.is_set()


def test_pieces_are_gathered_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.01, 10.02, 10.031, 10.04])
    monkeypatch.setattr(chat_job, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    events: list[Event] = []
    session: Any = SimpleNamespace(progress=WritingProgress(1, 0.5, None))
    batch = chat_job._TokenBatch(session, 3, JobContext(emit=events.append))
    for piece in "abcde":
        batch.add(piece)
    batch.flush()
    batch.flush()
    assert [event for event in events if isinstance(event, Token)] == [
        Token("a", 3),
        Token("bcd", 3),
        Token("e", 3),
    ]
    assert [event for event in events if isinstance(event, Chat)] == [
        Chat("writing", 3, {"tokens": 1, "first_token_s": 0.5, "tokens_per_second": None})
    ]


def test_unloading_while_the_file_loads_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    may_load, has_begun = threading.Event(), threading.Event()

    def load(*_: object, **__: object) -> None:
        has_begun.set()
        may_load.wait(10)
        raise UserError("too late")

    monkeypatch.setattr(chat_job, "ChatSession", load)
    commands = SimpleNamespace(on_command=None)
    threading.Thread(
        target=lambda: (has_begun.wait(10), commands.on_command(UNLOAD, {})), daemon=True
    ).start()
    context = JobContext(emit=lambda _: None)
    spec = JobSpec("chat", options={"gguf": str(tmp_path / "slow.gguf")})
    assert chat_job.run_chat(spec, context, commands) == {"answers": 0, "tokens": 0}
    may_load.set()
