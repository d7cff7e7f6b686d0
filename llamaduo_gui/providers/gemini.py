"""Google's Gemini API, live and in batches, through the google-genai SDK."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError, ProviderError
from llamaduo_gui.providers import gemini_batches
from llamaduo_gui.providers.base import BatchStatus, ChatRequest, ModelInfo, ProviderInfo, Reply
from llamaduo_gui.providers.endpoint import Problem, is_web_page
from llamaduo_gui.providers.gemini_errors import (
    for_one_of_many,
    from_status,
    read_problem,
    web_page,
)
from llamaduo_gui.providers.gemini_session import GeminiSession
from llamaduo_gui.providers.gemini_wire import (
    Form,
    SchemaMode,
    block_reason,
    read_reply,
    request_body,
    text_of,
)

PAGE_SIZE = 200

_NEXT_MODE: dict[SchemaMode, SchemaMode] = {"json_schema": "json_object", "json_object": "plain"}
_ABOUT_FORMAT = re.compile(r"json mode|schema|mime[_ ]?type|controlled generation|structured")
_ABOUT_SYSTEM = re.compile(r"(developer|system)[_ ]?instruction")


class Gemini:
    """Adapter to `generateContent` and its batches; sends nothing twice by itself.

    Where a model turns down a reply schema, JSON or system turns, the next lesser way is
    remembered for as long as the instance lives.

    Args:
        service: model, address and timeout.
        key: API key.
    """

    batch_limit = gemini_batches.BATCH_LIMIT

    def __init__(self, service: ServiceConfig, key: str) -> None:
        self._service = service
        self._session = GeminiSession(service, key)
        self._endpoint = self._session.endpoint
        self._form = Form()
        self._has_answered = False
        # The last file by its label: an account with too much waiting turns batches down for hours.
        self._uploaded: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The provider's name in `pipeline.yaml`."""
        return self._service.provider

    async def complete(self, request: ChatRequest) -> Reply:
        """Ask for one reply with one HTTP request; see `Provider.complete`."""
        form = self._form
        # The answer as it was sent: the SDK's own reading refuses what it does not know.
        call = _sdk_call(request, form, should_return_http_response=True)
        async with self._session.speaking(
            self._service.timeout_s, adapt=lambda problem: self._adapt(problem, request, form)
        ):
            generate = self._session.sdk.models.generate_content
            started = time.perf_counter()
            answer = await generate(**call)
        response = answer.sdk_http_response
        text = response.body if response is not None and response.body else ""
        reply = self._read(text, time.perf_counter() - started)
        self._has_answered = True
        return reply

    async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        """Ask for one reply and yield its text as it comes; see `Provider.stream`."""
        form = self._form
        has_chunks = has_text = False
        blocked = ""
        async with self._session.speaking(
            adapt=lambda problem: self._adapt(problem, request, form)
        ):
            generate: Any = self._session.sdk.models.generate_content_stream
            chunks = await generate(**_sdk_call(request, form))
            try:
                async for chunk in chunks:
                    has_chunks = True
                    body = chunk.model_dump(mode="json", by_alias=True, exclude_none=True)
                    blocked = blocked or block_reason(body)
                    text = "".join(text_of(part) for part in body.get("candidates", [])[:1])
                    if text:
                        has_text = True
                        yield text
            finally:
                await chunks.aclose()
        if not has_chunks:
            raise self._endpoint.unreadable("it is not a stream")
        if blocked and not has_text:
            raise self._endpoint.filtered(200, f": {blocked}")

    async def list_models(self) -> Sequence[ModelInfo]:
        """The models that generate text, by id; see `Provider.list_models`."""
        found = []
        async with self._session.speaking(self._service.timeout_s):
            async for model in await self._session.sdk.models.list(config={"page_size": PAGE_SIZE}):
                if model.name and "generateContent" in (model.supported_actions or ()):
                    name = model.name.removeprefix("models/")
                    found.append(ModelInfo(name, model.display_name or ""))
        return sorted(found, key=lambda model: model.id)

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        await self._session.close()

    async def submit_batch(self, requests: Mapping[str, ChatRequest], label: str) -> str:
        """Hand in requests by their keys; see `BatchProvider.submit_batch`."""
        if label not in self._uploaded:
            form = self._form
            bodies = ((key, request_body(request, form)) for key, request in requests.items())
            self._uploaded = {label: await gemini_batches.upload(self._session, bodies, label)}
        return await gemini_batches.create(self._session, self._uploaded[label], label)

    async def find_batch(self, label: str) -> str | None:
        """Id of the newest batch of this label."""
        return await gemini_batches.find(self._session, label)

    async def batch_status(self, batch_id: str) -> BatchStatus:
        """Ask how far a batch is."""
        return await gemini_batches.status(self._session, batch_id)

    async def batch_results(
        self, batch_id: str
    ) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
        """Results of a batch that ended; see `BatchProvider.batch_results`."""
        form = self._form
        async for result in gemini_batches.results(self._session, batch_id):
            if result.response is not None:
                reply = read_reply(result.response, 0.0)
                yield result.key, reply or self._endpoint.unreadable("it has no candidate")
            elif self._adapt(read_problem(result.error), None, form):
                yield result.key, self._endpoint.adapting()
            else:
                code = result.error.get("code")
                status = code if isinstance(code, int) else 500
                error = from_status(self._endpoint, status, result.error, {})
                yield result.key, for_one_of_many(error)

    async def cancel_batch(self, batch_id: str) -> None:
        """Ask for a batch to be stopped; what was answered can still be fetched."""
        await gemini_batches.cancel(self._session, batch_id)

    def _adapt(self, problem: Problem, request: ChatRequest | None, form: Form) -> bool:
        """Remember what the model does not take; True if the request is worth repeating.

        Args:
            problem: what the answer says.
            request: what was asked, None where it is not known.
            form: how it was put. Requests that were under way together complain together: only
                the first one changes the form.
        """
        has_schema = request is None or request.reply_schema is not None
        has_system = request is None or any(turn.role == "system" for turn in request.messages)
        if has_system and form.has_system and _ABOUT_SYSTEM.search(problem.text):
            lesser = replace(form, has_system=False)
        elif has_schema and form.mode != "plain" and _ABOUT_FORMAT.search(problem.text):
            lesser = replace(form, mode=_NEXT_MODE[form.mode])
        else:
            return False
        if self._form == form:
            self._form = lesser
        return True

    def _read(self, text: str, latency_s: float) -> Reply:
        if is_web_page(text) and not self._has_answered:
            raise web_page(self._endpoint)
        try:
            body = json.loads(text)
        except ValueError:
            raise self._endpoint.unreadable("it is not valid JSON") from None
        if not isinstance(body, dict):
            raise self._endpoint.unreadable("it is not a JSON object")
        reply = read_reply(body, latency_s)
        if reply is None:
            raise self._endpoint.unreadable("it has no candidate")
        return reply


def _sdk_call(request: ChatRequest, form: Form, **options: Any) -> dict[str, Any]:
    """The arguments of the SDK's `generate_content` for a request."""
    body = request_body(request, form)
    config = {
        **body["generationConfig"],
        **options,
        # One call is one request: the SDK would ask for the rest of a long answer by itself, and
        # call functions.
        "automaticContinuation": False,
        "automaticFunctionCalling": {"disable": True},
    }
    if "systemInstruction" in body:
        config["systemInstruction"] = body["systemInstruction"]
    return {"model": request.model, "contents": body["contents"], "config": config}


def _make(service: ServiceConfig, key: str | None) -> Gemini:
    if key is None:
        raise ConfigError(f"{service.name} needs an API key: add one in Settings.")
    return Gemini(service, key)


INFO = ProviderInfo(
    name="gemini",
    title="Google Gemini",
    is_llm=True,
    needs_key=True,
    needs_base_url=False,
    make=_make,
)
