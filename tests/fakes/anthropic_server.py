"""A fake Anthropic on loopback: messages, streams, models and Message Batches, with faults.

As a script: `python -m tests.fakes.anthropic_server --pool FILE --port 0` prints its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import email.utils
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from tests.fakes.answers import Answers, read_pool
from tests.fakes.anthropic_batches import PATH as BATCHES
from tests.fakes.anthropic_batches import BatchDesk, BatchSettings, page_of, rfc3339
from tests.fakes.anthropic_faults import Fault, failure_of, problem
from tests.fakes.anthropic_messages import content_blocks, stream_of
from tests.fakes.anthropic_rules import VERSIONS, Structured, problem_of
from tests.fakes.http_server import HttpServer, Request, Response
from tests.fakes.limits import Bucket

# Those a retry of the same request gets over.
PASSING_FAULTS: tuple[Fault, ...] = ("server_error", "overloaded", "drop", "truncated")
# Good statuses without a reply in them.
SPOILT = ("malformed_json", "web_page", "no_content", "error_in_200")
HANG_S = 30.0
MODEL = "claude-fake"


@dataclass
class Settings:
    """How the server behaves; may be changed while it runs.

    Attributes:
        key: required API key, None for any.
        models: models that exist, empty for any.
        retired, deprecated: models that left service, and those about to.
        max_rpm: requests a minute; more are answered 429. A second's worth may come at once.
        max_tpm: tokens a minute, of prompts and replies, counted in the same way.
        tells_limits: whether answers have `anthropic-ratelimit-*` headers.
        latency_s: time an answer takes.
        faults: share of requests that get each fault, drawn from `seed`.
        script: faults of the next requests, in order, before any are drawn; None is no fault.
        structured: `output_config` and forced tools are taken, tools alone, or neither.
        refuses_temperature: takes none, as models since 4.7 do.
        cached_tokens, cache_write_tokens: of the prompt, out of and into the cache.
        thinking_tokens: written before the answer, in a block of their own.
        takes_batches: what the list of models says of that.
        retry_after: how a 429 says when to come back; `retry_after_s` is when.
    """

    key: str | None = None
    models: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    deprecated: tuple[str, ...] = ()
    max_rpm: float | None = None
    max_tpm: float | None = None
    tells_limits: bool = True
    latency_s: float = 0.0
    faults: Mapping[Fault, float] = field(default_factory=dict)
    script: list[Fault | None] = field(default_factory=list)
    structured: Structured = "json_schema"
    refuses_temperature: bool = False
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    thinking_tokens: int = 0
    takes_batches: bool = True
    retry_after: Literal["seconds", "date", "none"] = "seconds"
    retry_after_s: float = 1.0
    token_delay_s: float = 0.0
    seed: int = 0
    batches: BatchSettings = field(default_factory=BatchSettings)


@dataclass(frozen=True)
class Entry:
    """One request as it was answered. `at` is monotonic seconds; status 0 is a dropped one."""

    at: float
    digest: str
    status: int
    fault: Fault | None
    body: dict[str, Any]
    version: str


class FakeAnthropic:
    """The server; use it as a context manager.

    Attributes:
        log: every request for a message, in the order of arrival; not those in batches.
        delivered: how often each content (by digest) got a complete, good reply, live or in a
            batch.
        desk: the batches.
        admitted: requests the rate limit let in so far.
        open_requests, most_open: requests being answered now, and the most at any time.
    """

    def __init__(
        self, settings: Settings | None = None, answers: Answers | None = None, port: int = 0
    ) -> None:
        self.settings = settings or Settings()
        self.answers = answers or Answers()
        self.log: list[Entry] = []
        self.delivered: Counter[str] = Counter()
        self.admitted = 0
        self.open_requests = 0
        self.most_open = 0
        self.desk = BatchDesk(self.settings.batches, self._batch_result)
        self._requests, self._tokens = Bucket(), Bucket()
        self._random = random.Random(self.settings.seed)
        self._http = HttpServer(self._handle, port)

    @property
    def url(self) -> str:
        """What to use as `base_url`."""
        return self._http.address

    def __enter__(self) -> Self:
        self._http.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.stop()

    def counts(self) -> dict[str, int]:
        """Requests by status, and the good replies."""
        by_status = Counter(f"status_{entry.status}" for entry in self.log)
        totals = {"requests": len(self.log), "admitted": self.admitted}
        return {**totals, "delivered": self.delivered.total(), **by_status}

    async def _handle(self, request: Request) -> Response | None:
        if request.path == "/stats":
            return Response.of_json(self.counts())
        response = self._refused_access(request) or await self._route(request)
        if response is not None:
            now = time.time() + self.settings.batches.clock_skew_s
            response.headers["Date"] = email.utils.formatdate(now, usegmt=True)
        return response

    async def _route(self, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path.startswith(BATCHES):
            return self.desk.handle(request)
        if request.method == "GET" and path.startswith("/v1/models"):
            return self._models(path.removeprefix("/v1/models").strip("/"), request)
        if request.method != "POST" or path != "/v1/messages":
            return problem(404, "not_found_error", "Not found")
        self.open_requests += 1
        self.most_open = max(self.most_open, self.open_requests)
        try:
            return await self._message_request(request.json(), request.headers["anthropic-version"])
        finally:
            self.open_requests -= 1

    def _refused_access(self, request: Request) -> Response | None:
        given = request.headers.get("x-api-key")
        if given is None:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not given:
            return problem(401, "authentication_error", "x-api-key header is required")
        if self.settings.key is not None and given != self.settings.key:
            return problem(401, "authentication_error", f"invalid x-api-key: {given}")
        version = request.headers.get("anthropic-version")
        if version not in VERSIONS:
            text = "header is required" if version is None else f'"{version}" is not valid'
            return problem(400, "invalid_request_error", f"anthropic-version: {text}")
        return None

    def _models(self, name: str, request: Request) -> Response:
        settings = self.settings
        names = [*(settings.models or (MODEL,)), *settings.deprecated]
        if name:
            is_known = not settings.models or name in (*names, *settings.retired)
            if is_known:
                return Response.of_json(self._model(name))
            return problem(404, "not_found_error", f"model: {name}")
        query = parse_qs(urlsplit(request.path).query)
        if "after_id" in query:
            names = names[names.index(query["after_id"][0]) + 1 :]
        size = min(self.settings.batches.page_size, int(query.get("limit", ["20"])[0]))
        return Response.of_json(page_of([self._model(each) for each in names], size))

    def _model(self, name: str) -> dict[str, Any]:
        settings = self.settings
        is_leaving = name in (*settings.deprecated, *settings.retired)
        stage = "deprecated" if is_leaving else "active"
        return {
            "type": "model",
            "id": name,
            "display_name": name.replace("-", " ").title(),
            "created_at": "2026-01-01T00:00:00Z",
            "lifecycle": "retired" if name in settings.retired else stage,
            "retires_at": "2026-12-31T00:00:00Z" if is_leaving else None,
            "capabilities": {
                "batch": {"supported": settings.takes_batches},
                "structured_outputs": {"supported": settings.structured == "json_schema"},
            },
        }

    async def _message_request(self, body: dict[str, Any], version: str) -> Response | None:
        at = time.monotonic()
        digest = content_digest(body)
        fault = self._next_fault()
        response = self._limited(body, at) or self._refused(body, version)
        if response is None:
            await asyncio.sleep(self.settings.latency_s)
            response = await self._answer(body, fault)
        else:
            fault = None
        is_good = response is not None and response.status == 200 and not response.is_cut
        if is_good and fault not in SPOILT:
            self.delivered[digest] += 1
        if response is not None and self.settings.tells_limits:
            response.headers.update(self._limit_headers())
        status = 0 if response is None else response.status
        self.log.append(Entry(at, digest, status, fault, body, version))
        return response

    def _batch_result(self, parameters: dict[str, Any], version: str) -> dict[str, Any]:
        """The result of one request of a batch, which no rate limit is for."""
        fault = self._next_fault()
        failure = self._refused(parameters, version) or self._failure(fault)
        if fault == "drop":
            return {"type": "expired"}
        if failure is not None and failure.status != 200:
            return {"type": "errored", "error": json.loads(failure.body)}
        self.delivered[content_digest(parameters)] += 1
        return {"type": "succeeded", "message": self._message(parameters, fault)}

    def _next_fault(self) -> Fault | None:
        if self.settings.script:
            return self.settings.script.pop(0)
        draw = self._random.random()
        for fault, share in self.settings.faults.items():
            draw -= share
            if draw < 0:
                return fault
        return None

    def _limited(self, body: dict[str, Any], now: float) -> Response | None:
        settings = self.settings
        if settings.max_rpm is not None and not self._requests.take(settings.max_rpm, now):
            return self._too_many("requests")
        if settings.max_tpm is not None and not self._tokens.take(
            settings.max_tpm, now, prompt_tokens(body)
        ):
            return self._too_many("tokens")
        self.admitted += 1
        return None

    def _refused(self, body: dict[str, Any], version: str) -> Response | None:
        settings = self.settings
        model = body.get("model")
        is_gone = model in settings.retired
        if is_gone or (settings.models and model not in (*settings.models, *settings.deprecated)):
            return problem(404, "not_found_error", f"model: {model}")
        text = problem_of(
            body, version, settings.structured, refuses_temperature=settings.refuses_temperature
        )
        return None if text is None else problem(400, "invalid_request_error", text)

    def _too_many(self, kind: str) -> Response:
        text = f"This request would exceed your organization's rate limit of {kind} per minute"
        response = problem(429, "rate_limit_error", text)
        wait_s = self.settings.retry_after_s
        if self.settings.retry_after == "seconds":
            response.headers["Retry-After"] = f"{wait_s:g}"
        elif self.settings.retry_after == "date":
            response.headers["Retry-After"] = email.utils.formatdate(
                time.time() + wait_s, usegmt=True
            )
        return response

    def _limit_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        limits = (("requests", self.settings.max_rpm, self._requests),)
        limits += (("tokens", self.settings.max_tpm, self._tokens),)
        for kind, per_minute, bucket in limits:
            if per_minute is None:
                continue
            used = bucket.used(per_minute)
            now = datetime.now(UTC) + timedelta(seconds=self.settings.batches.clock_skew_s)
            whole_at = now + timedelta(seconds=used * 60 / per_minute)
            name = f"anthropic-ratelimit-{kind}"
            headers[f"{name}-limit"] = f"{per_minute:.0f}"
            headers[f"{name}-remaining"] = f"{max(0.0, per_minute - used):.0f}"
            headers[f"{name}-reset"] = rfc3339(whole_at)
        return headers

    async def _answer(self, body: dict[str, Any], fault: Fault | None) -> Response | None:
        if fault == "drop":
            return None
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        failure = self._failure(fault)
        if failure is not None:
            return failure
        message = self._message(body, fault)
        if body.get("stream"):
            return stream_of(message, fault, self.settings.token_delay_s)
        response = Response.of_json(message)
        if fault == "malformed_json":
            response.body = response.body[: len(response.body) // 2]
        response.is_cut = fault == "truncated"
        return response

    def _failure(self, fault: Fault | None) -> Response | None:
        if fault == "rate_limit":
            return self._too_many("requests")
        return failure_of(fault)

    def _message(self, body: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        turns = [turn["content"] for turn in body["messages"] if turn["role"] == "user"]
        text = self.answers.answer(turns[-1] if turns else "")
        reason = "tool_use" if "tools" in body else "end_turn"
        stops = {"length": "max_tokens", "context_full": "model_context_window_exceeded"}
        if fault in ("malformed_content", "length", "context_full"):
            reason = stops.get(fault, reason)
            text = text[: len(text) // 2]
        elif fault == "out_of_range":
            part = {"reason": "!", "score": 150}
            text = json.dumps({"precision": part, "similarity": part})
        elif fault == "lone_surrogate":
            text = f"\ud83d {text}"
        elif fault in ("refusal", "pause_turn"):
            reason, text = fault, ""
        explanation = "I cannot help with that."
        details = {"type": "refusal", "category": None, "explanation": explanation}
        message = {
            "id": "msg_fake",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content_blocks(body, text, thinks=self.settings.thinking_tokens > 0),
            "stop_reason": reason,
            "stop_sequence": None,
            "stop_details": details if fault == "refusal" else None,
            "usage": self._usage(body, text),
        }
        if fault == "no_usage":
            del message["usage"]
        return message

    def _usage(self, body: dict[str, Any], text: str) -> dict[str, Any]:
        settings = self.settings
        beside_cache = prompt_tokens(body) - settings.cached_tokens - settings.cache_write_tokens
        written = len(text) // 4 + 1 + settings.thinking_tokens
        if settings.max_tpm is not None:
            self._tokens.charge(written)
        return {
            "input_tokens": max(1, beside_cache),
            "cache_read_input_tokens": settings.cached_tokens,
            "cache_creation_input_tokens": settings.cache_write_tokens,
            "output_tokens": written,
            "output_tokens_details": {"thinking_tokens": settings.thinking_tokens},
        }


def content_digest(body: Mapping[str, Any]) -> str:
    """Hash of what is asked, whatever form the answer is to have."""
    names = ("model", "system", "messages", "temperature")
    content = [body.get(name) for name in names]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of system prompt and turns, four characters each."""
    texts = [str(body.get("system") or ""), *(turn["content"] for turn in body["messages"])]
    return sum(map(len, texts)) // 4 + 1


def main(arguments: list[str]) -> None:
    """Serve until standard input is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, help="JSONL with instruction and response")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    parser.add_argument("--rpm", type=float)
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--faults", type=float, default=0.0, help="share of passing faults")
    options = parser.parse_args(arguments)
    share = options.faults / len(PASSING_FAULTS)
    settings = Settings(
        key=options.key,
        max_rpm=options.rpm,
        latency_s=options.latency,
        faults=dict.fromkeys(PASSING_FAULTS, share),
    )
    answers = Answers(read_pool(options.pool) if options.pool else [])
    with FakeAnthropic(settings, answers, options.port) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
