"""Measures how much of an allowed rate is used: our engine beside other ways of sending.

    python -m tests.benchmarks.engine_rate [--rpm 1200] [--seconds 12] [--json] [--check]

A fake service in a process of its own allows `--rpm` requests a minute (a second's worth at
once), takes 0.2 s for a reply, and 5 % of the requests meet a fault. The engine is given the
limit, or learns it from the answers' headers, or is limited in tokens a minute instead.

Others meet the same service. One paces first attempts with this project's own limiter and leaves
retries to the SDK, which sends them around it; one leaves everything to the SDK, 64 at a time. The
last is upstream's schedule, re-created from its description: a batch sized for jobs of 20 s,
divided by the workers; every failed job is repeated at once, ten times at most; then everybody
sleeps for 60 s / batch size.

With `--check` it fails where the engine uses less than 97 % of the limit, meets 429s with 1 % of
its requests or more, or loses one. It takes about two minutes.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.errors import ProviderError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.engine import RequestEngine
from llamaduo_gui.providers.ledger import StoredReply
from llamaduo_gui.providers.limiter import RateLimiter
from llamaduo_gui.providers.limits import forget_limits
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project

LATENCY_S = 0.2
FAULT_SHARE = 0.05
UPSTREAM_JOB_S = 20
UPSTREAM_TRIES = 10
TOKENS_PER_MINUTE = 120_000
# About 200 tokens, so that tokens run out long before requests do.
LONG_PROMPT = "Explain in a few words what is asked for here, and why. " * 14

# What is sent at first fills the bucket once; the rate is measured after that.
WARM_UP_S = 2.0
# Overload by retries builds up slowly: 5 % of 20 requests a second.
SDK_RUN_TIMES = 4


@dataclass
class Outcome:
    """What one way of sending achieved.

    Attributes:
        used: requests (or tokens) the service let in, as a share of the allowed rate.
        answered: good replies, as a share of the requests let in.
        limited: 429s as a share of all requests.
        lost: questions without a reply in the end, as a share of them.
    """

    name: str
    seconds: float
    requests: int
    used: float
    answered: float
    limited: float
    lost: float


@dataclass
class Sent:
    """What one way of sending did: `let_in` of the limit's units in `seconds`, and the rest."""

    seconds: float
    let_in: int
    asked: int
    lost: int


Run = Callable[[ServiceConfig], Sent]


@contextlib.contextmanager
def fake_service(*options: str) -> Iterator[str]:
    """The fake in a process of its own; yields its base URL."""
    command = [sys.executable, "-m", "tests.fakes.openai_server", *options]
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


def request_number(service: ServiceConfig, number: int, text: str = "") -> ChatRequest:
    message = Message("user", f"question {number} {text}")
    return ChatRequest.for_service(service, (message,), "answer")


class Stretch:
    """Counts what the service lets in between the warm-up and the end."""

    def __init__(self, service: ServiceConfig, seconds: float) -> None:
        self._url = service.base_url or ""
        self._unit = "tokens" if service.max_tpm else "admitted"
        self._seconds = seconds
        self._started = self._since = time.monotonic()
        self._before: int | None = None
        self.let_in = 0
        self.elapsed_s = 0.0

    def goes_on(self) -> bool:
        """Whether to send another; False once, at the end."""
        now = time.monotonic()
        if self._before is None and now - self._started >= WARM_UP_S:
            self._before, self._since = counts_of(self._url)[self._unit], time.monotonic()
        if now - self._started < self._seconds:
            return True
        self.let_in = counts_of(self._url)[self._unit] - (self._before or 0)
        self.elapsed_s = time.monotonic() - self._since
        return False


def engine_run(service: ServiceConfig, seconds: float, text: str = "") -> Sent:
    """The request engine with a project database, as stages use it."""
    asked = failed = 0
    stretch = Stretch(service, seconds)

    def requests() -> Iterator[tuple[ChatRequest, int]]:
        nonlocal asked
        while stretch.goes_on():
            yield request_number(service, asked, text), asked
            asked += 1

    def take(_number: int, reply: StoredReply) -> None:
        nonlocal failed
        failed += bool(reply.error)

    forget_limits()
    folder = Path(tempfile.mkdtemp()) / "project"
    with Project.create(folder, PipelineConfig()) as project:
        context = JobContext(emit=lambda _event: None)
        engine = RequestEngine(make_provider(service, {}), service, project.replies, None, context)
        engine.run_blocking(requests(), take)
    shutil.rmtree(folder.parent)
    return Sent(stretch.elapsed_s, stretch.let_in, asked, failed)


