"""kill -9 at thirty random moments of synthesis and judging: nothing paid is asked for again."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig, validate_config
from llamaduo_gui.core.types import Message, Record, RecordStatus, RunStatus, Split, Stage
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.pricing import estimate_usd
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewCandidate, ReplyRow
from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI, Settings, content_digest
from tests.integration.killable_stages import ANSWERS, JUDGING, SYNTHESIS

KILLS = 30
ROUNDS = 3
CONCURRENCY = 4
PAIRS_WANTED = 120
PAIRS_PER_REQUEST = 2
JUDGES = ("judge-a", "judge-b")
REPEATS = 2
CANDIDATES = 20
JUDGEMENTS = CANDIDATES * len(JUDGES) * REPEATS
TIMEOUT_S = 60.0


def words(rng: random.Random, count: int) -> str:
    return " ".join("".join(rng.choices("bdfgklmnprstvz", k=6)) for _ in range(count))


def settings(url: str) -> PipelineConfig:
    service: dict[str, Any] = {
        "provider": "openai_compatible",
        "base_url": url,
        "concurrency": CONCURRENCY,
        "max_tokens": 500,
        "price": {"input": 10, "output": 50},
    }
    values = {
        "teacher": {**service, "model": "teacher"},
        "judges": [{**service, "model": name, "repeats": REPEATS} for name in JUDGES],
        "synthesis": {"pairs_per_round": PAIRS_WANTED, "pairs_per_request": PAIRS_PER_REQUEST},
        "decision": {"resamples": 200},
    }
    return validate_config(values)


def make_project(folder: Path, url: str) -> None:
    """Coverage records, and answers of a student that wait to be judged."""
    rng = random.Random(5)
    coverage = []
    for number in range(40):
        turns = (Message("user", words(rng, 8)), Message("assistant", words(rng, 3)))
        split = Split.TRAIN if number < 20 else Split.VALIDATION
        coverage.append((Record(turns, "a", f"id-{number}"), split, f"coverage:{number}"))
    with Project.create(folder, settings(url)) as project:
        project.records.add_coverage(coverage)
        run = project.runs.find_or_create(ANSWERS, Stage.INFER, split=Split.VALIDATION)
        validation = project.records.by_split(Split.VALIDATION)[:CANDIDATES]
        project.candidates.add(
            [NewCandidate(run.id, row.id, 0, words(rng, 3), seed=0) for row in validation]
        )


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    rng = random.Random(6)
    pool = [(words(rng, 8), words(rng, 3)) for _ in range(2000)]
    with FakeOpenAI(Settings(latency_s=0.02), Answers(pool=pool)) as it:
        yield it


class Stages:
    """The process whose forks run the stages, and its answers as they come."""

    def __init__(self, repository: Path) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.killable_stages"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=repository,
            env={**os.environ, **threads},
        )
        self._answers: queue.Queue[int] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(int(line))

    def begin(self, stage: str, folder: Path) -> int:
        """Start a stage; returns its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{stage}\t{folder}\n")
        self._process.stdin.flush()
        return self._answers.get(timeout=TIMEOUT_S)

    @property
    def has_ended(self) -> bool:
        return not self._answers.empty()

    def result(self) -> int:
        """Exit status of the stage, negative if a signal ended it."""
        return self._answers.get(timeout=TIMEOUT_S)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        self._process.stdout.close()


@pytest.fixture
def stages(repository: Path) -> Iterator[Stages]:
    process = Stages(repository)
    yield process
    process.close()


def kill_at_some_moment(
    stages: Stages, server: FakeOpenAI, stage: str, folder: Path, rng: random.Random
) -> None:
    """Begin a stage and kill it before its first or after some requests, anywhere in between."""
    after = server.admitted + rng.randint(-1, 8)
    wait_s = rng.uniform(0, 0.03)
    pid = stages.begin(stage, folder)
    deadline = time.monotonic() + TIMEOUT_S
    while server.admitted <= after and not stages.has_ended:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(wait_s)
    assert not stages.has_ended, "the stage was over before it could be killed"
    os.kill(pid, signal.SIGKILL)
    assert stages.result() == -signal.SIGKILL
    while server.open_requests:
        time.sleep(0.001)


