"""Supervising a child: events, ends of every kind, escalation, and secrets that stay secret."""

from __future__ import annotations

import json
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.events import Event, Log
from llamaduo_gui.store.project import Project
from llamaduo_gui.worker import supervisor
from llamaduo_gui.worker.protocol import JobSpec, decode_command, decode_job, encode_job
from llamaduo_gui.worker.supervisor import JobHandle, JobResult

KEY = "sk-marked-77aa"
WAIT_S = 60


def run_script(
    monkeypatch: pytest.MonkeyPatch, script: str, folder: Path | None = None, **options: float
) -> tuple[JobHandle, list[Event]]:
    """A job whose child is a small script instead of the application."""
    code = "import json, sys, time, os, signal\njob = sys.stdin.readline()\n"
    monkeypatch.setattr(
        supervisor,
        "worker_command",
        lambda: [sys.executable, "-u", "-c", code + textwrap.dedent(script)],
    )
    events: list[Event] = []
    spec = JobSpec("test", str(folder or ""))
    handle = JobHandle(spec, {"openai": KEY}, on_event=events.append, **options)
    return handle.start(), events


def test_the_real_child_reports_an_unknown_job_in_one_sentence() -> None:
    result = JobHandle(JobSpec("dance"), {}).start().wait(WAIT_S)
    assert result == JobResult("failed", "There is no job named 'dance'.")


def test_the_real_child_refuses_a_folder_that_is_no_project(tmp_path: Path) -> None:
    result = JobHandle(JobSpec("pipeline", str(tmp_path)), {}).start().wait(WAIT_S)
    assert result.status == "failed"
    assert result.is_user_error
    assert "not a LlamaDuo project" in result.error


def test_the_real_child_refuses_a_project_another_job_works_in(tmp_path: Path) -> None:
    from llamaduo_gui.store.lock import working_lock

    with Project.create(tmp_path / "p", PipelineConfig()) as project, working_lock(project):
        result = JobHandle(JobSpec("pipeline", str(project.folder)), {}).start().wait(WAIT_S)
    assert "Another job is running" in result.error


def test_events_arrive_and_noise_on_standard_output_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle, events = run_script(
        monkeypatch,
        """
        print("Loading weights...")
        print(json.dumps({"type": "log", "level": "info", "source": "x", "text": "hello"}))
        print(json.dumps({"type": "finished", "run_id": 0, "status": "succeeded", "is_job": True,
                          "result": {"answer": 42}}))
        """,
    )
    result = handle.wait(WAIT_S)
    assert result.result == {"answer": 42}
    assert events[0] == Log("info", "x", "hello")


def test_a_child_that_dies_is_interrupted_and_its_last_words_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle, _ = run_script(
        monkeypatch,
        """
        print("CUDA error: out of memory", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    result = handle.wait(WAIT_S)
    assert result.status == "interrupted"
    assert "signal 9" in result.error
    assert "CUDA error: out of memory" in result.error


def test_a_child_that_ignores_everything_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, events = run_script(
        monkeypatch,
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(json.dumps({"type": "log", "level": "info", "source": "x", "text": "ready"}))
        while True:
            time.sleep(0.05)
        """,
        cooperative_s=0.2,
        terminate_s=0.2,
    )
    while not events:
        threading.Event().wait(0.01)
    handle.cancel()
    assert handle.is_cancelling
    assert handle.wait(WAIT_S).status == "cancelled"
    assert not handle.is_running


def test_a_cooperative_child_is_not_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, _ = run_script(
        monkeypatch,
        """
        command = json.loads(sys.stdin.readline())
        assert command == {"command": "cancel"}
        print(json.dumps({"type": "finished", "run_id": 0, "status": "cancelled",
                          "error": "Stopped; finished work is kept.", "is_job": True}))
        """,
    )
    handle.cancel()
    assert handle.wait(WAIT_S).error == "Stopped; finished work is kept."


def test_a_key_reaches_the_child_but_no_log_and_no_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "logs").mkdir()
    handle, events = run_script(
        monkeypatch,
        """
        key = json.loads(job)["secrets"]["openai"]
        assert key not in " ".join(sys.argv) + json.dumps(dict(os.environ))
        print(f"401: bad key {key}", file=sys.stderr)
        print(f"echo {key}")
        print(json.dumps({"type": "log", "level": "info", "source": "len", "text": str(len(key))}))
        sys.exit(3)
        """,
        tmp_path,
    )
    result = handle.wait(WAIT_S)
    assert events == [Log("info", "len", str(len(KEY)))]
    written = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "logs").iterdir())
    assert "401: bad key [key]" in written
    assert KEY not in written + result.error


def test_a_job_reads_back_the_same_and_a_broken_line_is_not_repeated() -> None:
    spec = JobSpec("pipeline", "/p", {"rounds": 2})
    assert decode_job(encode_job(spec, {"a": "b"})) == (spec, {"a": "b"})
    with pytest.raises(Exception, match="not a job") as caught:
        decode_job('{"secrets": {"openai": "' + KEY)
    assert KEY not in str(caught.value)
    assert decode_command(json.dumps({"command": "ask", "x": 1})) == ("ask", {"x": 1})
    assert decode_command("noise") is None
