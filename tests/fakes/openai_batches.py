"""OpenAI's files and batches for the fake server: upload, create, poll, list, results, cancel."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from tests.fakes.http_server import Request, Response

BatchOutcome = Literal["completed", "failed", "expired", "expired_unanswered"]
Reply = Callable[[dict[str, Any]], Awaitable[Response | None]]

_BATCH = re.compile(r"/v1/batches/(batch_\d+)(/cancel)?")
_FILE = re.compile(r"/v1/files/(file-\d+)(/content)?")


@dataclass
class BatchSettings:
    """How batches go; may be changed while the server runs.

    Attributes:
        delay_s: time from creation to the end; 0 ends a batch when it is first asked for.
        outcome: how batches end.
        problem: what a failed one complains of.
        lost_answers: of the next batches that are made, how many answers are lost on the way.
        refusals: of the next batches, how many are turned down before they are made.
        page_size: most batches a list has.
    """

    delay_s: float = 0.0
    outcome: BatchOutcome = "completed"
    problem: str = "Enqueued token limit reached for fake-model. Limit: 90,000 enqueued tokens."
    lost_answers: int = 0
    refusals: int = 0
    page_size: int = 100


@dataclass
class Batch:
    """One batch as it was handed in; `results` and `errors` are lines of its files."""

    id: str
    file_id: str
    metadata: dict[str, str]
    lines: list[dict[str, Any]]
    made_at: float
    created_at: int
    status: str = "validating"
    results: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class BatchDesk:
    """Answers requests to `/v1/files` and `/v1/batches`; `reply` answers one line."""

    def __init__(self, settings: BatchSettings, reply: Reply) -> None:
        self._settings = settings
        self._reply = reply
        self.batches: dict[str, Batch] = {}
        self.files: dict[str, bytes] = {}

    async def handle(self, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path == "/v1/files" and request.method == "POST":
            return self._upload(request)
        if path == "/v1/batches":
            return self._create(request.json()) if request.method == "POST" else self._list(request)
        if (found := _FILE.fullmatch(path)) is not None:
            return self._file(found.group(1))
        if (found := _BATCH.fullmatch(path)) is not None:
            batch = self.batches.get(found.group(1))
            if batch is None:
                return _problem(404, f"No batch found with id '{found.group(1)}'.")
            if found.group(2):
                return self._cancel(batch)
            await self._go_on(batch)
            return Response.of_json(self._describe(batch))
        return _problem(404, f"There is nothing at {path}.")

    def _upload(self, request: Request) -> Response:
        parts = read_form(request)
        if parts.get("purpose") != b"batch":
            return _problem(400, "purpose must be batch")
        name = f"file-{len(self.files) + 1}"
        self.files[name] = parts["file"]
        value = {"id": name, "object": "file", "bytes": len(parts["file"]), "purpose": "batch"}
        return Response.of_json({**value, "status": "processed", "filename": "batch.jsonl"})

    def _create(self, body: dict[str, Any]) -> Response | None:
        if self._settings.refusals:
            self._settings.refusals -= 1
            return _problem(500, "The server had an error")
        file_id = body.get("input_file_id", "")
        if body.get("endpoint") != "/v1/chat/completions" or body.get("completion_window") != "24h":
            return _problem(400, "endpoint or completion_window is wrong")
        if file_id not in self.files:
            return _problem(400, f"No file {file_id}")
        lines = [json.loads(line) for line in self.files[file_id].split(b"\n") if line]
        names = [line["custom_id"] for line in lines]
        if len(set(names)) != len(names) or max(map(len, names)) > 64:
            return _problem(400, "custom_id must be unique and short")
        batch = Batch(
            f"batch_{len(self.batches) + 1}",
            file_id,
            dict(body.get("metadata") or {}),
            lines,
            time.monotonic(),
            int(time.time()),
        )
        self.batches[batch.id] = batch
        if self._settings.lost_answers:
            self._settings.lost_answers -= 1
            return None
        return Response.of_json(self._describe(batch))

    def _list(self, request: Request) -> Response:
        query = parse_qs(urlsplit(request.path).query)
        size = min(self._settings.page_size, int(query.get("limit", ["20"])[0]))
        newest_first = list(reversed(self.batches.values()))
        if "after" in query:
            ids = [batch.id for batch in newest_first]
            newest_first = newest_first[ids.index(query["after"][0]) + 1 :]
        page = [self._describe(batch) for batch in newest_first[:size]]
        last = page[-1]["id"] if page else None
        more = len(newest_first) > size
        value = {"object": "list", "data": page, "has_more": more, "last_id": last}
        return Response.of_json(value)

    def _file(self, name: str) -> Response:
        if name not in self.files:
            return _problem(404, f"No such File object: {name}")
        data = self.files[name]
        # In pieces that end within lines.
        pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
        return Response(content_type="application/octet-stream", pieces=pieces)

    def _cancel(self, batch: Batch) -> Response:
        if batch.status in ("validating", "in_progress", "finalizing"):
            batch.status = "cancelling"
        return Response.of_json(self._describe(batch))

    async def _go_on(self, batch: Batch) -> None:
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return
        if batch.status == "cancelling":
            await self._answer_lines(batch, len(batch.lines) // 2, "batch_cancelled")
            batch.status = "cancelled"
            return
        share = (time.monotonic() - batch.made_at) / max(self._settings.delay_s, 1e-9)
        if share < 1:
            batch.status = "validating" if share < 0.2 else "in_progress"
            return
        outcome = self._settings.outcome
        if outcome == "completed":
            await self._answer_lines(batch, len(batch.lines), "")
        elif outcome == "expired":
            await self._answer_lines(batch, len(batch.lines) // 2, "batch_expired")
        batch.status = outcome.removesuffix("_unanswered")

    async def _answer_lines(self, batch: Batch, count: int, code: str) -> None:
        for number, line in enumerate(batch.lines):
            entry: dict[str, Any] = {"id": f"batch_req_{number}", "custom_id": line["custom_id"]}
            if number >= count:
                problem = {"code": code, "message": "This request was not executed."}
                batch.errors.append(json.dumps({**entry, "response": None, "error": problem}))
                continue
            response = await self._reply(line["body"])
            if response is None:
                continue
            try:
                body = json.loads(response.body)
            except ValueError:
                body = response.body.decode()
            answer = {"status_code": response.status, "request_id": "r", "body": body}
            # As it is where that is possible: replies may hold what ends a line elsewhere.
            is_ascii = "\\ud83d" in json.dumps(answer)
            value = {**entry, "response": answer, "error": None}
            text = json.dumps(value, ensure_ascii=is_ascii)
            (batch.results if response.status == 200 else batch.errors).append(text)
        for kind, lines in (("output", batch.results), ("error", batch.errors)):
            if lines:
                self.files[self._file_of(batch, kind)] = ("\n".join(lines) + "\n").encode()

    @staticmethod
    def _file_of(batch: Batch, kind: str) -> str:
        return f"file-{batch.id.removeprefix('batch_')}{'01' if kind == 'output' else '02'}"

    def _describe(self, batch: Batch) -> dict[str, Any]:
        is_failed = batch.status == "failed"
        problem = {"code": "token_limit_exceeded", "message": self._settings.problem}
        is_read = batch.status != "validating" and not is_failed
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "input_file_id": batch.file_id,
            "created_at": batch.created_at,
            "status": batch.status,
            "metadata": batch.metadata or None,
            "errors": {"object": "list", "data": [problem]} if is_failed else None,
            "output_file_id": self._file_of(batch, "output") if batch.results else None,
            "error_file_id": self._file_of(batch, "error") if batch.errors else None,
            "request_counts": {
                "total": len(batch.lines) if is_read else 0,
                "completed": len(batch.results),
                "failed": len(batch.errors),
            },
        }


def read_form(request: Request) -> dict[str, bytes]:
    """The fields and files of a multipart form, by name."""
    boundary = request.headers["content-type"].partition("boundary=")[2].strip('"')
    parts: dict[str, bytes] = {}
    for part in request.body.split(f"--{boundary}".encode())[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]+)"', head)
        if name is not None:
            parts[name.group(1).decode()] = body.removesuffix(b"\r\n")
    return parts


def _problem(status: int, message: str) -> Response:
    return Response.of_json({"error": {"message": message, "type": "fake_error"}}, status)