def rows_of(project: Project, key: str) -> list[ReplyRow]:
    """All requests of a run."""
    run = project.runs.by_key(key)
    assert run is not None
    with contextlib.closing(sqlite3.connect(project.paths.database)) as connection:
        query = "SELECT request_key FROM replies WHERE run_id = ?"
        keys = connection.execute(query, (run.id,)).fetchall()
    rows = [project.replies.find(key) for (key,) in keys]
    return [row for row in rows if row is not None]


def digest_of(row: ReplyRow) -> str:
    request = row.request
    body = {"model": row.model, "messages": request["messages"]}
    return content_digest({**body, "temperature": request["temperature"]})


def assert_nothing_twice(server: FakeOpenAI, rows: list[ReplyRow], before: Counter[str]) -> int:
    """Every delivery became a stored reply or was lost under way; returns how many were lost."""
    assert {row.state for row in rows} == {"done"}
    assert len({row.request_key for row in rows}) == len(rows)
    delivered = server.delivered - before
    stored = Counter(digest_of(row) for row in rows)
    losses = Counter[str]()
    for row in rows:
        losses[digest_of(row)] += row.losses
    assert set(stored) == set(delivered)
    for digest, count in delivered.items():
        assert stored[digest] <= count <= stored[digest] + losses[digest]
    return losses.total()


def assert_losses_are_priced(project: Project, config: PipelineConfig, key: str) -> None:
    """The cost of the losses is the most that each lost request may have cost."""
    services = {service.model: service for service in (config.teacher, *config.judges) if service}
    rows = rows_of(project, key)
    run = project.runs.by_key(key)
    assert run is not None
    expected = 0.0
    for row in rows:
        service = services[row.model]
        turns = tuple(Message(turn["role"], turn["content"]) for turn in row.request["messages"])
        request = ChatRequest.for_service(service, turns, "judge")
        least = estimate_usd(service, request) or 0.0
        assert (row.lost_usd or 0.0) >= row.losses * least
        expected += row.lost_usd or 0.0
    usage = project.replies.usage(run.id)
    assert usage.lost_in_flight == sum(row.losses for row in rows)
    assert usage.lost_usd == pytest.approx(expected)
    assert json.dumps(run.summary)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes to kill them")
def test_after_thirty_kills_every_reply_is_there_once_and_only_what_was_under_way_is_lost(
    tmp_path: Path, server: FakeOpenAI, stages: Stages
) -> None:
    rng = random.Random(20261122)
    kills = lost = 0
    for number in range(ROUNDS):
        folder = tmp_path / f"project-{number}"
        make_project(folder, server.url)
        for stage, key in (("synthesize", SYNTHESIS), ("judge", JUDGING)):
            before = server.delivered.copy()
            for _ in range(KILLS // ROUNDS // 2):
                kill_at_some_moment(stages, server, stage, folder, rng)
                kills += 1
            stages.begin(stage, folder)
            assert stages.result() == 0
            with Project.open(folder) as project:
                now = assert_nothing_twice(server, rows_of(project, key), before)
                assert_losses_are_priced(project, settings(server.url), key)
                lost += now
                if stage == "synthesize":
                    assert_round_is_full(project)
                else:
                    assert_all_is_judged(project)
    assert kills == KILLS
    under_way = CONCURRENCY * (1 + len(JUDGES)) * KILLS // 2
    assert 0 < lost <= under_way, "the kills hit work, and cost no more than what was under way"


def assert_round_is_full(project: Project) -> None:
    run = project.runs.by_key(SYNTHESIS)
    assert run is not None
    assert run.status is RunStatus.SUCCEEDED
    kept = project.records.synthetic(1, RecordStatus.KEPT)
    assert len(kept) == len({row.source for row in kept}) == PAIRS_WANTED
    assert len({row.record.instruction for row in kept}) == PAIRS_WANTED
    assert run.summary["requests"] == PAIRS_WANTED // PAIRS_PER_REQUEST


def assert_all_is_judged(project: Project) -> None:
    run, answers = project.runs.by_key(JUDGING), project.runs.by_key(ANSWERS)
    assert run is not None
    assert answers is not None
    assert run.status is RunStatus.SUCCEEDED
    judgements = project.judgements.of_candidates(answers.id)
    places = {(it.candidate_id, it.judge, it.repeat) for it in judgements}
    assert len(judgements) == len(places) == JUDGEMENTS
    assert all(it.is_scored for it in judgements)
