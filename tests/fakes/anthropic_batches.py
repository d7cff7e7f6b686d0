"""Anthropic's Message Batches for the fake server: create, poll, list, results, cancel."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from tests.fakes.anthropic_faults import problem
from tests.fakes.anthropic_rules import NAME
from tests.fakes.http_server import Request, Response

BatchOutcome = Literal["ended", "expired", "expired_unanswered"]
# The `result` of one request's parameters, asked with a version of the API.
Result = Callable[[dict[str, Any], str], dict[str, Any]]

PATH = "/v1/messages/batches"
MOST_REQUESTS = 100_000
_BATCH = re.compile(rf"{PATH}/(msgbatch_\d+)(/cancel|/results)?")


@dataclass
class BatchSettings:
    """How batches go; may be changed while the server runs.

    Attributes:
        delay_s: time from creation to the end.
        polls: how often a batch is asked after before it ends.
        outcome: whether all requests are got to, every other one, or none.
        lost_answers: of the next batches that are made, how many answers are lost on the way.
        refusals: of the next batches, how many are turned down with a 500 before they are made.
        page_size: most entries a list has.
        clock_skew_s: how far the server's clock is ahead.
    """

    delay_s: float = 0.0
    polls: int = 0
    outcome: BatchOutcome = "ended"
    lost_answers: int = 0
    refusals: int = 0
    page_size: int = 1000
    clock_skew_s: float = 0.0


@dataclass
class Batch:
    """One batch as it was handed in; `lines` are its results once it has ended."""

    id: str
    requests: list[dict[str, Any]]
    version: str
    made_at: float
    created_at: datetime
    status: Literal["in_progress", "canceling", "ended"] = "in_progress"
    polls: int = 0
    cancelled_at: datetime | None = None
    is_archived: bool = False
    lines: list[dict[str, Any]] = field(default_factory=list)


class BatchDesk:
    """Answers requests to `/v1/messages/batches`; `result` answers one request of a batch."""

    def __init__(self, settings: BatchSettings, result: Result) -> None:
        self._settings = settings
        self._result = result
        self.batches: dict[str, Batch] = {}

    def handle(self, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path == PATH:
            return self._create(request) if request.method == "POST" else self._list(request)
        found = _BATCH.fullmatch(path)
        batch = self.batches.get(found.group(1)) if found else None
        if found is None or batch is None:
            return problem(404, "not_found_error", "Message Batch not found.")
        if found.group(2) == "/results":
            return self._results(batch)
        if found.group(2) == "/cancel":
            return self._cancel(batch)
        batch.polls += 1
        self._go_on(batch)
        return Response.of_json(self._describe(batch))

    def _create(self, request: Request) -> Response | None:
        if self._settings.refusals:
            self._settings.refusals -= 1
            return problem(500, "api_error", "Internal server error")
        requests = request.json().get("requests")
        if not requests or len(requests) > MOST_REQUESTS:
            return problem(400, "invalid_request_error", "requests: 1 to 100000 are allowed")
        for number, entry in enumerate(requests):
            if not NAME.fullmatch(entry.get("custom_id", "")):
                text = f"requests.{number}.custom_id: String should match pattern '{NAME.pattern}'"
                return problem(400, "invalid_request_error", text)
        if len({entry["custom_id"] for entry in requests}) < len(requests):
            return problem(400, "invalid_request_error", "requests: custom_id must be unique")
        batch = Batch(
            f"msgbatch_{len(self.batches) + 1:04}",
            requests,
            request.headers["anthropic-version"],
            time.monotonic(),
            self._now(),
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
        if "after_id" in query:
            ids = [batch.id for batch in newest_first]
            newest_first = newest_first[ids.index(query["after_id"][0]) + 1 :]
        return Response.of_json(page_of([self._describe(each) for each in newest_first], size))

    def _results(self, batch: Batch) -> Response:
        if batch.status != "ended" or batch.is_archived:
            return problem(404, "not_found_error", "No results are available for this batch.")
        # In no order that means anything, and in pieces that end within lines.
        lines = [json.dumps(line) for line in reversed(batch.lines)]
        data = ("\n".join(lines) + "\n").encode()
        pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
        return Response(content_type="application/x-jsonl", pieces=pieces)

    def _cancel(self, batch: Batch) -> Response:
        if batch.status == "ended":
            text = "Batch cannot be canceled because it has already ended."
            return problem(400, "invalid_request_error", text)
        batch.status = "canceling"
        batch.cancelled_at = self._now()
        return Response.of_json(self._describe(batch))

    def _go_on(self, batch: Batch) -> None:
        if batch.status == "ended":
            return
        count = len(batch.requests)
        if batch.status == "canceling":
            self._end(batch, count // 2, "canceled")
        elif self._is_due(batch):
            answered = {"ended": count, "expired": count // 2, "expired_unanswered": 0}
            self._end(batch, answered[self._settings.outcome], "expired")

    def _is_due(self, batch: Batch) -> bool:
        is_late = time.monotonic() - batch.made_at >= self._settings.delay_s
        return is_late and batch.polls > self._settings.polls

    def _end(self, batch: Batch, answered: int, otherwise: str) -> None:
        for number, entry in enumerate(batch.requests):
            is_answered = number < answered
            result = (
                self._result(entry["params"], batch.version) if is_answered else {"type": otherwise}
            )
            batch.lines.append({"custom_id": entry["custom_id"], "result": result})
        batch.status = "ended"

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._settings.clock_skew_s)

    def _describe(self, batch: Batch) -> dict[str, Any]:
        kinds = Counter(line["result"]["type"] for line in batch.lines)
        has_ended = batch.status == "ended"
        has_results = has_ended and not batch.is_archived
        now = self._now()
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": batch.status,
            "request_counts": {
                "processing": 0 if has_ended else len(batch.requests),
                **{k: kinds[k] for k in ("succeeded", "errored", "canceled", "expired")},
            },
            "created_at": rfc3339(batch.created_at),
            "expires_at": rfc3339(batch.created_at + timedelta(days=1)),
            "ended_at": rfc3339(now) if has_ended else None,
            "archived_at": rfc3339(now) if batch.is_archived else None,
            "cancel_initiated_at": rfc3339(batch.cancelled_at) if batch.cancelled_at else None,
            # The real one is an address of the API's; it must not be followed blindly.
            "results_url": f"https://elsewhere.example/{batch.id}" if has_results else None,
        }


def page_of(entries: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """The first page of a list, in the form all of Anthropic's lists have."""
    page = entries[:size]
    return {
        "data": page,
        "has_more": len(entries) > size,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def rfc3339(moment: datetime) -> str:
    """A time as it stands in bodies and headers."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
