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
from tests.fakes.limits import Bucket, openai_headers
from tests.fakes.openai_batches import BatchDesk, BatchSettings

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
    "choice_error",
    "filtered_reply",
    "lone_surrogate",
]
# Those a retry of the same request gets over.
PASSING_FAULTS: tuple[Fault, ...] = ("server_error", "overloaded", "drop", "truncated")
HANG_S = 30.0
# Good statuses without a reply in them.
SPOILT = ("malformed_json", "web_page", "no_choices", "error_in_200", "choice_error")
MODES = ("json_schema", "json_object", "plain")
ModelList = Literal["openai", "bare", "llama_cpp", "open_router", "null", "none"]


@dataclass
class Settings:
    """How the server behaves; may be changed while it runs.

    Attributes:
        key: required API key, None for none.
        models: models that exist, empty for any.
        retired: models that left service.
        model_list: the shape of the list of models; `none` has no list.
        max_rpm: requests a minute; more are answered 429. A second's worth may come at once.
        max_tpm: tokens a minute, of prompts and replies, counted in the same way.
        tells_limits: whether answers have `x-ratelimit-*` headers.
        latency_s: time an answer takes.
        faults: share of requests that get each fault, drawn from `seed`.
        script: faults of the next requests, in order, before any are drawn; None is no fault.
        structured: the most that `response_format` may ask for.
        refuses_max_tokens: wants `max_completion_tokens` instead.
        refuses_temperature: takes none, as reasoning models do.
        cached_tokens, reasoning_tokens: what the usage of each reply tells of them.
        cost_usd: what the usage says a reply cost, as OpenRouter's does.
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
    retired: tuple[str, ...] = ()
    model_list: ModelList = "openai"
    max_tpm: float | None = None
    tells_limits: bool = False
    refuses_temperature: bool = False
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    batches: BatchSettings = field(default_factory=BatchSettings)


@dataclass(frozen=True)
class Entry:
    """One request as it was answered. `at` is monotonic seconds; status 0 is a dropped one."""

    at: float
    digest: str
    status: int
    fault: Fault | None
    body: dict[str, Any]


class FakeOpenAI:
    """The server; use it as a context manager.

    Attributes:
        log: every chat request, in the order of arrival.
        delivered: how often each content (by digest) got a complete, good reply, live or in a
            batch.
        desk: files and batches.
        admitted: requests the rate limit let in so far; `tokens` those a token limit counted.
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
        self.tokens = 0
        self.open_requests = 0
        self.most_open = 0
        self.desk = BatchDesk(self.settings.batches, self._batch_line)
        self._bucket = Bucket()
        self._tokens = Bucket()
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
        totals = {"requests": len(self.log), "admitted": self.admitted, "tokens": self.tokens}
        return {**totals, "delivered": self.delivered.total(), **by_status}

    async def _handle(self, request: Request) -> Response | None:
        if request.path == "/stats":
            return Response.of_json(self.counts())
        refused = self._refused_access(request)
        if refused is not None:
            return refused
        if request.method == "GET" and request.path == "/v1/models":
            return self._model_list()
        if request.path.startswith(("/v1/files", "/v1/batches")):
            return await self.desk.handle(request)
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
        self._count(digest, response, fault)
        if response is not None and self.settings.tells_limits:
            response.headers.update(self._limit_headers())
        status = 0 if response is None else response.status
        self.log.append(Entry(at, digest, status, fault, body))
        return response

    async def _batch_line(self, body: dict[str, Any]) -> Response | None:
        """The answer to a line of a batch, which no rate limit is for."""
        fault = self._next_fault()
        response = self._refused_body(body) or await self._answer(body, fault)
        self._count(content_digest(body), response, fault)
        return response

    def _count(self, digest: str, response: Response | None, fault: Fault | None) -> None:
        is_good = response is not None and response.status == 200 and not response.is_cut
        if is_good and fault not in SPOILT:
            self.delivered[digest] += 1

    def _model_list(self) -> Response:
        names = self.settings.models or ("fake-model",)
        items: list[dict[str, Any]] = [
            {"id": name, "object": "model", "owned_by": "tests"} for name in names
        ]
        shapes: dict[ModelList, Any] = {
            "openai": {"object": "list", "data": items},
            "bare": items,
            "llama_cpp": {"models": [{"name": name, "model": name} for name in names]},
            "open_router": {"data": [{**item, "name": f"Test: {item['id']}"} for item in items]},
            "null": {"object": "list", "data": None},
        }
        if self.settings.model_list == "none":
            return _problem(404, "404 page not found")
        return Response.of_json(shapes[self.settings.model_list])

    def _limit_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self.settings.max_rpm is not None:
            headers |= openai_headers("requests", self.settings.max_rpm, self._bucket)
        if self.settings.max_tpm is not None:
            headers |= openai_headers("tokens", self.settings.max_tpm, self._tokens)
        return headers

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
        if settings.max_tpm is not None:
            tokens = prompt_tokens(body)
            if not self._tokens.take(settings.max_tpm, now, tokens):
                return self._too_many()
            self.tokens += tokens
        self.admitted += 1
        return self._refused_body(body)

    def _refused_body(self, body: dict[str, Any]) -> Response | None:
        settings = self.settings
        if body.get("model") in settings.retired:
            return _problem(
                404, f"The model `{body.get('model')}` has been deprecated", "model_not_found"
            )
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
        if settings.refuses_temperature and "temperature" in body:
            return _problem(
                400,
                f"Unsupported value: 'temperature' does not support {body['temperature']} with "
                "this model. Only the default (1) value is supported.",
                "unsupported_value",
                "temperature",
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
            "choice_error": Response.of_json(
                {"choices": [{"error": {"message": "relay", "code": 503}, "message": None}]}
            ),
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
        elif fault == "filtered_reply":
            reason = "content_filter"
            message["content"] = ""
        elif fault == "lone_surrogate":
            message["content"] = f"\ud83d {text}"
        usage = self._usage(body, text)
        if self.settings.max_tpm is not None:
            self._tokens.charge(usage["completion_tokens"])
            self.tokens += usage["completion_tokens"]
        return {
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": None if fault == "no_usage" else usage,
        }

    def _usage(self, body: dict[str, Any], text: str) -> dict[str, Any]:
        settings = self.settings
        written = len(text) // 4 + 1 + settings.reasoning_tokens
        read = prompt_tokens(body)
        usage: dict[str, Any] = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }
        if settings.cached_tokens:
            usage["prompt_tokens_details"] = {"cached_tokens": settings.cached_tokens}
        if settings.reasoning_tokens:
            details = {"reasoning_tokens": settings.reasoning_tokens}
            usage["completion_tokens_details"] = details
        if settings.cost_usd is not None:
            usage["cost"] = settings.cost_usd
        return usage

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


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """About how many tokens a request has."""
    return sum(len(turn["content"]) for turn in body["messages"]) // 4


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
    parser.add_argument("--tpm", type=float)
    parser.add_argument("--tells-limits", action="store_true", help="rate-limit headers")
    parser.add_argument("--batch-delay", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--faults", type=float, default=0.0, help="share of passing faults")
    options = parser.parse_args(arguments)
    share = options.faults / len(PASSING_FAULTS)
    settings = Settings(
        key=options.key,
        max_rpm=options.rpm,
        max_tpm=options.tpm,
        tells_limits=options.tells_limits,
        batches=BatchSettings(delay_s=options.batch_delay),
        latency_s=options.latency,
        faults=dict.fromkeys(PASSING_FAULTS, share),
    )
    answers = Answers(read_pool(options.pool) if options.pool else [])
    with FakeOpenAI(settings, answers, options.port) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
