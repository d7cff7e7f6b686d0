"""Measures how much of an allowed rate is used: our engine beside upstream's schedule.

    python -m tests.benchmarks.engine_rate [--rpm 1200] [--seconds 12] [--json]

A fake service in a process of its own allows `--rpm` requests a minute (a second's worth at
once), takes 0.2 s for a reply, and 5 % of the requests meet a fault. Upstream's schedule is
re-created from its description: a batch sized for jobs of 20 s, divided by the workers; every
failed job is repeated at once, ten times at most; then everybody sleeps for 60 s / batch size.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.errors import ProviderError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.providers.ledger import StoredReply
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project

LATENCY_S = 0.2
FAULT_SHARE = 0.05
UPSTREAM_JOB_S = 20
UPSTREAM_TRIES = 10


@dataclass
class Outcome:
    """What one way of sending achieved.

    Attributes:
        used: requests the service let in, as a share of the allowed rate.
        answered: good replies, as a share of the allowed rate.
        limited: 429s as a share of all requests.
        lost: requests without a reply in the end.
    """

    name: str
    seconds: float
    requests: int
    used: float
    answered: float
    limited: float
    lost: int


@contextlib.contextmanager
def fake_service(rpm: float) -> Iterator[str]:
    """The fake in a process of its own; yields its base URL."""
    command = [sys.executable, "-m", "tests.fakes.openai_server", "--rpm", str(rpm)]
    command += ["--latency", str(LATENCY_S), "--faults", str(FAULT_SHARE)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        assert server.stdin is not None
        server.stdin.close()


def counts_of(url: str) -> dict[str, int]:
    """What the service has counted so far."""
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/stats") as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


def request_number(service: ServiceConfig, number: int) -> ChatRequest:
    return ChatRequest.for_service(service, (Message("user", f"question {number}"),), "answer")


def engine_run(service: ServiceConfig, seconds: float) -> tuple[float, dict[str, int], int]:
    """Seconds, the service's counts at their end, and requests without a reply in the end."""
    failed = 0
    at_the_end: dict[str, int] = {}

    def requests() -> Iterator[tuple[ChatRequest, int]]:
        number = 0
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            yield request_number(service, number), number
            number += 1
        at_the_end.update(counts_of(service.base_url or ""), elapsed_ms=elapsed_ms(started))

    def take(_number: int, reply: StoredReply) -> None:
        nonlocal failed
        failed += bool(reply.error)

    folder = Path(tempfile.mkdtemp()) / "project"
    with Project.create(folder, PipelineConfig()) as project:
        context = JobContext(emit=lambda _event: None)
        engine = RequestEngine(make_provider(service, {}), service, project.replies, None, context)
        engine.run_blocking(requests(), take)
    shutil.rmtree(folder.parent)
    final = counts_of(service.base_url or "")
    at_the_end["status_429"] = final.get("status_429", 0)
    at_the_end["requests"] = final["requests"]
    return at_the_end["elapsed_ms"] / 1000, at_the_end, failed


def upstream_run(
    service: ServiceConfig, seconds: float, workers: int
) -> tuple[float, dict[str, int], int]:
    """The same for batches and sleeps."""
    rpm = service.max_rpm or 0
    batch = max(1, int(rpm / 60 * UPSTREAM_JOB_S / workers))
    provider = make_provider(service, {})
    lost = 0

    async def job(number: int) -> None:
        nonlocal lost
        for _ in range(UPSTREAM_TRIES):
            with contextlib.suppress(ProviderError):
                await provider.complete(request_number(service, number))
                return
        lost += 1

    async def batches() -> float:
        started = time.monotonic()
        number = 0
        while time.monotonic() - started < seconds:
            await asyncio.gather(*(job(number + place) for place in range(batch)))
            number += batch
            await asyncio.sleep(60 / batch)
        await provider.close()
        return time.monotonic() - started

    elapsed = asyncio.run(batches())
    return elapsed, counts_of(service.base_url or ""), lost


def elapsed_ms(started: float) -> int:
    return round(1000 * (time.monotonic() - started))


def measure(
    name: str, rpm: int, run: Callable[[ServiceConfig], tuple[float, dict[str, int], int]]
) -> Outcome:
    """One way of sending against a fresh service."""
    with fake_service(rpm) as url:
        service = ServiceConfig(
            provider="openai_compatible",
            model="fake-model",
            base_url=url,
            max_rpm=rpm,
            concurrency=64,
        )
        seconds, counts, lost = run(service)
    allowed = rpm * seconds / 60
    return Outcome(
        name=name,
        seconds=round(seconds, 1),
        requests=counts["requests"],
        used=counts["admitted"] / allowed,
        answered=counts["delivered"] / allowed,
        limited=counts.get("status_429", 0) / max(1, counts["requests"]),
        lost=lost,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rpm", type=int, default=1200)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    importlib.import_module("openai")  # a second that belongs to none of them
    outcomes = [
        measure("engine", options.rpm, lambda it: engine_run(it, options.seconds)),
        *(
            measure(
                f"upstream, {workers} workers",
                options.rpm,
                lambda it, workers=workers: upstream_run(it, options.seconds, workers),
            )
            for workers in (10, 100)
        ),
    ]
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes]))
        return
    print(
        f"{'':24}{'used':>8}{'answered':>10}{'429s':>8}{'lost':>6}   of {options.rpm} rpm allowed"
    )
    for it in outcomes:
        print(f"{it.name:24}{it.used:8.1%}{it.answered:10.1%}{it.limited:8.1%}{it.lost:6d}")
    print(f"engine / upstream with 100 workers: {outcomes[0].answered / outcomes[2].answered:.1f}x")


if __name__ == "__main__":
    main()
