"""API keys: kept in a real Secret Service, and found nowhere but there, also after a crash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI, Settings

KEY = "sk-marked-7d1e5a90c4"
TIMEOUT_S = 120
# Patched into the child: a bug whose message holds the key, in the middle of a stage.
CRASH = """
import sys
if "--worker" in sys.orig_argv:
    from llamaduo_gui.inference import stage
    def crash(project, run, context, **options):
        print("about to fail with", context.secrets, file=sys.stderr)
        raise RuntimeError(f"headers were {context.secrets}")
    stage.run_service_inference = crash
"""

needs_secret_service = pytest.mark.skipif(
    not (shutil.which("dbus-run-session") and shutil.which("gnome-keyring-daemon")),
    reason="no dbus-run-session and gnome-keyring-daemon",
)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(key=KEY), Answers(pool=[("a?", "b"), ("c?", "d")])) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, server: FakeOpenAI) -> Path:
    data = tmp_path / "coverage.jsonl"
    rows = [{"prompt": f"{n} plus 1?", "response": str(n + 1)} for n in range(30)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    service = {"provider": "openai_compatible", "model": "m", "base_url": server.url}
    config = tmp_path / "pipeline.yaml"
    settings = {"teacher": service, "judges": [service], "inference": {"samples": 1}}
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    folder = tmp_path / "project"
    made = command(["new", str(folder), "--coverage", str(data), "--config", str(config)], {})
    assert made.returncode == 0, made.stderr
    return folder


def command(
    arguments: Sequence[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llamaduo_gui", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **environment},
        check=False,
    )


def files_with_the_key(*folders: Path) -> list[str]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if KEY.encode() in path.read_bytes()]


@needs_secret_service
def test_a_key_in_a_real_secret_service_is_used_and_can_be_deleted(
    project: Path, server: FakeOpenAI, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True, mode=0o700)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHON_KEYRING_BACKEND", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY")
    }
    environment.update(HOME=str(home), XDG_RUNTIME_DIR=str(home / "run"))
    environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.SecretService.Keyring"
    steps = [
        [["keys", "set", "openai_compatible"], KEY],
        [["keys", "list", "--json"], ""],
        [["run", str(project), "--until", "judge"], ""],
        [["keys", "delete", "openai_compatible"], ""],
        [["keys", "list", "--json"], ""],
    ]
    done = subprocess.run(
        ["dbus-run-session", "--", sys.executable, "-m", "tests.integration.secret_service"],
        input=json.dumps(steps),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)
    assert [code for code, _, _ in results] == [0] * len(steps), results
    listed = [json.loads(results[place][1])["keys"] for place in (1, 4)]
    sources = [
        {entry["provider"]: entry["source"] for entry in entries}["openai_compatible"]
        for entries in listed
    ]
    assert sources == ["keyring", "none"]
    assert "Kept in" in results[0][2]
    assert server.delivered.total() > 0
    assert KEY not in done.stdout + done.stderr
    # The keyring's own file is encrypted.
    assert files_with_the_key(project, home) == []


def test_a_crash_with_the_key_in_its_message_leaves_no_trace_of_it(
    project: Path, tmp_path: Path, repository: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASH, encoding="utf-8")
    path = os.pathsep.join((str(tmp_path), str(repository)))
    environment = {"OPENAI_COMPATIBLE_API_KEY": KEY, "PYTHONPATH": path}
    done = command(["run", str(project), "--json"], environment)
    assert done.returncode == 1
    assert "RuntimeError" in json.loads(done.stdout)["error"]
    assert KEY not in done.stdout + done.stderr
    logs = "".join(log.read_text() for log in (project / "logs").iterdir())
    assert "about to fail with" in logs
    assert "Traceback" in logs
    assert files_with_the_key(project, Path.home()) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc to look in")
def test_a_running_job_has_the_key_neither_in_its_arguments_nor_in_its_environment(
    project: Path, server: FakeOpenAI
) -> None:
    server.settings.latency_s = 1.0
    running = subprocess.Popen(
        [sys.executable, "-m", "llamaduo_gui", "run", str(project), "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENAI_COMPATIBLE_API_KEY": KEY},
    )
    try:
        child = wait_for_child(running.pid)
        for name in ("cmdline", "environ"):
            assert KEY.encode() not in (child / name).read_bytes()
        assert KEY.encode() not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
        deadline = time.monotonic() + TIMEOUT_S
        while not server.delivered and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        assert server.delivered, "the job never used its key"
    finally:
        running.terminate()
        running.wait(TIMEOUT_S)


def wait_for_child(pid: int) -> Path:
    """The /proc folder of the worker a command starts."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{pid}/task/{pid}").parent.glob("*/children"):
            for number in child.read_text().split():
                if b"--worker" in Path(f"/proc/{number}/cmdline").read_bytes():
                    return Path(f"/proc/{number}")
        threading.Event().wait(0.05)
    raise AssertionError("no worker was started")
