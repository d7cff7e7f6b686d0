"""Runs a job from the command line: progress on standard error, Ctrl+C stops it cleanly."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamaduo_gui.core.budget import is_budget_stop
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.events import Event, Finished, Log, Progress, Started
from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.providers.check import ConnectionReport
from llamaduo_gui.store.project import Project
from llamaduo_gui.worker.check_job import check_spec
from llamaduo_gui.worker.protocol import JobSpec
from llamaduo_gui.worker.supervisor import JobHandle, JobResult

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2
_LINE_S = 5.0


def print_json(data: Any) -> None:
    """Write the one JSON document of a `--json` call."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """One line for the person at the terminal, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class ConsoleReporter:
    """Prints events: one live line on a terminal, a line every few seconds otherwise."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._last_line = 0.0
        self._open_line = False
        self._title = ""

    def __call__(self, event: Event) -> None:
        """Print one event."""
        with self._lock:
            if isinstance(event, Started):
                place = f"round {event.round} " if event.round is not None else ""
                self._title = f"{place}{event.stage} {event.label}".strip()
            elif isinstance(event, Progress):
                self._show_progress(event)
            elif isinstance(event, Log):
                self._close_line()
                say(f"{time.strftime('%H:%M:%S')} {event.source:<8} {event.text}")
            elif isinstance(event, Finished) and not event.is_job:
                self._close_line()
                word = "stopped" if is_budget_stop(event.error) else event.status
                ending = word + (f": {event.error}" if event.error else "")
                say(f"{time.strftime('%H:%M:%S')} {self._title}: {ending}")

    def _show_progress(self, event: Progress) -> None:
        eta = f", about {max(1, round(event.eta_s))} s left" if event.eta_s else ""
        text = f"{self._title}: {event.done} of {event.total} {event.units}{eta}"
        now = time.monotonic()
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[2K{text[:100]}")
            sys.stderr.flush()
            self._open_line = True
        elif now - self._last_line >= _LINE_S:
            self._last_line = now
            say(text)

    def _close_line(self) -> None:
        if self._open_line:
            sys.stderr.write("\r\x1b[2K")
            self._open_line = False


def run_job(kind: str, folder: Path, options: Mapping[str, Any], *, as_json: bool) -> int:
    """Run a job of a project to its end and print how it went; returns the exit code."""
    handle = JobHandle(*_project_job(kind, folder, options), on_event=ConsoleReporter())
    return report_result(wait_for(handle.start()), as_json=as_json)


def _project_job(
    kind: str, folder: Path, options: Mapping[str, Any]
) -> tuple[JobSpec, dict[str, str]]:
    """A job of a project and the API keys it needs."""
    with Project.open(folder) as project:
        secrets = SecretStore().collect(project.config.providers())
        return JobSpec(kind, str(project.folder), dict(options)), secrets


def certify(folder: Path, options: Mapping[str, Any], *, as_json: bool) -> int:
    """Certify a GGUF and print what was found; returns 1 if it is not certified."""
    handle = JobHandle(*_project_job("stage", folder, options), on_event=ConsoleReporter())
    result = wait_for(handle.start())
    if result.status != "succeeded":
        return report_result(result, as_json=as_json)
    found = result.result
    if as_json:
        print_json(found)
    for check in () if as_json else found["checks"]:
        say(f"{check['state']:<8} {check['title']}: {check['text']}")
    return EXIT_OK if found["is_certified"] else EXIT_FAILED


def try_service(
    secrets: SecretStore, provider: str, model: str, base_url: str | None, *, as_json: bool
) -> int:
    """Try a service LLM out and print what came of it; returns the exit code.

    Without a model the names of those it lists are printed as well.
    """
    spec = check_spec(provider, model, base_url)
    handle = JobHandle(spec, secrets.collect(spec.providers), cooperative_s=1.0)
    result = wait_for(handle.start())
    if result.status != "succeeded":
        return report_result(result, as_json=as_json)
    report = ConnectionReport.from_dict(result.result)
    if as_json:
        print_json(report.to_dict())
    elif not model:
        for entry in report.models:
            say(f"{entry.id}  {entry.title}".rstrip())
    say(report.sentence)
    return EXIT_OK if report.ok else EXIT_FAILED


def estimate(folder: Path, *, is_pilot: bool, has_further_rounds: bool, as_json: bool) -> int:
    """Print what the stages to come will cost, after a pilot if wanted; returns the exit code."""
    from llamaduo_gui.pipeline.estimate import make_forecast
    from llamaduo_gui.pipeline.forecast_text import forecast_lines

    if is_pilot:
        options = {"has_further_rounds": has_further_rounds}
        code = _run_pilot(folder, options, as_json=as_json)
        if code is not None:
            return code
    with Project.open(folder) as project:
        project.config.require_services()
        forecast = make_forecast(project)
        local, lines = _estimate_local(project)
    if as_json:
        print_json({**forecast.to_dict(), "local": local})
    else:
        say("\n".join([*forecast_lines(forecast), "", *lines]))
    return EXIT_OK


def _estimate_local(project: Project) -> tuple[dict[str, Any] | None, list[str]]:
    """Memory and time of the work on this machine, or None and why it cannot be told."""
    from llamaduo_gui.pipeline.local_estimate import estimate_local, round_to_train, sentences

    try:
        found = estimate_local(project, project.config, round_number=round_to_train(project))
    except UserError as error:
        return None, [str(error)]
    return found.to_dict(), sentences(found)


def _run_pilot(folder: Path, options: Mapping[str, bool], *, as_json: bool) -> int | None:
    """Say what a pilot may cost and make it; the exit code if nothing is left to print."""
    from llamaduo_gui.pipeline.pilot import describe_pilot, plan_pilot

    with Project.open(folder) as project:
        project.config.require_services()
        parts = plan_pilot(project, project.config, **options)
    say(describe_pilot(parts))
    if not parts:
        return None
    code = run_job("pilot", folder, options, as_json=as_json)
    return code if as_json or code else None


def wait_for(handle: JobHandle) -> JobResult:
    """Wait for a job; the first Ctrl+C stops it cleanly, later ones are noted."""
    while True:
        try:
            return handle.wait(timeout_s=0.5)
        except TimeoutError:
            continue
        except KeyboardInterrupt:
            say("Stopping; what is finished is kept. Run the same command again to resume.")
            handle.cancel()


def report_result(result: JobResult, *, as_json: bool) -> int:
    """Print a job's result; returns the exit code."""
    if result.status == "succeeded":
        if as_json:
            print_json(result.result)
        return EXIT_OK
    if as_json:
        print_json({"status": result.status, "error": result.error})
    word = "budget reached" if is_budget_stop(result.error) else result.status
    say(f"{word}: {result.error}")
    return EXIT_BAD_INPUT if result.is_user_error else EXIT_FAILED
