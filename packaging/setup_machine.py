"""What set-up asks of the machine (commands, disk, executables), and its progress line."""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

COMPILE_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\] ")
PIP_STEP = re.compile(r"^\s*(Downloading|Collecting|Installing collected packages)[: ]+(\S+)(.*)")


class SetupError(Exception):
    """The environment cannot be set up; the text is the one sentence to show."""


@dataclass(frozen=True)
class Outcome:
    """End of a command: its exit status and everything it printed."""

    returncode: int
    text: str

    @property
    def is_ok(self) -> bool:
        """Whether the command succeeded."""
        return self.returncode == 0


def say(text: str) -> None:
    """Tell the user something, on standard error: standard output belongs to the program."""
    print(text, file=sys.stderr, flush=True)


class Indicator:
    """One line on standard error that shows a step is alive: title, elapsed time, detail."""

    def __init__(self, title: str, interval_s: float | None = None) -> None:
        self.title = title
        self.detail = ""
        self._is_terminal = sys.stderr.isatty()
        default_s = 0.2 if self._is_terminal else 20.0
        self._interval_s = default_s if interval_s is None else interval_s
        self._start = self._shown = time.monotonic()
        if not self._is_terminal:
            say(f"{title} ...")

    def read(self, line: str) -> None:
        """Take the detail from one line that pip or the compiler printed."""
        step = COMPILE_STEP.match(line)
        action = PIP_STEP.match(line)
        if step:
            self.detail = f"compiled {step.group(1)} of {step.group(2)}"
        elif action and action.group(1).startswith("Installing"):
            self.detail = "unpacking"
        elif action:
            name = action.group(2).rpartition("/")[2]
            self.detail = f"{action.group(1).lower()} {name}{action.group(3)}"

    def show(self) -> None:
        """Redraw the line on a terminal; elsewhere add a line now and then."""
        now = time.monotonic()
        if now - self._shown < self._interval_s:
            return
        self._shown = now
        self._write(self.detail, is_last=False)

    def end(self, word: str) -> None:
        """Close the line with the outcome in a word or two."""
        self._write(word, is_last=True)

    def elapsed(self) -> str:
        """Time since the start as minutes:seconds."""
        seconds = int(time.monotonic() - self._start)
        return f"{seconds // 60}:{seconds % 60:02}"

    def _write(self, detail: str, is_last: bool) -> None:
        if not self._is_terminal:
            say(f"  {self.elapsed()}  {detail}".rstrip())
            return
        width = shutil.get_terminal_size().columns - 1
        text = f"{self.title}  {self.elapsed()}  {detail}"
        sys.stderr.write("\r" + text[:width].ljust(width) + ("\n" if is_last else ""))
        sys.stderr.flush()


class System:
    """The machine as set-up sees it, in one place so that tests can answer instead."""

    platform = sys.platform
    version = sys.version_info[:2]
    executable = sys.executable

    def which(self, name: str) -> str | None:
        """Path of an executable, or None."""
        return shutil.which(name)

    def free_gb(self, folder: Path) -> float:
        """Free space where `folder` lies, in units of 10**9 bytes."""
        return shutil.disk_usage(str(folder)).free / 1e9

    def temporary_dir(self) -> Path:
        """Where programs put temporary files."""
        return Path(tempfile.gettempdir())

    def has_module(self, name: str) -> bool:
        """Whether the running Python can import `name`."""
        return importlib.util.find_spec(name) is not None

    def run(self, command: list[str]) -> Outcome:
        """Run a short command to its end."""
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except OSError as error:
            return Outcome(127, str(error))
        return Outcome(done.returncode, done.stdout.decode(errors="replace"))

    def follow(self, command: list[str], title: str, env: dict[str, str], log: Path) -> Outcome:
        """Run a long command: its output goes to `log`, an indicator to standard error."""
        lines: queue.Queue[str | None] = queue.Queue()
        indicator = Indicator(title)
        kept: list[str] = []
        with log.open("a", encoding="utf-8") as sink, subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            sink.write(f"\n$ {' '.join(command)}\n")
            threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
            while True:
                indicator.show()
                try:
                    line = lines.get(timeout=1.0)
                except queue.Empty:
                    continue
                if line is None:
                    break
                sink.write(line)
                kept.append(line)
                indicator.read(line)
        indicator.end("done" if process.returncode == 0 else "not this way")
        return Outcome(process.returncode, "".join(kept))

    def call(self, command: list[str], folder: Path) -> int:
        """Run a command that prints for the user, in `folder`; returns its exit status."""
        sys.stdout.flush()
        return subprocess.call(command, cwd=str(folder), stdin=subprocess.DEVNULL)

    def replace_by(self, command: list[str]) -> int:
        """Become `command` (POSIX), or run it and return its exit status (Windows)."""
        sys.stdout.flush()
        if os.name == "posix":
            os.execv(command[0], command)  # noqa: S606
        return subprocess.call(command)


def _pump(stream: IO[bytes], lines: queue.Queue[str | None]) -> None:
    """Move decoded lines from a pipe to a queue, then None at its end."""
    for raw in stream:
        lines.put(raw.decode("utf-8", errors="replace"))
    lines.put(None)
