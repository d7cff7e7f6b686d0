"""A fake service LLM on loopback speaking the Gemini API, live and in batches, with faults."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from tests.fakes.answers import Answers
from tests.fakes.gemini_batches import BatchDesk, BatchSettings, problem
from tests.fakes.http_server import HttpServer, Request, Response
from tests.fakes.limits import Bucket

Fault = Literal[
    "rate_limit",
    "tokens_per_minute",
    "daily_quota",
    "no_quota",
    "no_credit",
    "bare_429",
    "server_error",
    "overloaded",
    "deadline",
    "drop",
    "truncated",
    "malformed_json",
    "malformed_content",
    "out_of_range",
    "refusal",
    "safety",
    "blocked",
    "length",
    "thinking_only",
    "web_page",
    "no_candidates",
    "empty",
    "no_usage",
    "too_long",
    "too_large",
    "bad_request",
    "leaked_key",
    "expired_key",
    "location",
    "billing",
    "redirect",
    "hang",
]
# Those a retry of the same request gets over.
PASSING_FAULTS: tuple[Fault, ...] = ("server_error", "overloaded", "drop", "truncated")
# Answers of status 200 that are no good reply.
BROKEN: tuple[Fault, ...] = ("truncated", "malformed_json", "web_page", "no_candidates")
HANG_S = 30.0
MODES = ("json_schema", "json_object", "plain")
QUOTA = "type.googleapis.com/google.rpc.QuotaFailure"
EXHAUSTED = "You exceeded your current quota, please check your plan and billing details."

_VERSION = "/v1beta/"
_GENERATE = re.compile(r"models/([^/:]+):(generateContent|streamGenerateContent)")
_BODY_FIELDS = {"contents", "systemInstruction", "generationConfig", "safetySettings", "model"}
_CONFIG_FIELDS = {"maxOutputTokens", "temperature", "responseMimeType", "responseJsonSchema"}


@dataclass
class Settings:
    """How the server behaves; may be changed while it runs.

    Attributes:
        key: required API key, None for none.
        models: models that exist, empty for any.
        retired: models that left service.
        page_size: most models a list has.
        max_rpm: requests a minute; more are answered 429. A second's worth may come at once.
        latency_s: time an answer takes.
        faults: share of requests that get each fault, drawn from `seed`.
        script: faults of the next requests, in order, before any are drawn; None is no fault.
        structured: the most that a request may ask for.
        has_system: whether models take system instructions.
        retry_after_s: when a 429 says to come back.
        thinking_tokens, cached_tokens: what the usage of each reply tells of them.
        thoughts: the text of a thought before each answer, empty for none.
    """

    key: str | None = None
    models: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    page_size: int = 2
    max_rpm: float | None = None
    latency_s: float = 0.0
    faults: Mapping[Fault, float] = field(default_factory=dict)
    script: list[Fault | None] = field(default_factory=list)
    structured: Literal["json_schema", "json_object", "plain"] = "json_schema"
    has_system: bool = True
    retry_after_s: float = 1.0
    token_delay_s: float = 0.0
    thinking_tokens: int = 0
    cached_tokens: int = 0
    thoughts: str = ""
    seed: int = 0
    batches: BatchSettings = field(default_factory=BatchSettings)


@dataclass(frozen=True)
class Entry:
    """One request as it was answered. `at` is monotonic seconds; status 0 is a dropped one."""

    at: float
    digest: str
    status: int
    fault: Fault | None
    model: str
    body: dict[str, Any]
    headers: dict[str, str]


class FakeGemini:
    """The server; use it as a context manager.

    Attributes:
        log: every request for text, in the order of arrival; those of batches have no headers.
        calls: method and path of every HTTP request.
        delivered: how often each content (by digest) got a complete, good reply, live or in a
            batch.
        desk: files and batches.
        admitted: requests the rate limit let in so far.
        open_requests, most_open: requests being answered now, and the most at any time.
    """

    def __init__(
        self, settings: Settings | None = None, answers: Answers | None = None, port: int = 0
    ) -> None:
        self.settings = settings or Settings()
        self.answers = answers or Answers()
        self.log: list[Entry] = []
        self.calls: list[str] = []
        self.delivered: Counter[str] = Counter()
        self.admitted = 0
        self.open_requests = 0
        self.most_open = 0
        self.desk = BatchDesk(self.settings.batches, self._batched)
        self._bucket = Bucket()
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
        self.calls.append(f"{request.method} {request.path}")
        address = urlsplit(request.path)
        if address.path.startswith("/upload/v1beta/files"):
            if "upload_id" not in address.query and (refused := self._refused_access(request)):
                return refused
            return self.desk.upload(request, self.url)
        if not address.path.startswith(_VERSION):
            return Response(404, b"<!DOCTYPE html><title>Error 404 (Not Found)!!1", "text/html")
        refused = self._refused_access(request)
        if refused is not None:
            return refused
        path = address.path.removeprefix(_VERSION)
        if path == "models" and request.method == "GET":
            return self._models(parse_qs(address.query))
        found = _GENERATE.fullmatch(path)
        if found is None:
            return await self.desk.handle(request, path)
        is_stream = found.group(2) == "streamGenerateContent"
        if is_stream and parse_qs(address.query).get("alt") != ["sse"]:
            return problem(400, "Only alt=sse is faked.", "INVALID_ARGUMENT")
        return await self._generate(found.group(1), request.json(), request.headers, is_stream)

    def _refused_access(self, request: Request) -> Response | None:
        key = request.headers.get("x-goog-api-key")
        if self.settings.key is None or key == self.settings.key:
            return None
        if key is None:
            text = (
                "Method doesn't allow unregistered callers (callers without established identity)."
            )
            return problem(403, text, "PERMISSION_DENIED")
        return _bad_key("API key not valid. Please pass a valid API key.")

    def _models(self, query: dict[str, list[str]]) -> Response:
        names = [*(self.settings.models or ("fake-model",)), "fake-embedding"]
        size = min(self.settings.page_size, int(query.get("pageSize", ["50"])[0]))
        start = int(query.get("pageToken", ["0"])[0])
        items = [
            {
                "name": f"models/{name}",
                "displayName": name.replace("-", " ").title(),
                "supportedGenerationMethods": [
                    "embedContent" if name == "fake-embedding" else "generateContent"
                ],
            }
            for name in names[start : start + size]
        ]
        value: dict[str, Any] = {"models": items}
        if start + size < len(names):
            value["nextPageToken"] = str(start + size)
        return Response.of_json(value)

    async def _batched(self, model: str, body: dict[str, Any]) -> Response | None:
        return await self._generate(model, body, {}, is_stream=False)

    async def _generate(
        self, model: str, body: dict[str, Any], headers: dict[str, str], is_stream: bool
    ) -> Response | None:
        at = time.monotonic()
        fault = self._next_fault()
        digest = content_digest(model, body)
        self.open_requests += 1
        self.most_open = max(self.most_open, self.open_requests)
        try:
            # A batch has its own limits.
            refused = self._out_of_rate(at) if headers else None
            response = refused or self._invalid(model, body)
            if response is None:
                await asyncio.sleep(self.settings.latency_s)
                response = await self._answer(body, fault, is_stream)
        finally:
            self.open_requests -= 1
        status = 0 if response is None else response.status
        if status == 200 and fault not in BROKEN:
            self.delivered[digest] += 1
        self.log.append(Entry(at, digest, status, fault, model, body, headers))
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

    def _out_of_rate(self, now: float) -> Response | None:
        rpm = self.settings.max_rpm
        if rpm is not None and not self._bucket.take(rpm, now):
            return self._too_many()
        self.admitted += 1
        return None

    def _too_many(self) -> Response:
        name = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
        return self._exhausted(name, f"{self.settings.max_rpm or 15:g}")

    def _exhausted(self, quota: str, value: str) -> Response:
        metric = "generativelanguage.googleapis.com/generate_content_free_tier"
        violation = {"quotaMetric": metric, "quotaId": quota, "quotaValue": value}
        wait = {
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": f"{self.settings.retry_after_s:g}s",
        }
        details = [{"@type": QUOTA, "violations": [violation]}, wait]
        return problem(429, EXHAUSTED, "RESOURCE_EXHAUSTED", details)

    def _invalid(self, model: str, body: dict[str, Any]) -> Response | None:
        """What the real API turns down, in its words."""
        settings = self.settings
        config = body.get("generationConfig", {})
        if model in settings.retired:
            text = f"This model models/{model} is no longer available. Please use a newer model."
            return problem(404, text, "NOT_FOUND")
        if settings.models and model not in settings.models:
            text = (
                f"models/{model} is not found for API version v1beta, or is not supported for "
                "generateContent. Call ListModels to see the list of available models."
            )
            return problem(404, text, "NOT_FOUND")
        asked = "plain"
        if config.get("responseMimeType") == "application/json":
            asked = "json_schema" if "responseJsonSchema" in config else "json_object"
        said = _form_problem(body, config)
        if said is None and asked == "json_object" and settings.structured == "plain":
            said = f"JSON mode is not enabled for models/{model}"
        elif said is None and MODES.index(asked) < MODES.index(settings.structured):
            said = "Unknown name \"responseJsonSchema\" at 'generation_config': Cannot find field."
        elif said is None and "systemInstruction" in body and not settings.has_system:
            said = f"Developer instruction is not enabled for models/{model}"
        return problem(400, said, "INVALID_ARGUMENT") if said is not None else None

    async def _answer(
        self, body: dict[str, Any], fault: Fault | None, is_stream: bool
    ) -> Response | None:
        if fault == "drop":
            return None
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        failure = self._failure(fault)
        if failure is not None:
            return failure
        answer = self._completion(body, fault)
        if is_stream:
            return self._stream(answer, fault)
        response = Response.of_json(answer)
        if fault == "malformed_json":
            response.body = response.body[: len(response.body) // 2]
        response.is_cut = fault == "truncated"
        return response

    def _failure(self, fault: Fault | None) -> Response | None:
        day = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
        tokens = "GenerateContentInputTokensPerModelPerMinute-FreeTier"
        invalid, denied = "INVALID_ARGUMENT", "PERMISSION_DENIED"
        failures: dict[Fault, Response] = {
            "rate_limit": self._too_many(),
            "tokens_per_minute": self._exhausted(tokens, "250000"),
            "daily_quota": self._exhausted(day, "20"),
            "no_quota": self._exhausted(day, "0"),
            "no_credit": problem(
                429, "Your prepayment credits are depleted.", "RESOURCE_EXHAUSTED"
            ),
            "bare_429": problem(429, "Resource has been exhausted.", "RESOURCE_EXHAUSTED"),
            "server_error": problem(500, "An internal error has occurred.", "INTERNAL"),
            "overloaded": problem(503, "The model is overloaded.", "UNAVAILABLE"),
            "deadline": problem(504, "Deadline expired.", "DEADLINE_EXCEEDED"),
            "web_page": Response(200, b"<!doctype html><p>Welcome", "text/html"),
            "no_candidates": Response.of_json({"usageMetadata": {"promptTokenCount": 3}}),
            "too_long": problem(
                400,
                "The input token count (9) exceeds the maximum number of tokens allowed (8).",
                invalid,
            ),
            "too_large": problem(
                400, "Request payload size exceeds the limit: 20971520 bytes.", invalid
            ),
            "bad_request": problem(400, "Something about the request is wrong.", invalid),
            "leaked_key": problem(
                403, f"Consumer 'api_key:{self.settings.key}' was reported as leaked.", denied
            ),
            "expired_key": _bad_key("API key expired. Please renew the API key."),
            "location": problem(
                400, "User location is not supported for the API use.", "FAILED_PRECONDITION"
            ),
            "billing": problem(
                400,
                "Gemini API free tier is not available in your country. Please enable billing on "
                "your project in Google AI Studio.",
                "FAILED_PRECONDITION",
            ),
            "redirect": Response(302, headers={"Location": f"{self.url}/elsewhere"}),
        }
        return failures.get(fault) if fault is not None else None

    def _completion(self, body: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        turns = ["".join(part["text"] for part in turn["parts"]) for turn in body["contents"]]
        asked = [
            text
            for text, turn in zip(turns, body["contents"], strict=True)
            if turn.get("role", "user") == "user"
        ]
        text = self.answers.answer(asked[-1] if asked else "")
        usage: dict[str, Any] = {"promptTokenCount": sum(map(len, turns)) // 4 + 1}
        if fault == "blocked":
            return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}
        text, reason = _spoilt(text, fault)
        thought = [{"text": self.settings.thoughts, "thought": True}]
        parts = [*(thought if self.settings.thoughts else []), {"text": text}]
        usage["candidatesTokenCount"] = len(text) // 4 + 1
        if self.settings.thinking_tokens:
            usage["thoughtsTokenCount"] = self.settings.thinking_tokens
        if self.settings.cached_tokens:
            usage["cachedContentTokenCount"] = self.settings.cached_tokens
        content: dict[str, Any] = {"role": "model", "parts": parts}
        if fault == "thinking_only":
            usage["thoughtsTokenCount"] = body["generationConfig"]["maxOutputTokens"]
            del usage["candidatesTokenCount"]
        if fault in ("thinking_only", "safety", "empty"):
            content = {"role": "model"}
        answer: dict[str, Any] = {
            "candidates": [{"content": content, "finishReason": reason, "index": 0}],
            "modelVersion": "fake-model-001",
            "responseId": "fake",
        }
        return answer if fault == "no_usage" else {**answer, "usageMetadata": usage}

    def _stream(self, answer: dict[str, Any], fault: Fault | None) -> Response:
        chunks: list[dict[str, Any]] = []
        for candidate in answer.get("candidates", []):
            for part in candidate["content"].get("parts", []):
                words = part["text"].split(" ")
                pieces = [f"{word} " for word in words[:-1]] + words[-1:]
                chunks += [_chunk([{**part, "text": piece}]) for piece in pieces]
            ending = {name: value for name, value in candidate.items() if name != "content"}
            chunks.append(_chunk([], ending))
        if not chunks:
            chunks.append(answer)
        events = [json.dumps(chunk) for chunk in chunks]
        if fault == "malformed_json":
            events[1] = events[1][:-9]
        return Response(
            content_type="text/event-stream",
            pieces=[f"data: {event}\r\n\r\n".encode() for event in events],
            piece_delay_s=self.settings.token_delay_s,
            is_cut=fault == "truncated",
        )


def _chunk(parts: list[dict[str, Any]], ending: Mapping[str, Any] | None = None) -> dict[str, Any]:
    content = {"role": "model", "parts": parts}
    return {"candidates": [{"index": 0, "content": content, **(ending or {})}]}


def _spoilt(text: str, fault: Fault | None) -> tuple[str, str]:
    """Text and finish reason of an answer that a fault spoils."""
    scores = {name: {"reason": "!", "score": 150} for name in ("precision", "similarity")}
    spoilt: dict[Fault, tuple[str, str]] = {
        "malformed_content": (f"Certainly! Here you go: {text[: len(text) // 2]}", "STOP"),
        "out_of_range": (json.dumps(scores), "STOP"),
        "refusal": ("I cannot help with that.", "STOP"),
        "safety": ("", "SAFETY"),
        "length": (text[: len(text) // 2], "MAX_TOKENS"),
        "thinking_only": ("", "MAX_TOKENS"),
        "empty": ("", "STOP"),
    }
    return spoilt.get(fault, (text, "STOP")) if fault is not None else (text, "STOP")


def _form_problem(body: dict[str, Any], config: dict[str, Any]) -> str | None:
    """What is wrong with the form of a request, None if nothing is."""
    unknown = [*sorted(body.keys() - _BODY_FIELDS), *sorted(config.keys() - _CONFIG_FIELDS)]
    if unknown:
        return f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.'
    contents = body.get("contents") or []
    if not contents:
        return "* GenerateContentRequest.contents: contents is not specified"
    if any(turn.get("role", "user") not in ("user", "model") for turn in contents):
        return "Please use a valid role: user, model."
    system = [body["systemInstruction"]] if "systemInstruction" in body else []
    for turn in [*contents, *system]:
        parts = turn.get("parts") or []
        if not parts or any(not isinstance(part.get("text"), str) for part in parts):
            return "* GenerateContentRequest.contents[0].parts: contents.parts must not be empty."
    if not 0 <= config.get("temperature", 1) <= 2:
        return "temperature must be in the range [0.0, 2.0]."
    if not isinstance(config.get("maxOutputTokens", 1), int) or config.get("maxOutputTokens") == 0:
        return "max_output_tokens must be positive."
    if "responseJsonSchema" in config and config.get("responseMimeType") != "application/json":
        return "responseJsonSchema needs response_mime_type application/json."
    return None


def _bad_key(message: str) -> Response:
    info = "type.googleapis.com/google.rpc.ErrorInfo"
    details = [{"@type": info, "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]
    return problem(400, message, "INVALID_ARGUMENT", details)


def content_digest(model: str, body: Mapping[str, Any]) -> str:
    """Hash of what is asked, whatever form the answer is to have."""
    temperature = body.get("generationConfig", {}).get("temperature")
    content = [model, body.get("contents"), body.get("systemInstruction"), temperature]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