def sdk_run(service: ServiceConfig, seconds: float, *, is_paced: bool) -> Sent:
    """First attempts paced, or 64 at a time; the SDK sends retries by itself (two, its default)."""
    import openai

    client = openai.AsyncOpenAI(base_url=service.base_url, api_key="none")
    limiter = RateLimiter(service.max_rpm)
    slots = asyncio.Semaphore(service.concurrency)
    lost = 0
    stretch = Stretch(service, seconds)

    async def job(number: int) -> None:
        nonlocal lost
        try:
            await client.chat.completions.create(
                model=service.model,
                messages=[{"role": "user", "content": f"question {number}"}],
            )
        except openai.OpenAIError:
            lost += 1
        finally:
            slots.release()

    async def all_jobs() -> int:
        jobs = []
        while stretch.goes_on():
            if is_paced:
                await limiter.acquire(1)
                limiter.release()
            await slots.acquire()
            jobs.append(asyncio.create_task(job(len(jobs))))
        await asyncio.gather(*jobs)
        await client.close()
        return len(jobs)

    asked = asyncio.run(all_jobs())
    return Sent(stretch.elapsed_s, stretch.let_in, asked, lost)


def upstream_run(service: ServiceConfig, seconds: float, workers: int) -> Sent:
    """Batches of 400 / workers (at 1,200 requests a minute), then a sleep; whole cycles count."""
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

    async def batches() -> int:
        number = 0
        while time.monotonic() - started < seconds:
            await asyncio.gather(*(job(number + place) for place in range(batch)))
            number += batch
            await asyncio.sleep(60 / batch)
        await provider.close()
        return number

    started = time.monotonic()
    asked = asyncio.run(batches())
    elapsed = time.monotonic() - started
    return Sent(elapsed, counts_of(service.base_url or "")["admitted"], asked, lost)


def measure(
    name: str,
    run: Run,
    *,
    rpm: int | None = None,
    tpm: int | None = None,
    is_told: bool = True,
) -> Outcome:
    """One way of sending against a fresh service, which names its limits unless the user did."""
    options = ["--rpm", str(rpm)] if rpm else ["--tpm", str(tpm)]
    with fake_service(*options, *([] if is_told else ["--tells-limits"])) as url:
        service = ServiceConfig(
            provider="openai_compatible",
            model="fake-model",
            base_url=url,
            max_rpm=rpm if is_told else None,
            max_tpm=tpm if is_told else None,
            concurrency=64,
        )
        sent = run(service)
        counts = counts_of(url)
    return Outcome(
        name=name,
        seconds=round(sent.seconds, 1),
        requests=counts["requests"],
        used=sent.let_in / ((rpm or tpm or 0) * sent.seconds / 60),
        answered=counts["delivered"] / max(1, counts["admitted"]),
        limited=counts.get("status_429", 0) / max(1, counts["requests"]),
        lost=sent.lost / max(1, sent.asked),
    )


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """What the engine's own outcomes lack of what is promised."""
    return [
        f"{it.name}: {it.used:.1%} used, {it.limited:.1%} 429s, {it.lost:.1%} lost"
        for it in outcomes
        if it.used < 0.97 or it.limited >= 0.01 or it.lost
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rpm", type=int, default=1200)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="fail where the engine falls short")
    options = parser.parse_args()
    importlib.import_module("openai")  # a second that belongs to none of them
    rpm, seconds = options.rpm, options.seconds
    ours = [
        measure("engine", lambda it: engine_run(it, seconds), rpm=rpm),
        measure("engine, limit learnt", lambda it: engine_run(it, seconds), rpm=rpm, is_told=False),
        measure(
            "engine, tokens a minute",
            lambda it: engine_run(it, seconds, LONG_PROMPT),
            tpm=TOKENS_PER_MINUTE,
        ),
    ]
    others = [
        measure(
            "paced, SDK's retries",
            lambda it: sdk_run(it, SDK_RUN_TIMES * seconds, is_paced=True),
            rpm=rpm,
        ),
        measure(
            "64 at once, SDK's retries", lambda it: sdk_run(it, seconds, is_paced=False), rpm=rpm
        ),
    ]
    others += [
        measure(
            f"upstream, {workers} workers",
            lambda it, workers=workers: upstream_run(it, seconds, workers),
            rpm=rpm,
        )
        for workers in (10, 100)
    ]
    show([*ours, *others], rpm, as_json=options.json)
    if options.check and (problems := failures(ours)):
        sys.exit("; ".join(problems))


def show(outcomes: Sequence[Outcome], rpm: int, *, as_json: bool) -> None:
    """Print the table, or one JSON document."""
    if as_json:
        print(json.dumps([asdict(outcome) for outcome in outcomes]))
        return
    print(f"{'':26}{'used':>8}{'answered':>10}{'429s':>8}{'lost':>8}   of {rpm} rpm allowed")
    for it in outcomes:
        print(f"{it.name:26}{it.used:8.1%}{it.answered:10.1%}{it.limited:8.1%}{it.lost:8.1%}")
    print(f"engine / {outcomes[-1].name}: {outcomes[0].used / outcomes[-1].used:.0f}x")


if __name__ == "__main__":
    main()
