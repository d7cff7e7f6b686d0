"""Gemini's files and batches for the fake server: upload, create, poll, list, results, cancel."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from tests.fakes.http_server import Request, Response

BatchOutcome = Literal["SUCCEEDED", "FAILED", "EXPIRED"]
# The answer to one request of a batch; None where it is lost.
Reply = Callable[[str, dict[str, Any]], Awaitable[Response | None]]

RPC_OF_HTTP = {400: 3, 403: 7, 404: 5, 429: 8, 499: 1, 500: 13, 503: 14}
_BATCH = re.compile(r"(batches/b\d+)(:cancel)?")
_CREATE = re.compile(r"models/([^/:]+):batchGenerateContent")
_DOWNLOAD = re.compile(r"(files/[a-z0-9-]+):download")


@dataclass
class BatchSettings:
    """How batches go; may be changed while the server runs.

    Attributes:
        polls: how often a batch is asked for before it is at its end.
        outcome: how batches end.
        problem: what a failed one complains of.
        results: whether answers come as a file or inline, and then with or without their keys.
        lost_answers: of the next batches that are made, how many answers are lost on the way.
        refusals: of the next batches, how many are turned down before they are made.
        has_broken_line: whether the file of results begins with half a line.
        page_size: most batches a list has.
    """

    polls: int = 1
    outcome: BatchOutcome = "SUCCEEDED"
    problem: str = "The input file could not be read."
    results: Literal["file", "inline", "inline_without_keys"] = "file"
    lost_answers: int = 0
    refusals: int = 0
    has_broken_line: bool = False
    page_size: int = 2


@dataclass
class Batch:
    """One batch as it was handed in; `items` are its results."""

    name: str
    label: str
    model: str
    lines: list[dict[str, Any]]
    created_at: str
    polls_left: int
    state: str = "PENDING"
    items: list[dict[str, Any]] = field(default_factory=list)


class BatchDesk:
    """Answers requests for files and batches; `reply` answers one line."""

    def __init__(self, settings: BatchSettings, reply: Reply) -> None:
        self._settings = settings
        self._reply = reply
        self.batches: dict[str, Batch] = {}
        self.files: dict[str, bytes] = {}
        self.removed: set[str] = set()

    def upload(self, request: Request, address: str) -> Response:
        """The steps of a resumable upload: start, then the bytes in pieces."""
        command = request.headers.get("x-goog-upload-command", "")
        if command == "start":
            name = f"files/in{len(self.files) + 1}"
            self.files[name] = b""
            url = f"{address}/upload/v1beta/files?upload_id={name}"
            return Response(200, b"{}", headers={"X-Goog-Upload-URL": url})
        name = parse_qs(urlsplit(request.path).query)["upload_id"][0]
        if int(request.headers["x-goog-upload-offset"]) != len(self.files[name]):
            return problem(400, "The offset is wrong.", "INVALID_ARGUMENT")
        self.files[name] += request.body
        if "finalize" not in command:
            return Response(200, b"", headers={"X-Goog-Upload-Status": "active"})
        value = {"name": name, "sizeBytes": str(len(self.files[name])), "state": "ACTIVE"}
        return Response.of_json({"file": value}, X_Goog_Upload_Status="final")

    async def handle(self, request: Request, path: str) -> Response | None:
        """A request below the API version; None where the answer is lost."""
        if (found := _CREATE.fullmatch(path)) is not None:
            return self._create(found.group(1), request.json())
        if (found := _DOWNLOAD.fullmatch(path)) is not None:
            return self._download(found.group(1))
        if path == "batches":
            return self._list(request)
        found = _BATCH.fullmatch(path)
        batch = self.batches.get(found.group(1)) if found is not None else None
        if found is None or batch is None or batch.name in self.removed:
            return problem(404, "Requested entity was not found.", "NOT_FOUND")
        if found.group(2):
            return self._cancel(batch)
        await self._go_on(batch)
        return Response.of_json(self._describe(batch))

    def _create(self, model: str, body: dict[str, Any]) -> Response | None:
        if self._settings.refusals:
            self._settings.refusals -= 1
            return problem(429, "Too many enqueued tokens.", "RESOURCE_EXHAUSTED")
        value = body.get("batch", {})
        file = value.get("inputConfig", {}).get("fileName")
        if not value.get("displayName") or file not in self.files:
            return problem(400, "batch.display_name or input file is missing.", "INVALID_ARGUMENT")
        number = len(self.batches) + 1
        batch = Batch(
            name=f"batches/b{number}",
            label=value["displayName"],
            model=model,
            lines=[json.loads(line) for line in self.files[file].split(b"\n") if line],
            created_at=f"2026-11-22T00:00:{number:02}Z",
            polls_left=self._settings.polls,
        )
        self.batches[batch.name] = batch
        if self._settings.lost_answers:
            self._settings.lost_answers -= 1
            return None
        return Response.of_json(self._describe(batch))

    def _list(self, request: Request) -> Response:
        query = parse_qs(urlsplit(request.path).query)
        size = min(self._settings.page_size, int(query.get("pageSize", ["50"])[0]))
        start = int(query.get("pageToken", ["0"])[0])
        page = list(self.batches.values())[start : start + size]
        value: dict[str, Any] = {"operations": [self._describe(batch) for batch in page]}
        if start + size < len(self.batches):
            value["nextPageToken"] = str(start + size)
        return Response.of_json(value)

    def _download(self, name: str) -> Response:
        if name not in self.files or name in self.removed:
            text = f"You do not have permission to access the File {name} or it may not exist."
            return problem(403, text, "PERMISSION_DENIED")
        return Response(200, self.files[name], "application/octet-stream")

    def _cancel(self, batch: Batch) -> Response:
        if batch.state not in ("PENDING", "RUNNING"):
            return problem(400, "The batch is not running.", "FAILED_PRECONDITION")
        batch.state = "CANCELLED"
        return Response.of_json({})

    async def _go_on(self, batch: Batch) -> None:
        if batch.state not in ("PENDING", "RUNNING"):
            return
        batch.state = "RUNNING"
        batch.polls_left -= 1
        if batch.polls_left > 0:
            return
        batch.state = self._settings.outcome
        if batch.state != "SUCCEEDED":
            return
        for line in batch.lines:
            item = await self._item(batch.model, line)
            if item is not None:
                batch.items.append(item)
        text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in batch.items)
        broken = '{"key": "half\n' if self._settings.has_broken_line else ""
        self.files[_file_of(batch)] = (broken + text).encode()

    async def _item(self, model: str, line: dict[str, Any]) -> dict[str, Any] | None:
        response = await self._reply(model, line["request"])
        if response is None:
            return None
        try:
            body = json.loads(response.body)
        except ValueError:
            return None
        if response.status == 200:
            return {"key": line["key"], "response": body}
        error = body["error"]
        code = RPC_OF_HTTP.get(response.status, 2)
        return {"key": line["key"], "error": {"code": code, "message": error["message"]}}

    def _describe(self, batch: Batch) -> dict[str, Any]:
        is_done = batch.state not in ("PENDING", "RUNNING")
        good = sum("response" in item for item in batch.items)
        stats = {
            "requestCount": str(len(batch.lines)),
            "successfulRequestCount": str(good),
            "failedRequestCount": str(len(batch.items) - good),
        }
        output = self._output(batch) if batch.state == "SUCCEEDED" else {}
        metadata = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "model": f"models/{batch.model}",
            "displayName": batch.label,
            "createTime": batch.created_at,
            "batchStats": stats,
            "state": f"BATCH_STATE_{batch.state}",
            "name": batch.name,
            **({"output": output} if output else {}),
        }
        operation: dict[str, Any] = {"name": batch.name, "metadata": metadata, "done": is_done}
        if output:
            operation["response"] = output
        if batch.state == "FAILED":
            operation["error"] = {"code": 3, "message": self._settings.problem}
        return operation

    def _output(self, batch: Batch) -> dict[str, Any]:
        if self._settings.results == "file":
            return {"responsesFile": _file_of(batch)}
        items = []
        # In any order, as the service is known to send them.
        for item in reversed(batch.items):
            entry = {name: value for name, value in item.items() if name != "key"}
            if self._settings.results == "inline":
                entry["metadata"] = {"key": item["key"]}
            items.append(entry)
        return {"inlinedResponses": {"inlinedResponses": items}}


def _file_of(batch: Batch) -> str:
    return f"files/batch-out{batch.name.removeprefix('batches/b')}"


def problem(
    status: int, message: str, name: str, details: list[dict[str, Any]] | None = None
) -> Response:
    """An error as Google's APIs send it."""
    error: dict[str, Any] = {"code": status, "message": message, "status": name}
    if details:
        error["details"] = details
    return Response.of_json({"error": error}, status)
