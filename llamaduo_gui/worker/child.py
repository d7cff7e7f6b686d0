"""The child process: takes a job on standard input, reports on standard output."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from llamaduo_gui.core.errors import (
    BudgetReachedError,
    JobCancelledError,
    LlamaDuoError,
    ProviderError,
    UserError,
)
from llamaduo_gui.core.events import Event, Finished, Log, Progress, to_line
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.ml_libraries import prepare_ml_libraries
from llamaduo_gui.store.lock import working_lock
from llamaduo_gui.store.project import Project
from llamaduo_gui.worker.protocol import CANCEL, PAUSE, JobSpec, decode_command, decode_job

_PROGRESS_WRITE_S = 1.0


def main() -> int:
    """Do one job. Returns the exit code: 0 succeeded, 1 failed or cancelled, 2 bad input."""
    # Ctrl+C at a terminal reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_ml_libraries()
    stream = _claim_stdout()
    spec, secrets = decode_job(sys.stdin.readline())
    context = JobContext(emit=_ignore, secrets=secrets)
    channel = EventChannel(stream, context.cancel_requested)
    context.emit = channel.send
    commands = CommandReader(context)
    commands.start()
    final = _do(spec, context, commands)
    channel.send(final)
    # Library threads must not keep a finished child alive.
    channel.close()
    sys.stderr.flush()
    os._exit(0 if final.status == "succeeded" else 2 if final.is_user_error else 1)


class EventChannel:
    """Writes events as lines; when nobody reads them any more, the job is cancelled."""

    def __init__(self, stream: IO[str], reader_is_gone: threading.Event) -> None:
        self._stream = stream
        self._reader_is_gone = reader_is_gone
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        """Write one event; safe from any thread."""
        try:
            with self._lock:
                self._stream.write(to_line(event) + "\n")
                self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._reader_is_gone.set()

    def close(self) -> None:
        """Close the stream, also when its reader is gone."""
        with contextlib.suppress(BrokenPipeError):
            self._stream.close()


class CommandReader(threading.Thread):
    """Reads commands from standard input; `cancel`, or its end, cancels the job."""

    def __init__(self, context: JobContext) -> None:
        super().__init__(name="commands", daemon=True)
        self._context = context
        self.on_command: Callable[[str, dict[str, Any]], None] | None = None

    def run(self) -> None:
        """Read until the parent closes the pipe."""
        for line in sys.stdin:
            command = decode_command(line)
            if command is None:
                continue
            name, values = command
            if name == CANCEL:
                self._context.cancel_requested.set()
            elif name == PAUSE:
                self._context.pause_requested.set()
            if self.on_command is not None:
                self.on_command(name, values)
        self._context.cancel_requested.set()
        if self.on_command is not None:
            self.on_command(CANCEL, {})


def _ignore(_: Event) -> None:
    """Takes the place of the event channel until there is one."""


def _do(spec: JobSpec, context: JobContext, commands: CommandReader) -> Finished:
    job = JOBS.get(spec.kind)
    try:
        if job is None:
            raise LlamaDuoError(f"There is no job named {spec.kind!r}.")
        result = job(spec, context, commands)
        return Finished(run_id=0, status="succeeded", is_job=True, result=dict(result))
    except JobCancelledError as error:
        return Finished(run_id=0, status="cancelled", error=str(error), is_job=True)
    except UserError as error:
        # A service that refuses, or a spent budget, is a failed job (exit code 1), not bad input.
        is_input = not isinstance(error, (BudgetReachedError, ProviderError))
        return Finished(
            run_id=0,
            status="failed",
            error=str(error),
            is_user_error=is_input,
            is_job=True,
            result={"failure": dict(error.detail)} if error.detail else {},
        )
    except LlamaDuoError as error:
        return Finished(run_id=0, status="failed", error=str(error), is_job=True)
    except MemoryError:
        text = "The machine ran out of memory; use a smaller batch size or a smaller model."
        return Finished(run_id=0, status="failed", error=text, is_job=True)
    except Exception as error:  # noqa: BLE001
        # The one place where a bug becomes a message: the traceback goes to the log file.
        traceback.print_exc(file=sys.stderr)
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        error_text = context.redact(text)[:2000]
        return Finished(run_id=0, status="failed", error=error_text, is_job=True)


def _with_project(
    work: Callable[[Project, JobContext, Mapping[str, Any]], Mapping[str, Any]],
) -> Callable[[JobSpec, JobContext, CommandReader], Mapping[str, Any]]:
    """A job that works in a locked project; its log lines and progress are stored as well."""

    def job(spec: JobSpec, context: JobContext, _: CommandReader) -> Mapping[str, Any]:
        with ExitStack() as stack:
            project = stack.enter_context(Project.open(Path(spec.project)))
            stack.enter_context(working_lock(project))
            context.emit = _Recorder(project, context.emit)
            return work(project, context, spec.options)

    return job


class _Recorder:
    """Stores log lines and, once a second, progress, then passes events on."""

    def __init__(self, project: Project, emit: Callable[[Event], None]) -> None:
        self._project = project
        self._emit = emit
        self._last_write = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Log):
            self._project.logs.add(event.level, event.source, event.text, event.run_id)
        elif isinstance(event, Progress):
            now = time.monotonic()
            if now - self._last_write >= _PROGRESS_WRITE_S or event.done >= event.total:
                self._last_write = now
                self._project.runs.set_progress(event.run_id, event.done, event.total)
        self._emit(event)


def _pipeline(project: Project, context: JobContext, options: Mapping[str, Any]) -> dict[str, Any]:
    from llamaduo_gui.pipeline.loop import run_pipeline

    return run_pipeline(
        project, context, last_round=options.get("rounds"), until=options.get("until")
    )


def _single(project: Project, context: JobContext, options: Mapping[str, Any]) -> dict[str, Any]:
    from llamaduo_gui.pipeline.single import run_single

    return run_single(project, context, options)


def _pilot(project: Project, context: JobContext, options: Mapping[str, Any]) -> dict[str, Any]:
    from llamaduo_gui.pipeline.pilot import run_pilot

    return run_pilot(project, context, options)


def _chat(spec: JobSpec, context: JobContext, commands: CommandReader) -> dict[str, Any]:
    from llamaduo_gui.worker.chat_job import run_chat

    return run_chat(spec, context, commands)


def _check(spec: JobSpec, context: JobContext, _: CommandReader) -> dict[str, Any]:
    from llamaduo_gui.worker.check_job import run_check

    return run_check(spec, context)


def _download(spec: JobSpec, context: JobContext, _: CommandReader) -> dict[str, Any]:
    from llamaduo_gui.worker.model_jobs import run_download

    return run_download(spec, context)


def _data(name: str) -> Callable[[JobSpec, JobContext, CommandReader], Mapping[str, Any]]:
    """A job of `worker.data_jobs`, imported when it is run."""

    def job(spec: JobSpec, context: JobContext, _: CommandReader) -> Mapping[str, Any]:
        from llamaduo_gui.worker import data_jobs

        result: Mapping[str, Any] = getattr(data_jobs, name)(spec, context)
        return result

    return job


JOBS: dict[str, Callable[[JobSpec, JobContext, CommandReader], Mapping[str, Any]]] = {
    "pipeline": _with_project(_pipeline),
    "stage": _with_project(_single),
    "pilot": _with_project(_pilot),
    "chat": _chat,
    "preview": _data("run_preview"),
    "create": _data("run_create"),
    "export_data": _data("run_export_data"),
    "check": _check,
    "download": _download,
}


def _claim_stdout() -> IO[str]:
    """Keep the real standard output for events; whatever libraries print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return channel
