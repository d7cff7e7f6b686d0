"""Test connection and list models, from the command line and in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from llamaduo_gui.providers.check import ConnectionReport
from llamaduo_gui.worker.check_job import check_spec
from llamaduo_gui.worker.supervisor import JobHandle
from tests.fakes.openai_server import FakeOpenAI, Settings

KEY = "sk-marked-0123456789"
TIMEOUT_S = 60


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(key=KEY, models=("small", "large"))) as running:
        yield running


def keys_test(server: FakeOpenAI, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llamaduo_gui", "keys", "test", "openai_compatible"]
    return subprocess.run(
        [*command, "--base-url", server.url, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "OPENAI_COMPATIBLE_API_KEY": KEY},
        check=False,
    )


def test_the_command_tries_a_model_and_says_how_it_went(server: FakeOpenAI) -> None:
    done = keys_test(server, "--model", "small")
    assert done.returncode == 0, done.stderr
    assert "openai_compatible:small is ready" in done.stderr
    failed = keys_test(server, "--model", "smal", "--json")
    assert failed.returncode == 1
    report = ConnectionReport.from_dict(json.loads(failed.stdout))
    assert not report.ok
    assert "the nearest names it lists are `small`" in report.sentence
    assert KEY not in done.stdout + done.stderr + failed.stdout + failed.stderr


def test_the_command_lists_the_models(server: FakeOpenAI) -> None:
    done = keys_test(server)
    assert done.returncode == 0
    assert done.stderr.splitlines()[:2] == ["large", "small"]
    assert done.stderr.splitlines()[2].endswith("and lists 2 models.")


def test_a_check_stops_when_it_is_told_to(server: FakeOpenAI) -> None:
    server.settings.model_list = "none"
    server.settings.latency_s = 30
    spec = check_spec("openai_compatible", "small", server.url)
    handle = JobHandle(spec, {"openai_compatible": KEY}).start()
    deadline = time.monotonic() + TIMEOUT_S
    while not server.open_requests and time.monotonic() < deadline:
        time.sleep(0.02)
    started = time.monotonic()
    handle.cancel()
    assert handle.wait(10).status == "cancelled"
    assert time.monotonic() - started < 2
