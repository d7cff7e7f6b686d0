"""Runs one job in a child process from a thread of its own; knows nothing of Qt or of the work."""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from llamaduo_gui.core.events import Event, Finished, from_line
from llamaduo_gui.core.paths import ProjectPaths
from llamaduo_gui.worker.protocol import CANCEL, JobSpec, encode_command, encode_job

COOPERATIVE_S = 20.0
TERMINATE_S = 5.0
_STDERR_TAIL_LINES = 40


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended: succeeded, failed, cancelled, or interrupted (the process died)."""

    status: str
    error: str = ""
    is_user_error: bool = False
    result: Mapping[str, Any] = field(default_factory=dict)


class JobHandle:
    """A job that is running, or has run.

    Callbacks come on the supervising threads; a GUI passes ones that post to its event loop.
    """

    def __init__(
        self,
        spec: JobSpec,
        secrets: Mapping[str, str],
        *,
        on_event: Callable[[Event], None] = lambda _: None,
        on_done: Callable[[JobResult], None] = lambda _: None,
        cooperative_s: float = COOPERATIVE_S,
        terminate_s: float = TERMINATE_S,
    ) -> None:
        self.spec = spec
        self._secrets = dict(secrets)
        self._on_event = on_event
        self._on_done = on_done
        self._cooperative_s = cooperative_s
        self._terminate_s = terminate_s
        self._process: subprocess.Popen[str] | None = None
        self._final: Finished | None = None
        self._result: JobResult | None = None
        self._is_done = threading.Event()
        self._is_cancelled = threading.Event()
        self._stdin_lock = threading.Lock()
        self._tail: collections.deque[str] = collections.deque(maxlen=_STDERR_TAIL_LINES)
        self._thread = threading.Thread(
            target=self._supervise, name=f"job-{spec.kind}", daemon=True
        )

    def start(self) -> JobHandle:
        """Start the thread, which starts the child."""
        self._thread.start()
        return self

    @property
    def pid(self) -> int | None:
        """Process id of the child while there is one."""
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the job has not ended yet."""
        return not self._is_done.is_set()

    @property
    def is_cancelling(self) -> bool:
        """Whether the user asked to stop."""
        return self._is_cancelled.is_set()

    def wait(self, timeout_s: float | None = None) -> JobResult:
        """Wait for the end; TimeoutError if it does not come in time. Not for the GUI thread."""
        if not self._is_done.wait(timeout_s) or self._result is None:
            raise TimeoutError(f"job {self.spec.kind} is still running")
        self._thread.join(timeout=5)
        return self._result

    def send(self, command: str, **values: Any) -> None:
        """Send a command to the child; nothing happens if it has ended."""
        process = self._process
        if process is None or process.stdin is None:
            return
        with self._stdin_lock, contextlib.suppress(OSError, ValueError):
            process.stdin.write(encode_command(command, **values) + "\n")
            process.stdin.flush()

    def cancel(self) -> None:
        """Ask the child to stop; terminate, then kill it if it does not. Returns at once."""
        if self._is_cancelled.is_set() or self._is_done.is_set():
            return
        self._is_cancelled.set()
        threading.Thread(target=self._escalate, name="job-cancel", daemon=True).start()

    def _escalate(self) -> None:
        self.send(CANCEL)
        if self._is_done.wait(self._cooperative_s) or self._process is None:
            return
        self._process.terminate()
        if self._is_done.wait(self._terminate_s):
            return
        self._process.kill()

    def _supervise(self) -> None:
        try:
            self._result = self._run()
        except OSError as error:
            self._result = JobResult("failed", f"The worker process could not start ({error}).")
        self._is_done.set()
        self._on_done(self._result)

    def _run(self) -> JobResult:
        process = subprocess.Popen(
            worker_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=worker_environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._process = process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise OSError("no pipes to the worker process")
        stderr_thread = threading.Thread(
            target=self._drain_stderr, args=(process.stderr,), name="job-stderr", daemon=True
        )
        stderr_thread.start()
        with self._stdin_lock, contextlib.suppress(OSError):
            process.stdin.write(encode_job(self.spec, self._secrets) + "\n")
            process.stdin.flush()
        if self._is_cancelled.is_set():
            self.send(CANCEL)
        for line in process.stdout:
            self._handle_line(line)
        code = process.wait()
        stderr_thread.join(timeout=5)
        with self._stdin_lock, contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        process.stderr.close()
        return self._conclude(code)

    def _handle_line(self, line: str) -> None:
        event = from_line(line)
        if event is None:
            self._tail.append(self._redact(line.rstrip()))
            return
        if isinstance(event, Finished) and event.is_job:
            self._final = event
        self._on_event(event)

    def _drain_stderr(self, stream: IO[str]) -> None:
        """Keep what libraries print: in the project's log folder and, the end, for a crash text."""
        with contextlib.ExitStack() as stack:
            sink: IO[str] | None = None
            if self.spec.project and ProjectPaths(Path(self.spec.project)).folder.is_dir():
                logs = ProjectPaths(Path(self.spec.project)).logs
                with contextlib.suppress(OSError):
                    logs.mkdir(exist_ok=True)
                    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{self.spec.kind}.log"
                    sink = stack.enter_context((logs / name).open("a", encoding="utf-8"))
            for line in stream:
                safe = self._redact(line.rstrip("\n"))
                self._tail.append(safe)
                if sink is not None:
                    with contextlib.suppress(OSError):
                        sink.write(safe + "\n")
                        sink.flush()

    def _redact(self, text: str) -> str:
        for key in self._secrets.values():
            text = text.replace(key, "[key]")
        return text

    def _conclude(self, code: int) -> JobResult:
        if self._final is not None:
            final = self._final
            return JobResult(final.status, final.error, final.is_user_error, final.result)
        if self._is_cancelled.is_set():
            return JobResult("cancelled", "Stopped; finished work is kept.")
        return JobResult("interrupted", self._describe_death(code))

    def _describe_death(self, code: int) -> str:
        reason = f"exit code {code}"
        if code < 0:
            reason = f"signal {-code}"
            if code == -9:
                reason += ", often too little memory"
        last = next((line for line in reversed(self._tail) if line.strip()), "")
        text = f"The worker process died ({reason}); finished work is kept, resume to go on."
        return f"{text} Its last words: {last[:300]}" if last else text


def worker_command() -> list[str]:
    """How to start a child: the same executable when frozen, else this Python."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "--worker"]
    return [sys.executable, "-m", "llamaduo_gui", "--worker"]


def worker_environment() -> dict[str, str]:
    """The child's environment: this one's, unbuffered and UTF-8, without API keys."""
    from llamaduo_gui.core.secrets import ENVIRONMENT_VARIABLES

    secret = {name for names in ENVIRONMENT_VARIABLES.values() for name in names}
    environment = {name: value for name, value in os.environ.items() if name not in secret}
    environment.update(
        PYTHONUNBUFFERED="1",
        PYTHONUTF8="1",
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_DISABLE_TELEMETRY="1",
    )
    # Idle OpenMP threads that spin starve the others on a busy machine: measured on two cores
    # beside other work, training steps took 10 s instead of 0.3 s.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment
