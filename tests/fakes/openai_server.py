"""A fake service LLM on loopback speaking OpenAI's chat completions, with faults on request.

As a script: `python -m tests.fakes.openai_server --pool FILE --port 0` prints its URL.
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
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.fakes.answers import Answers, read_pool
from tests.fakes.http_server import HttpServer, Request, Response

Fault = Literal[
    "rate_limit",
    "server_error",
    "overloaded",
    "drop",
    "truncated",
    "malformed_json",
    "malformed_content",
    "out_of_range",
    "refusal",
    "length",
    "web_page",
    "no_choices",
    "null_content",
    "no_usage",
    "error_in_200",
    "content_filter",
    "context_length",
    "no_credit",
    "bad_request",
    "hang",
]
# Those a retry of the same request gets over.
PASSING_FAULTS: tuple[Fault, ...] = ("server_error", "overloaded", "drop", "truncated")
HANG_S = 30.0
MODES = ("json_schema", "json_object", "plain")


@dataclass
class Settings:
    """How the server behaves; may be changed while it runs.

    Attributes:
        key: required API key, None for none.
        models: models that exist, empty for any.
        max_rpm: requests a minute; more are answered 429. A second's worth may come at once.
        latency_s: time an answer takes.
        faults: share of requests that get each fault, drawn from `seed`.
        script: faults of the next requests, in order, before any are drawn; None is no fault.
        structured: the most that `response_format` may ask for.
        refuses_max_tokens: wants `max_completion_tokens` instead.
        retry_after: how a 429 says when to come back; `retry_after_s` is when.
    """

    key: str | None = None
    models: tuple[str, ...] = ()
    max_rpm: float | None = None
    latency_s: float = 0.0
    faults: Mapping[Fault, float] = field(default_factory=dict)
    script: list[Fault | None] = field(default_factory=list)
    structured: Literal["json_schema", "json_object", "plain"] = "json_schema"
    refuses_max_tokens: bool = False
    retry_after: Literal["seconds", "date", "milliseconds", "none"] = "seconds"
    retry_after_s: float = 1.0
    token_delay_s: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Entry:
    """One request as it was answered. `at` is monotonic seconds; status 0 is a dropped one."""

    at: float
    digest: str
    status: int
    fault: Fault | None
    body: dict[str, Any]


@dataclass
class Bucket:
    """A token bucket that holds one second's worth of requests."""

    level: float | None = None
    filled_at: float = 0.0

    def take(self, rpm: float, now: float) -> bool:
        capacity = max(1.0, rpm / 60)
        if self.level is None:
            self.level, self.filled_at = capacity, now
        self.level = min(capacity, self.level + (now - self.filled_at) * rpm / 60)
        self.filled_at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


