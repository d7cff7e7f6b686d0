"""A machine that answers set-up from a script, so that every shortage can be had on demand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from setup_machine import Outcome, System

OK = Outcome(0, "")


class FakeSystem(System):
    """Records the commands set-up gives; `replies` maps a part of a command to its outcome."""

    def __init__(self, venv: Path, **replies: Outcome) -> None:
        self.venv = venv
        self.platform = "linux"
        self.version = (3, 12)
        self.executable = "/usr/bin/python3.12"
        self.executables = {"c++"}
        self.modules = {"ensurepip"}
        self.free = 100.0
        self.temporary_free = 100.0
        self.replies = replies
        self.commands: list[str] = []
        self.environments: list[dict[str, str]] = []
        self.titles: list[str] = []
        self.exit_codes: dict[str, int] = {}
        self.answer: Callable[[str], Outcome] = lambda _command: OK

    def which(self, name: str) -> str | None:
        return f"/usr/bin/{name}" if name in self.executables else None

    def free_gb(self, folder: Path) -> float:
        return self.temporary_free if folder == self.temporary_dir() else self.free

    def temporary_dir(self) -> Path:
        return Path("/small-tmp")

    def has_module(self, name: str) -> bool:
        return name in self.modules

    def run(self, command: list[str]) -> Outcome:
        text = " ".join(command)
        self.commands.append(text)
        for part, outcome in self.replies.items():
            if part in text:
                return outcome
        if "-m venv" in text:
            make_venv(self.venv)
            return OK
        if "import sys, pip" in text:
            is_made = (self.venv / "bin" / "python").exists()
            return Outcome(0, "3.12\n") if is_made else Outcome(127, "no such file")
        return self.answer(text)

    def follow(self, command: list[str], title: str, env: dict[str, str], log: Path) -> Outcome:
        text = " ".join(command)
        self.commands.append(text)
        self.environments.append(env)
        self.titles.append(title)
        return next((reply for part, reply in self.replies.items() if part in text), OK)

    def call(self, command: list[str], folder: Path) -> int:
        text = " ".join(command)
        self.commands.append(text)
        return next((code for part, code in self.exit_codes.items() if part in text), 0)

    def replace_by(self, command: list[str]) -> int:
        self.commands.append(" ".join(command))
        return 0

    def pip_commands(self) -> list[str]:
        """What pip was told, without the interpreter and pip's own update."""
        told = [text.partition(" -m pip ")[2] for text in self.commands if " -m pip " in text]
        return [text for text in told if "--upgrade pip" not in text]


def make_venv(venv: Path, version: str = "3.12.1") -> None:
    """Create the parts of an environment that set-up looks at."""
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    (venv / "bin" / "python").touch()
    (venv / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")


def read_stamp(venv: Path) -> dict[str, object]:
    """The finished steps that an environment remembers."""
    stamp = json.loads((venv / "llamaduo-setup.json").read_text(encoding="utf-8"))
    assert isinstance(stamp, dict)
    return stamp
