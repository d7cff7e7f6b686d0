"""Anthropic's Message Batches: half the price, answers within a day, results as JSON lines."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from llamaduo_gui.core.errors import (
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.providers.anthropic_connection import Connection
from llamaduo_gui.providers.anthropic_errors import from_body, no_model, read_problem
from llamaduo_gui.providers.anthropic_limits import moment
from llamaduo_gui.providers.anthropic_wire import Style, read_message, read_object, version_headers
from llamaduo_gui.providers.base import BatchStatus, Reply
from llamaduo_gui.providers.batch_label import read_label
from llamaduo_gui.providers.endpoint import Endpoint

BATCHES = "/v1/messages/batches"
# The API takes 100,000, but no more than 256 MB together: 25 kB each at this number.
BATCH_LIMIT = 10_000
HAND_IN_TIMEOUT_S = 600.0
# Batches looked through for one whose id was lost, newest first.
LOOKED_THROUGH = 20
# 43 characters of key, a dash and 20 of label fill the 64 that a custom_id may have.
_KEY_LENGTH, _TAG_LENGTH = 43, 20
_TAG_START = _KEY_LENGTH + 1
# A label tells whole seconds, and so does the clock of the server.
CLOCK_TOLERANCE_S = 2.0


class MessageBatches:
    """Batches of one model.

    The API keeps no label, so each request's `custom_id` carries it beside the request's key. A
    batch whose id was lost is found by it once it has results, and before that by its size and
    when it was made, which the label tells.

    Args:
        endpoint: names and address, for errors.
        connection: what requests go through.
        style: how the model is asked; what results refuse is remembered there.
    """

    limit = BATCH_LIMIT

    def __init__(self, endpoint: Endpoint, connection: Connection, style: Style) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self._style = style

    async def check_model(self) -> None:
        """Ask the API about the model, so that a batch is not handed in to be refused in a day.

        Raises:
            FatalProviderError: there is no such model, it left service, or it takes no batches.
        """
        model = self._endpoint.model
        answer = await self._connection.get(
            f"/v1/models/{quote(model, safe='')}", missing=no_model(self._endpoint)
        )
        entry = self._object(answer.text)
        if entry.get("lifecycle") == "retired":
            raise self._endpoint.left_service(200)
        abilities = entry.get("capabilities")
        abilities = abilities if isinstance(abilities, dict) else {}
        if _is_denied(abilities.get("batch")):
            raise FatalProviderError(
                f"{self._endpoint.name} does not answer in batches; set `mode: live`."
            )
        if _is_denied(abilities.get("structured_outputs")) and self._style.mode == "json_schema":
            self._style.mode = "tool"

    async def submit(self, entries: Mapping[str, Mapping[str, Any]], label: str) -> str:
        """Hand in the parameters of messages by the keys of their requests."""
        body = {
            "requests": [
                {"custom_id": custom_id(key, label), "params": parameters}
                for key, parameters in entries.items()
            ]
        }
        answer = await self._connection.post(
            BATCHES,
            body,
            headers=version_headers(*entries.values()),
            adapt=lambda problem: self._style.adapt(problem, None),
            timeout_s=HAND_IN_TIMEOUT_S,
        )
        return str(self._object(answer.text, "id")["id"])

    async def find(self, label: str) -> str | None:
        """Id of the newest batch that is or may only be the one of this label.

        Raises:
            TransientProviderError: it may be one of several that have no results yet. Handing it
                in again could pay for it twice, so they are waited for.
        """
        answer = await self._connection.get(BATCHES, {"limit": LOOKED_THROUGH})
        found = self._object(answer.text).get("data")
        batches = [entry for entry in found or [] if isinstance(entry, dict) and entry.get("id")]
        for batch in batches:
            if batch.get("results_url") and await self._has_label(str(batch["id"]), label):
                return str(batch["id"])
        now = moment(answer.headers.get("date")) or datetime.now(UTC)
        alike = [batch for batch in batches if _may_be(batch, label, now)]
        if len(alike) > 1:
            raise TransientProviderError(
                f"{self._endpoint.name}: a batch whose answer was lost may be any of {len(alike)} "
                "that are under way; which one, their results will tell."
            )
        return str(alike[0]["id"]) if alike else None

    async def status(self, batch_id: str) -> BatchStatus:
        """How far a batch is; the API tells it only whether all of it is done."""
        answer = await self._connection.get(
            f"{BATCHES}/{batch_id}", missing=self._missing(batch_id)
        )
        batch = self._object(answer.text, "processing_status")
        counts = _counts(batch)
        total = sum(counts.values())
        if batch["processing_status"] != "ended":
            return BatchStatus("running", total - counts["processing"], total)
        if batch.get("archived_at") or not batch.get("results_url"):
            # They were paid, so this is no failure that cost nothing.
            raise self._missing(batch_id)
        if total and counts["expired"] == total:
            return BatchStatus("failed", 0, total, "it was not answered within a day")
        done = counts["succeeded"] + counts["errored"]
        return BatchStatus("cancelled" if counts["canceled"] else "ended", done, total)

    async def results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
        """Results by the keys of their requests, as the lines come."""
        async with aclosing(self._lines(batch_id)) as lines:
            async for line in lines:
                entry = self._object(line, "custom_id", "result")
                key = request_key(str(entry["custom_id"]))
                if key is not None and isinstance(entry["result"], dict):
                    yield key, self._outcome(entry["result"])

    async def cancel(self, batch_id: str) -> None:
        """Ask for a batch to be stopped; one that has ended is left as it is."""
        try:
            await self._connection.post(
                f"{BATCHES}/{batch_id}/cancel", missing=self._missing(batch_id)
            )
        except (RequestRejectedError, TransientProviderError):
            if (await self.status(batch_id)).state == "running":
                raise

    def _missing(self, batch_id: str) -> ProviderError:
        return RequestRejectedError(
            f"{self._endpoint.provider} has no results of batch {batch_id}: they were deleted or "
            "are too old, or it was handed in with a key of another workspace."
        )

    def _lines(self, batch_id: str) -> AsyncGenerator[str, None]:
        return self._connection.lines(
            f"{BATCHES}/{batch_id}/results", missing=self._missing(batch_id)
        )

    async def _has_label(self, batch_id: str, label: str) -> bool:
        async with aclosing(self._lines(batch_id)) as lines:
            async for line in lines:
                name = str(self._object(line).get("custom_id"))
                return name[_TAG_START:] == _tag(label)
        return False

    def _outcome(self, result: Mapping[str, Any]) -> Reply | ProviderError:
        kind = result.get("type")
        message = result.get("message")
        if kind == "succeeded":
            reply = read_message(message) if isinstance(message, dict) else None
            return reply or self._endpoint.unreadable("its result has no content")
        if kind == "errored":
            return self._refusal(result.get("error"))
        reason = {
            "canceled": "its batch was stopped before",
            "expired": "its batch did not get to it within a day",
        }.get(str(kind), "its batch does not say why")
        return TransientProviderError(
            f"{self._endpoint.name} did not answer the request: {reason}; ask again."
        )

    def _refusal(self, body: object) -> ProviderError:
        problem = read_problem(body)
        if problem.code == "invalid_request_error" and self._style.adapt(problem.text, None):
            return self._endpoint.adapting()
        error = from_body(self._endpoint, body)
        if isinstance(error, RequestRejectedError | TransientProviderError):
            return error
        # What is fatal to live requests is so to this one; the others of the batch have results.
        return RequestRejectedError(str(error))

    def _object(self, text: str, *needed: str) -> dict[str, Any]:
        try:
            return read_object(text, *needed)
        except ValueError as error:
            raise self._endpoint.unreadable(str(error)) from None


def custom_id(key: str, label: str) -> str:
    """What a request is called in its batch: its key (64 hexadecimal digits) and the label.

    64 characters out of letters, digits, `-` and `_`, as the API wants it.
    """
    return f"{base64.urlsafe_b64encode(bytes.fromhex(key)).decode().rstrip('=')}-{_tag(label)}"


def request_key(name: str) -> str | None:
    """The key in a `custom_id`, None if it was not made by `custom_id`."""
    if not re.fullmatch(rf"[\w-]{{{_KEY_LENGTH}}}-[0-9a-f]{{{_TAG_LENGTH}}}", name, re.ASCII):
        return None
    return base64.urlsafe_b64decode(name[:_KEY_LENGTH] + "=").hex()


def _tag(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()[:_TAG_LENGTH]


def _counts(batch: Mapping[str, Any]) -> dict[str, int]:
    counts = batch.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    names = ("processing", "succeeded", "errored", "canceled", "expired")
    found = {name: counts.get(name) for name in names}
    return {name: count if isinstance(count, int) else 0 for name, count in found.items()}


def _may_be(batch: Mapping[str, Any], label: str, now: datetime) -> bool:
    """Whether a batch without results can be the one of a label; `now` is the server's."""
    facts = read_label(label)
    made = moment(str(batch.get("created_at") or ""))
    if facts is None or made is None or batch.get("processing_status") == "ended":
        return False
    since = facts.made_at + now.timestamp() - time.time() - CLOCK_TOLERANCE_S
    return made.timestamp() >= since and sum(_counts(batch).values()) == facts.total


def _is_denied(ability: object) -> bool:
    return isinstance(ability, dict) and ability.get("supported") is False