class FakeOpenAI:
    """The server; use it as a context manager.

    Attributes:
        log: every chat request, in the order of arrival.
        delivered: how often each content (by digest) got a complete, good reply.
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
        self._bucket = Bucket()
        self._random = random.Random(self.settings.seed)
        self._http = HttpServer(self._handle, port)

    @property
    def url(self) -> str:
        """What to use as `base_url`."""
        return f"{self._http.address}/v1"

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
        refused = self._refused_access(request)
        if refused is not None:
            return refused
        if request.method == "GET" and request.path == "/v1/models":
            models = self.settings.models or ("fake-model",)
            items = [{"id": name, "object": "model", "owned_by": "tests"} for name in models]
            return Response.of_json({"object": "list", "data": items})
        if request.method != "POST" or request.path != "/v1/chat/completions":
            return _problem(404, f"There is nothing at {request.path}.")
        self.open_requests += 1
        self.most_open = max(self.most_open, self.open_requests)
        try:
            return await self._chat(request.json())
        finally:
            self.open_requests -= 1

    def _refused_access(self, request: Request) -> Response | None:
        key = self.settings.key
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key is not None and given != key:
            # Some servers echo the key: nothing of this may reach the user.
            return _problem(401, f"Incorrect API key provided: {given}", "invalid_api_key")
        return None

    async def _chat(self, body: dict[str, Any]) -> Response | None:
        at = time.monotonic()
        digest = content_digest(body)
        fault = self._next_fault()
        response = self._refused_request(body, at)
        if response is None:
            await asyncio.sleep(self.settings.latency_s)
            response = await self._answer(body, fault)
        else:
            fault = None
        is_good = response is not None and response.status == 200 and not response.is_cut
        if is_good and fault not in ("malformed_json", "web_page", "no_choices", "error_in_200"):
            self.delivered[digest] += 1
        status = 0 if response is None else response.status
        self.log.append(Entry(at, digest, status, fault, body))
        return response

    def _next_fault(self) -> Fault | None:
        if self.settings.script:
            return self.settings.script.pop(0)
        draw = self._random.random()
        for fault, share in self.settings.faults.items():
            draw -= share
            if draw < 0:
                return fault
        return None

    def _refused_request(self, body: dict[str, Any], now: float) -> Response | None:
        settings = self.settings
        if settings.max_rpm is not None and not self._bucket.take(settings.max_rpm, now):
            return self._too_many()
        self.admitted += 1
        if settings.models and body.get("model") not in settings.models:
            return _problem(
                404, f"The model `{body.get('model')}` does not exist", "model_not_found"
            )
        if settings.refuses_max_tokens and "max_tokens" in body:
            return _problem(
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead.",
                "unsupported_parameter",
                "max_tokens",
            )
        kind = body.get("response_format", {}).get("type", "plain")
        if MODES.index(kind) < MODES.index(settings.structured):
            return _problem(
                400,
                f"Invalid parameter: 'response_format' of type '{kind}' is not supported.",
                "invalid_request_error",
                "response_format",
            )
        return None

    def _too_many(self) -> Response:
        response = _problem(429, "Rate limit reached", "rate_limit_exceeded")
        wait_s = self.settings.retry_after_s
        if self.settings.retry_after == "seconds":
            response.headers["Retry-After"] = f"{wait_s:g}"
        elif self.settings.retry_after == "milliseconds":
            response.headers["Retry-After-Ms"] = f"{1000 * wait_s:g}"
        elif self.settings.retry_after == "date":
            response.headers["Retry-After"] = email.utils.formatdate(
                time.time() + wait_s, usegmt=True
            )
        return response

    async def _answer(self, body: dict[str, Any], fault: Fault | None) -> Response | None:
        if fault == "drop":
            return None
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        failure = self._failure(fault)
        if failure is not None:
            return failure
        completion = self._completion(body, fault)
        if body.get("stream"):
            return self._stream(completion, fault)
        response = Response.of_json(completion)
        if fault == "malformed_json":
            response.body = response.body[: len(response.body) // 2]
        response.is_cut = fault == "truncated"
        return response

    def _failure(self, fault: Fault | None) -> Response | None:
        failures: dict[Fault, Response] = {
            "server_error": _problem(500, "The server had an error"),
            "overloaded": _problem(529, "Overloaded"),
            "content_filter": _problem(400, "Filtered by the content filter", "content_filter"),
            "context_length": _problem(
                400,
                "This model's maximum context length is 4096 tokens.",
                "context_length_exceeded",
            ),
            "no_credit": _problem(429, "You exceeded your current quota", "insufficient_quota"),
            "bad_request": _problem(400, "Something about the request is wrong"),
            "web_page": Response(200, b"<!doctype html><p>Welcome", "text/html"),
            "no_choices": Response.of_json({"choices": []}),
            "error_in_200": Response.of_json({"error": {"message": "upstream", "code": 502}}),
        }
        if fault == "rate_limit":
            return self._too_many()
        return failures.get(fault) if fault is not None else None

    def _completion(self, body: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        turns = [turn["content"] for turn in body["messages"] if turn["role"] == "user"]
        text = self.answers.answer(turns[-1] if turns else "")
        reason = "stop"
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if fault == "malformed_content":
            message["content"] = f"Certainly! Here you go: {text[: len(text) // 2]}"
        elif fault == "out_of_range":
            message["content"] = json.dumps(
                {name: {"reason": "!", "score": 150} for name in ("precision", "similarity")}
            )
        elif fault == "refusal":
            message.update(content=None, refusal="I cannot help with that.")
        elif fault == "length":
            reason = "length"
            message["content"] = text[: len(text) // 2]
        elif fault == "null_content":
            message["content"] = None
        prompt_tokens = sum(len(turn["content"]) for turn in body["messages"]) // 4
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(text) // 4 + 1}
        return {
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": None if fault == "no_usage" else usage,
        }

    def _stream(self, completion: dict[str, Any], fault: Fault | None) -> Response:
        choice = completion["choices"][0]
        text = choice["message"]["content"] or ""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": f"{word} "} for word in text.split(" ")[:-1]]
        deltas.append({"content": text.split(" ")[-1]})
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
        head = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "model": "fake-model"}
        events = [json.dumps({**head, "choices": [item]}) for item in choices]
        if fault == "malformed_json":
            events[1] = events[1][:-9]
        return Response(
            content_type="text/event-stream",
            pieces=[f"data: {event}\n\n".encode() for event in [*events, "[DONE]"]],
            piece_delay_s=self.settings.token_delay_s,
            is_cut=fault == "truncated",
        )


def content_digest(body: Mapping[str, Any]) -> str:
    """Hash of what is asked, whatever form the answer is to have."""
    content = [body.get("model"), body.get("messages"), body.get("temperature")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _problem(status: int, message: str, code: str = "", parameter: str | None = None) -> Response:
    error = {"message": message, "type": "fake_error", "code": code or None, "param": parameter}
    return Response.of_json({"error": error}, status)


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
    with FakeOpenAI(settings, answers, options.port) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
