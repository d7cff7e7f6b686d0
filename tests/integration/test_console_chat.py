"""`llamaduo-gui chat` as a person or a script uses it: answers, conversations, Ctrl+C, errors."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import Stage
from llamaduo_gui.store.project import Project
from tests.chat_models import make_endless_gguf

WAIT_S = 60.0
COMMAND = (sys.executable, "-m", "llamaduo_gui", "chat")


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_endless_gguf(tmp_path_factory.mktemp("chat"))


def run(*arguments: str | Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=typed,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=WAIT_S,
        check=False,
    )


def test_a_prompt_is_answered_on_standard_output(gguf: Path) -> None:
    done = run("--gguf", gguf, "--prompt", "Hello", "--max-tokens", "8")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert "8 tokens · cut off at --max-tokens" in done.stderr


def test_json_has_the_answer_its_measures_and_the_weights(gguf: Path) -> None:
    plain = run("--gguf", gguf, "--prompt", "Hello", "--max-tokens", "8")
    done = run("--gguf", gguf, "--prompt", "Hello", "--max-tokens", "8", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["answer"] == plain.stdout[:-1]
    assert document["tokens"] == 8
    assert document["model"]["size_bytes"] == gguf.stat().st_size


def test_a_projects_newest_export_answers(tmp_path: Path, gguf: Path) -> None:
    with Project.create(tmp_path / "project", PipelineConfig()) as project:
        empty = run(project.folder, "--prompt", "Hello")
        run_row = project.runs.find_or_create("export:F16:r0", Stage.EXPORT)
        target = project.paths.artifacts / gguf.name
        target.write_bytes(gguf.read_bytes())
        project.artifacts.add(run_row.id, "gguf", target)
    assert empty.returncode == 2
    assert "has no GGUF file yet" in empty.stderr
    done = run(tmp_path / "project", "--prompt", "Hello", "--max-tokens", "4", "--json")
    assert json.loads(done.stdout)["model"]["path"] == str(target)


def test_a_conversation_goes_on_until_the_input_ends(gguf: Path) -> None:
    done = run("--gguf", gguf, "--max-tokens", "5", typed="Hello\n\nAnd again\n")
    assert done.returncode == 0
    measures = [line for line in done.stderr.splitlines() if "first token" in line]
    assert len(measures) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Name a project"),
        (["some-dir", "--gguf", "some.gguf"], "not both"),
        (["--gguf", "some.gguf", "--prompt", " "], "--prompt is empty"),
        (["--gguf", "some.gguf", "--prompt", "x", "--max-tokens", "0"], "1 or more"),
        (["--gguf", "some.gguf", "--prompt", "x"], "does not exist"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_json_needs_a_prompt_and_says_so_in_json() -> None:
    done = run("--gguf", "some.gguf", "--json")
    assert done.returncode == 2
    assert "--prompt TEXT" in json.loads(done.stdout)["error"]


def test_a_file_that_is_no_gguf_is_bad_input(tmp_path: Path) -> None:
    bad = tmp_path / "notes.gguf"
    bad.write_text("not a model")
    done = run("--gguf", bad, "--prompt", "x", "--json")
    assert done.returncode == 2
    assert "is not a GGUF file" in json.loads(done.stdout)["error"]
    assert done.stderr.count("\n") == 1


class Terminal:
    """A command on a terminal of its own, where Ctrl+C reaches every process of the group."""

    def __init__(self, arguments: list[str]) -> None:
        import pty

        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:  # pragma: no cover - another process
            os.execv(arguments[0], arguments)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> None:
        self._read_until(lambda: text in self.seen)

    def wait_for_more(self, letters: int) -> None:
        enough = len(self.seen) + letters
        self._read_until(lambda: len(self.seen) >= enough)

    def close(self) -> int:
        """Wait for the end; returns the exit code."""
        self._read_until(lambda: False)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def _read_until(self, is_enough: Callable[[], bool]) -> None:
        """Read until there is enough, or the command has closed its terminal."""
        deadline = time.monotonic() + WAIT_S
        while not is_enough():
            assert time.monotonic() < deadline, f"nothing more came after {self.seen!r}"
            if select.select([self._descriptor], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._descriptor, 65536).decode(errors="replace")
                except OSError:
                    return


@pytest.fixture
def terminal(gguf: Path) -> Iterator[Terminal]:
    pytest.importorskip("pty", reason="terminals are different on Windows")
    arguments = [*COMMAND, "--gguf", str(gguf), "--max-tokens", "100000"]
    found = Terminal(arguments)
    yield found
    if found.pid:
        os.kill(found.pid, signal.SIGKILL)
        os.waitpid(found.pid, 0)


def test_ctrl_c_stops_the_answer_and_ctrl_d_ends_the_conversation(terminal: Terminal) -> None:
    terminal.wait_for("Ctrl+D ends.")
    terminal.wait_for("> ")
    terminal.type("Which queue does this ticket belong to?\n")
    terminal.wait_for_more(60)
    terminal.type("\x03")
    terminal.wait_for("· stopped")
    assert "· stopped" in terminal.seen
    terminal.type("\x04")
    assert terminal.close() == 0
