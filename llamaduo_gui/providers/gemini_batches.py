"""Gemini's batches: requests go up as a file, their answers come down as one."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple

from llamaduo_gui.core.errors import FatalProviderError
from llamaduo_gui.providers.base import BatchState, BatchStatus
from llamaduo_gui.providers.gemini_session import GeminiSession

# A file may have 2 GB and an account's waiting prompts a few million tokens, by model and tier:
# more requests would meet the second limit first.
BATCH_LIMIT = 5000
FILE_TYPE = "application/jsonl"
PAGE_SIZE = 100

_STATES: dict[str, BatchState] = {
    "SUCCEEDED": "ended",
    "PARTIALLY_SUCCEEDED": "ended",
    "FAILED": "failed",
    "EXPIRED": "failed",
    "CANCELLED": "cancelled",
}


class Result(NamedTuple):
    """What came of one request of a batch: its answer as JSON, or a `google.rpc.Status`."""

    key: str
    response: Mapping[str, Any] | None
    error: Mapping[str, Any]


async def upload(
    session: GeminiSession, requests: Iterable[tuple[str, Mapping[str, Any]]], label: str
) -> str:
    """Send requests up by key; returns the name of the file (`files/...`, kept for 48 hours).

    WORKAROUND https://github.com/googleapis/python-genai/issues/1909 and
    https://github.com/googleapis/python-genai/issues/2008: answers to inlined requests come in
    any order and often without their metadata, so that they cannot be told apart; lines of a
    file keep their keys.
    """
    lines = [json.dumps({"key": key, "request": body}) for key, body in requests]
    content = io.BytesIO("".join(f"{line}\n" for line in lines).encode())
    async with session.speaking():
        file = await session.sdk.files.upload(
            file=content, config={"display_name": label, "mime_type": FILE_TYPE}
        )
    if not file.name:
        raise session.endpoint.unreadable("the file has no name")
    return file.name


async def create(session: GeminiSession, file: str, label: str) -> str:
    """Make a batch of an uploaded file; returns its name (`batches/...`)."""
    async with session.speaking(session.service.timeout_s):
        job = await session.sdk.batches.create(
            model=session.service.model, src=file, config={"display_name": label}
        )
    if not job.name:
        raise session.endpoint.unreadable("the batch has no name")
    return job.name


async def find(session: GeminiSession, label: str) -> str | None:
    """Name of the newest batch of this label."""
    async with session.speaking(session.service.timeout_s):
        jobs = await session.sdk.batches.list(config={"page_size": PAGE_SIZE})
        found = [
            (job.create_time.isoformat() if job.create_time else "", job.name)
            async for job in jobs
            if job.display_name == label and job.name
        ]
    return max(found)[1] if found else None


async def status(session: GeminiSession, batch: str) -> BatchStatus:
    """How far a batch is; RequestRejectedError if the service does not know it (any more)."""
    operation = await _operation(session, batch)
    metadata = _mapping(operation.get("metadata"))
    name = str(metadata.get("state") or "").partition("_STATE_")[2]
    stats = _mapping(metadata.get("batchStats"))
    done = _count(stats.get("successfulRequestCount")) + _count(stats.get("failedRequestCount"))
    problem = session.endpoint.said(str(_mapping(operation.get("error")).get("message") or ""))
    state = _STATES.get(name, "running")
    if state == "failed":
        reason = "expired" if name == "EXPIRED" else "was turned down"
        problem = f"The batch of {session.endpoint.name} {reason}{problem}."
    return BatchStatus(state, done, _count(stats.get("requestCount")), problem.lstrip(": "))


async def results(session: GeminiSession, batch: str) -> AsyncIterator[Result]:
    """The results of a batch that ended.

    Those that do not say which request they answer are left out.

    Raises:
        FatalProviderError: none of them says so.
    """
    operation = await _operation(session, batch)
    output = _mapping(operation.get("response")) or _mapping(
        _mapping(operation.get("metadata")).get("output")
    )
    # Small batches are answered inline even when a file was handed in.
    items = _mapping(output.get("inlinedResponses")).get("inlinedResponses")
    if not isinstance(items, list):
        items = [_read_line(line) for line in await _download(session, output)]
    found = [result for result in map(_result, items) if result is not None]
    if items and not found:
        raise FatalProviderError(
            f"The batch of {session.endpoint.name} does not say which request each of its results "
            "answers; use `mode: live` for this service."
        )
    for result in found:
        yield result


async def cancel(session: GeminiSession, batch: str) -> None:
    """Ask for a batch to be stopped; RequestRejectedError if it is over already."""
    async with session.speaking(session.service.timeout_s, gone=batch):
        await session.sdk.batches.cancel(name=batch)


async def _operation(session: GeminiSession, batch: str) -> Mapping[str, Any]:
    """A batch as the service describes it; the SDK leaves out its counts and its error."""
    async with session.speaking(session.service.timeout_s, gone=batch):
        return await session.get_json(batch)


async def _download(session: GeminiSession, output: Mapping[str, Any]) -> list[bytes]:
    """The lines of the file of results, none where there is no file."""
    name = output.get("responsesFile")
    if not isinstance(name, str):
        return []
    async with session.speaking(gone=f"the results {name}"):
        content = await session.sdk.files.download(file=name)
    return [line for line in content.splitlines() if line.strip()]


def _read_line(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _result(item: object) -> Result | None:
    entry = _mapping(item)
    key = entry.get("key") or _mapping(entry.get("metadata")).get("key")
    if not isinstance(key, str):
        return None
    response = entry.get("response")
    error = _mapping(entry.get("error")) or _mapping(entry.get("status"))
    return Result(key, response if isinstance(response, dict) else None, error)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    """A count; whole numbers of 64 bits are strings in Google's JSON."""
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else 0
