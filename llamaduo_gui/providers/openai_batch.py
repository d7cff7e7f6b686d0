"""OpenAI's Batch API: requests in a file, answers in a file within a day, at half the price."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ProviderError, RequestRejectedError, TransientProviderError
from llamaduo_gui.providers.base import BatchState, BatchStatus, ChatRequest, Reply
from llamaduo_gui.providers.openai_compatible import OpenAIChat
from llamaduo_gui.providers.openai_dialect import Dialect
from llamaduo_gui.providers.openai_errors import from_body, from_status, read_problem
from llamaduo_gui.providers.openai_reply import count, part, read_json

CHAT = "/v1/chat/completions"
# The API takes 50,000 requests in at most 200 MB; at 20 kB a request the size comes first.
BATCH_LIMIT = 10_000
PAGE_SIZE = 100
# A batch is looked for soon after it was made: 2,000 younger ones are more than enough.
MOST_PAGES = 20
CHUNK_BYTES = 1 << 16
# Bytes a second of a poor uplink: what the time limit of an upload allows for.
SLOWEST_UPLOAD = 100_000

_STATES: dict[str, BatchState] = {
    "completed": "ended",
    "expired": "ended",
    "failed": "failed",
    "cancelled": "cancelled",
}
# What a batch of an earlier process may have sent.
_FIRST_TRY = Dialect("max_completion_tokens").optional()


class OpenAIBatches(OpenAIChat):
    """`OpenAIChat` with the methods of `BatchProvider`.

    Source: the OpenAI API's guide "Batch API" and its reference for batches and files.
    """

    def __init__(self, service: ServiceConfig, key: str | None, *, default_address: str) -> None:
        # OpenAI's reasoning models refuse `max_tokens`; all of its models take the newer name.
        super().__init__(
            service,
            key,
            default_address=default_address,
            length_parameter="max_completion_tokens",
        )
        self._sent_in: dict[str, Mapping[str, Any]] = {}

    @property
    def batch_limit(self) -> int:
        """Requests one batch may have."""
        return BATCH_LIMIT

    async def submit_batch(self, requests: Mapping[str, ChatRequest], label: str) -> str:
        """Upload the requests and make a batch of them; see `BatchProvider.submit_batch`."""
        lines = [self._line(key, request) for key, request in requests.items()]
        may_have = self._dialect.optional()
        data = "\n".join(lines).encode()
        client = self._client()
        upload: Any = client.files.with_raw_response.create
        make: Any = client.batches.with_raw_response.create
        uploaded = await self._called(
            upload(file=("batch.jsonl", data, "application/jsonl"), purpose="batch"),
            timeout_s=self._service.timeout_s + len(data) / SLOWEST_UPLOAD,
        )
        made = await self._called(
            make(
                input_file_id=self._text(uploaded, "id"),
                endpoint=CHAT,
                completion_window="24h",
                metadata={"label": label},
            )
        )
        batch_id = self._text(made, "id")
        self._sent_in[batch_id] = may_have
        return batch_id

    async def find_batch(self, label: str) -> str | None:
        """Id of the newest batch with this label in its metadata, None if there is none."""
        fetch: Any = self._client().batches.with_raw_response.list
        after: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            page = await self._called(fetch(limit=PAGE_SIZE, **after))
            found = page.get("data")
            entries = [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []
            for entry in entries:
                if part(entry, "metadata").get("label") == label:
                    return self._text(entry, "id")
            if not page.get("has_more") or not entries:
                return None
            after = {"after": self._text(entries[-1], "id")}
        return None

    async def batch_status(self, batch_id: str) -> BatchStatus:
        """How far a batch is; RequestRejectedError if the key's account has none of this id."""
        batch = await self._batch(batch_id)
        counts = part(batch, "request_counts")
        done, failed, total = (count(counts.get(n)) for n in ("completed", "failed", "total"))
        state = _STATES.get(str(batch.get("status")), "running")
        if batch.get("status") == "expired" and not _files_of(batch):
            problem = f"{self._endpoint.name} did not answer the batch within its day."
            return BatchStatus("failed", 0, total, problem)
        problem = self._problem_of(batch) if state == "failed" else ""
        return BatchStatus(state, done + failed, total, problem)

    async def batch_results(
        self, batch_id: str
    ) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
        """Answers and errors of a batch that ended, line by line as they are downloaded."""
        may_have = self._sent_in.get(batch_id, _FIRST_TRY)
        for file_id in _files_of(await self._batch(batch_id)):
            async for line in self._lines_of(file_id):
                result = self._result(line, may_have)
                if result is not None:
                    yield result

    async def cancel_batch(self, batch_id: str) -> None:
        """Ask for a batch to be stopped; one that has ended already stays as it is."""
        cancel: Any = self._client().batches.with_raw_response.cancel
        try:
            await self._called(cancel(batch_id))
        except ProviderError:
            batch = await self._batch(batch_id)
            if str(batch.get("status")) not in _STATES:
                raise

    def _line(self, key: str, request: ChatRequest) -> str:
        body = self._dialect.parameters(request)
        return json.dumps({"custom_id": key, "method": "POST", "url": CHAT, "body": body})

    async def _batch(self, batch_id: str) -> dict[str, Any]:
        """The batch as the API describes it."""
        retrieve: Any = self._client().batches.with_raw_response.retrieve
        response = await self._sent(retrieve(batch_id), {}, absent={404})
        if response is None:
            raise RequestRejectedError(
                f"{self._endpoint.name} has no batch {batch_id} for this key."
            )
        return self._object(response)

    async def _called(
        self, call: Awaitable[Any], *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """The JSON object that a call of the SDK answers with."""
        return self._object(await self._sent(call, {}, timeout_s=timeout_s))

    def _object(self, response: Any) -> dict[str, Any]:
        body = self._json(response.text)
        if not isinstance(body, dict):
            raise self._endpoint.unreadable("it is not a JSON object")
        return body

    async def _lines_of(self, file_id: str) -> AsyncIterator[bytes]:
        """Lines of a file as they arrive: the whole of it may have hundreds of megabytes."""
        import httpx2
        import openai

        open_file: Any = self._client().files.with_streaming_response.content
        rest = b""
        try:
            async with open_file(file_id) as response:
                async for chunk in response.iter_bytes(CHUNK_BYTES):
                    # Not by text lines: some characters that end those may be part of a reply.
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
        except openai.NotFoundError:
            # Results are kept for a month: there is nothing to fetch any more.
            return
        except openai.OpenAIError as error:
            raise self._explain(error, {}) from None
        except httpx2.TimeoutException:
            raise self._endpoint.timed_out(self._service.timeout_s) from None
        except httpx2.HTTPError as error:
            # The SDK leaves what goes wrong after the first byte as it is.
            raise self._endpoint.no_connection(error) from None
        if rest:
            yield rest

    def _result(
        self, line: bytes, may_have: Mapping[str, Any]
    ) -> tuple[str, Reply | ProviderError] | None:
        """What one line of a result file says, None if it cannot be told whom it is for."""
        try:
            entry = read_json(line)
        except ValueError:
            return None
        key = entry.get("custom_id") if isinstance(entry, dict) else None
        if not isinstance(key, str):
            return None
        try:
            return key, self._reply_in(entry, may_have)
        except (RequestRejectedError, TransientProviderError) as error:
            return key, error
        except ProviderError as error:
            return key, RequestRejectedError(str(error))

    def _reply_in(self, entry: Mapping[str, Any], may_have: Mapping[str, Any]) -> Reply:
        response = entry.get("response")
        if not isinstance(response, dict):
            raise self._unanswered(entry)
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            return self._read(body, 0.0)
        problem = read_problem(body)
        if status in (400, 422) and self._dialect.adapt(problem, may_have):
            raise self._endpoint.adapting()
        raise from_status(self._endpoint, status if isinstance(status, int) else 500, body, {})

    def _unanswered(self, entry: Mapping[str, Any]) -> ProviderError:
        problem = read_problem(entry.get("error"))
        if problem.code in ("batch_expired", "batch_cancelled"):
            return TransientProviderError(
                f"{self._endpoint.name} did not come to this request before the batch ended; "
                "it can be sent again."
            )
        return from_body(self._endpoint, entry.get("error"))

    def _problem_of(self, batch: Mapping[str, Any]) -> str:
        """Why a batch was turned down as a whole, in one sentence."""
        problem = read_problem(part(batch, "errors").get("data"))
        said = self._endpoint.said(problem.message)
        if problem.code == "token_limit_exceeded":
            return (
                f"{self._endpoint.name} has too many tokens waiting in batches{said}; let earlier "
                "batches end, or hand in fewer requests."
            )
        return f"{self._endpoint.name} turned the batch down{said}; check the model's settings."

    def _text(self, values: Mapping[str, Any], name: str) -> str:
        found = values.get(name)
        if not isinstance(found, str) or not found:
            raise self._endpoint.unreadable(f"it has no {name}")
        return found


def _files_of(batch: Mapping[str, Any]) -> list[str]:
    names = (batch.get("output_file_id"), batch.get("error_file_id"))
    return [name for name in names if isinstance(name, str) and name]
