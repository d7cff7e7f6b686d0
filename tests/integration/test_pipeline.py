"""The loop end to end: real child processes, real training, a real endpoint on loopback."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llamaduo_gui.core.events import Event, Finished, Progress, Started
from llamaduo_gui.core.paths import resource
from llamaduo_gui.core.types import RunStatus
from llamaduo_gui.providers.grammar import TicketGrammar
from llamaduo_gui.store.project import Project
from llamaduo_gui.worker.protocol import JobSpec
from llamaduo_gui.worker.supervisor import JobHandle, JobResult
from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI, Settings

KEY = "sk-marked-3f9c2b7d"
ROWS = 40
TIMEOUT_S = 300


def coverage_rows() -> list[dict[str, Any]]:
    lines = resource("demo", "coverage.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:ROWS]]


def settings(url: str, **decision: Any) -> dict[str, Any]:
    service = {"provider": "openai_compatible", "model": "fake-model", "base_url": url}
    return {
        "task": "tickets",
        "splits": {"validation": 0.2, "test": 0.2, "seed": 7},
        "teacher": {**service, "concurrency": 4},
        "judges": [{**service, "repeats": 2}],
        "student": {
            "base_model": "builtin:tiny",
            "recipe": "quick",
            "overrides": {"epochs": 2, "save_steps": 1, "batch_size": 4},
        },
        "inference": {"samples": 2, "temperature": 0.7, "max_new_tokens": 16},
        "synthesis": {"pairs_per_round": 16, "pairs_per_request": 4},
        "decision": {"max_rounds": 1, "resamples": 400, **decision},
        "export": {"quant": "Q8_0"},
    }


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    rows = coverage_rows()
    known = {row["prompt"]: row["messages"][1]["content"] for row in rows}
    grammar = TicketGrammar.load(resource("demo", "grammar.toml"))
    seeds = random.Random(3)
    pool = []
    for row in rows:
        pool += grammar.similar_pairs(row["prompt"], known[row["prompt"]], 6, seeds)
    with FakeOpenAI(Settings(key=KEY), Answers(pool=pool, known=known)) as running:
        yield running


@pytest.fixture
def project_folder(tmp_path: Path, server: FakeOpenAI) -> Path:
    data = tmp_path / "coverage.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in coverage_rows()), encoding="utf-8")
    config = tmp_path / "pipeline.yaml"
    config.write_text(yaml.safe_dump(settings(server.url)), encoding="utf-8")
    folder = tmp_path / "project"
    made = command("new", folder, "--coverage", data, "--config", config, "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["splits"] == {"train": 24, "validation": 8, "test": 8}
    return folder


def command(*arguments: object, key: str = KEY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llamaduo_gui", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "OPENAI_COMPATIBLE_API_KEY": key},
        check=False,
    )


class WatchedJob:
    """A job whose events the test reads one by one."""

    def __init__(self, folder: Path) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.handle = JobHandle(
            JobSpec("pipeline", str(folder)),
            {"openai_compatible": KEY},
            on_event=self.events.put,
            cooperative_s=60,
        ).start()

    def wait_for(self, matches: Callable[[Event], bool]) -> Event:
        while True:
            event = self.events.get(timeout=TIMEOUT_S)
            if matches(event):
                return event
            assert not (isinstance(event, Finished) and event.is_job), event

    def kill_during(self, stage: str, round_number: int | None, units: int) -> JobResult:
        """Wait until so many units of a stage are done, then kill the child without warning."""
        started = self.wait_for(
            lambda e: isinstance(e, Started) and e.stage == stage and e.round == round_number
        )
        assert isinstance(started, Started)
        self.wait_for(
            lambda e: isinstance(e, Progress) and e.run_id == started.run_id and e.done >= units
        )
        assert self.handle.pid is not None
        os.kill(self.handle.pid, signal.SIGKILL)
        return self.handle.wait(TIMEOUT_S)


def assert_complete(result: dict[str, Any], folder: Path) -> None:
    assert result["is_complete"]
    assert Path(result["files"]["gguf"]).read_bytes()[:4] == b"GGUF"
    assert "judge" in Path(result["files"]["html"]).read_text(encoding="utf-8").lower()
    with Project.open(folder) as project:
        runs = project.runs.all()
        assert {run.status for run in runs} == {RunStatus.SUCCEEDED}
        keys = {run.key for run in runs}
    assert {"finetune:r0", "synthesize:r1", "finetune:r1", "export:Q8_0:r1"} <= keys or {
        "finetune:r0",
        "synthesize:r1",
        "finetune:r1",
        "export:Q8_0:r0",
    } <= keys


@pytest.mark.slow
def test_a_project_is_migrated_over_http_and_the_key_stays_out_of_every_file(
    project_folder: Path, server: FakeOpenAI
) -> None:
    done = command("run", project_folder, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert_complete(result, project_folder)
    assert server.delivered.total() > 100
    texts = [done.stdout.encode(), done.stderr.encode()]
    texts += [path.read_bytes() for path in project_folder.rglob("*") if path.is_file()]
    assert not [text for text in texts if KEY.encode() in text]
    again = command("run", project_folder, "--json")
    assert json.loads(again.stdout)["is_complete"]
    assert "Nothing left to do" in again.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_loop_resumes_without_asking_for_a_stored_reply_again(
    project_folder: Path, server: FakeOpenAI
) -> None:
    server.settings.latency_s = 0.05
    # A checkpoint is written at every step: at the sixth, earlier ones are complete.
    stages = (("judge", None, 1), ("finetune", 0, 6), ("synthesize", 1, 1))
    for stage, number, units in stages:
        outcome = WatchedJob(project_folder).kill_during(stage, number, units)
        assert outcome.status == "interrupted"
        assert "resume" in outcome.error
    final = command("run", project_folder, "--json")
    assert final.returncode == 0, final.stderr[-3000:]
    assert_complete(json.loads(final.stdout), project_folder)
    with Project.open(project_folder) as project:
        usage = project.replies.usage()
        resumed = project.runs.by_key("finetune:r0")
    assert resumed is not None
    assert resumed.summary["resumed_from_step"] is not None
    answered = usage.requests - usage.failed
    assert answered <= server.delivered.total() <= answered + usage.lost_in_flight
    assert usage.lost_in_flight <= 3 * 8


@pytest.mark.slow
def test_a_cancelled_loop_keeps_what_is_finished_and_says_so(project_folder: Path) -> None:
    job = WatchedJob(project_folder)
    job.wait_for(lambda e: isinstance(e, Progress) and e.units == "judgements" and e.done > 0)
    job.handle.cancel()
    result = job.handle.wait(60)
    assert (result.status, result.error) == ("cancelled", "Stopped; finished work is kept.")
    with Project.open(project_folder) as project:
        statuses = {run.key: run.status for run in project.runs.all()}
        assert statuses["pipeline"] is RunStatus.CANCELLED
        assert statuses["infer:service:validation"] is RunStatus.SUCCEEDED
        assert project.judgements.totals()[0] > 0


def test_a_wrong_key_ends_in_one_sentence_without_the_key(project_folder: Path) -> None:
    failed = command("run", project_folder, "--json", key="sk-wrong-8888")
    assert failed.returncode == 1
    error = json.loads(failed.stdout)["error"]
    assert "key" in error
    assert "fake-model" in error
    assert "sk-wrong" not in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_unreachable_endpoint_ends_in_one_sentence(
    project_folder: Path, server: FakeOpenAI
) -> None:
    config = settings("http://127.0.0.1:9/v1")
    (project_folder / "pipeline.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    failed = command("run", project_folder, "--json")
    assert failed.returncode == 1
    assert "127.0.0.1:9" in json.loads(failed.stdout)["error"]
    assert "Traceback" not in failed.stderr
    assert not server.log


def test_a_base_model_that_is_not_there_ends_in_one_sentence(
    project_folder: Path, server: FakeOpenAI
) -> None:
    config = settings(server.url)
    config["student"]["base_model"] = "./no-such-model"
    (project_folder / "pipeline.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    failed = command("finetune", project_folder, "--json")
    assert failed.returncode == 2
    assert "no-such-model" in json.loads(failed.stdout)["error"]
    assert "Traceback" not in failed.stderr
