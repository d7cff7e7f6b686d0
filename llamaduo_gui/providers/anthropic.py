"""Anthropic's own API: Claude through the Messages API, Message Batches, the list of models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError, FatalProviderError, ProviderError
from llamaduo_gui.providers.anthropic_batches import MessageBatches
from llamaduo_gui.providers.anthropic_connection import Answer, Connection
from llamaduo_gui.providers.anthropic_errors import from_body
from llamaduo_gui.providers.anthropic_limits import read_limits
from llamaduo_gui.providers.anthropic_wire import (
    HIGHEST_TEMPERATURE,
    Style,
    read_message,
    read_object,
    version_headers,
)
from llamaduo_gui.providers.base import BatchStatus, ChatRequest, ModelInfo, ProviderInfo, Reply
from llamaduo_gui.providers.endpoint import Endpoint, is_this_machine, is_web_page, well_formed

ADDRESS = "https://api.anthropic.com"
MESSAGES = "/v1/messages"
MODELS = "/v1/models"
MODELS_A_PAGE = 1000
MOST_PAGES = 20


class AnthropicChat:
    """Messages through the anthropic SDK; also answers in batches (`BatchProvider`).

    Where the model turns down `output_config`, a forced tool or a temperature, the next lesser
    way is remembered for as long as the instance lives.

    Args:
        service: model, address and timeout.
        key: API key.
    """

    def __init__(self, service: ServiceConfig, key: str | None) -> None:
        self._service = service
        address = (service.base_url or ADDRESS).rstrip("/").removesuffix("/v1")
        is_local = is_this_machine(address)
        self._endpoint = Endpoint(service.provider, service.model, address, key)
        self._connection = Connection(self._endpoint, service.timeout_s, is_local=is_local)
        self._style = Style.of_model(service.model)
        self._batches = MessageBatches(self._endpoint, self._connection, self._style)
        self._has_answered = False

    @property
    def name(self) -> str:
        """The provider's name in `pipeline.yaml`."""
        return self._service.provider

    async def complete(self, request: ChatRequest) -> Reply:
        """Ask for one reply with one HTTP request; see `Provider.complete`."""
        parameters = self._parameters(request)
        answer = await self._connection.post(
            MESSAGES,
            parameters,
            headers=version_headers(parameters),
            adapt=partial(self._style.adapt, sent=parameters),
        )
        reply = self._read(answer)
        self._has_answered = True
        return reply

    async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        """Ask for one reply and yield its text as it comes; see `Provider.stream`."""
        parameters = self._parameters(request)
        lines = self._connection.lines(
            MESSAGES,
            {**parameters, "stream": True},
            headers=version_headers(parameters),
            adapt=partial(self._style.adapt, sent=parameters),
        )
        kind = ""
        async with aclosing(lines):
            async for line in lines:
                event = self._event(line)
                kind = str(event.get("type") or kind)
                if kind == "error":
                    raise from_body(self._endpoint, event)
                delta = event.get("delta")
                text = _delta_text(delta) if isinstance(delta, dict) else ""
                if text:
                    yield text
        if not kind:
            raise self._endpoint.unreadable("it is not a stream")
        if kind != "message_stop":
            raise self._endpoint.unreadable("it ends too early")

    async def list_models(self) -> Sequence[ModelInfo]:
        """The models this key can use, newest first; those about to leave service say so."""
        models: list[ModelInfo] = []
        missing = self._endpoint.no_list()
        query: dict[str, object] = {"limit": MODELS_A_PAGE}
        for _ in range(MOST_PAGES):
            page = self._object(await self._connection.get(MODELS, query, missing=missing))
            entries = [entry for entry in page.get("data") or [] if isinstance(entry, dict)]
            models += [_model_info(entry) for entry in entries if entry.get("id")]
            last = page.get("last_id")
            if not page.get("has_more") or not last:
                break
            query["after_id"] = last
        return models

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        await self._connection.close()

    @property
    def batch_limit(self) -> int:
        """Requests one batch may have."""
        return self._batches.limit

    async def submit_batch(self, requests: Mapping[str, ChatRequest], label: str) -> str:
        """Hand in requests by their keys; see `BatchProvider.submit_batch`."""
        entries = {key: self._parameters(request) for key, request in requests.items()}
        await self._batches.check_model()
        # What the check found out can change how the requests are put.
        entries = {key: self._parameters(request) for key, request in requests.items()}
        return await self._batches.submit(entries, label)

    async def find_batch(self, label: str) -> str | None:
        """Id of the newest batch of this label; see `BatchProvider.find_batch`."""
        return await self._batches.find(label)

    async def batch_status(self, batch_id: str) -> BatchStatus:
        """How far a batch is."""
        return await self._batches.status(batch_id)

    def batch_results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
        """Results of a batch that ended; see `BatchProvider.batch_results`."""
        return self._batches.results(batch_id)

    async def cancel_batch(self, batch_id: str) -> None:
        """Ask for a batch to be stopped."""
        await self._batches.cancel(batch_id)

    def _parameters(self, request: ChatRequest) -> dict[str, Any]:
        parameters = self._style.parameters(request)
        if parameters.get("temperature", 0.0) > HIGHEST_TEMPERATURE:
            raise FatalProviderError(
                f"{self._endpoint.name} takes temperatures from 0 to 1, not "
                f"{request.temperature:g}; give the service a temperature of its own."
            )
        return parameters

    def _read(self, answer: Answer) -> Reply:
        body = self._object(answer)
        if body.get("type") == "error":
            raise from_body(self._endpoint, body)
        reply = read_message(body, answer.latency_s)
        if reply is None:
            raise self._endpoint.unreadable("it has no content")
        return replace(reply, limits=read_limits(answer.headers))

    def _object(self, answer: Answer) -> dict[str, Any]:
        if is_web_page(answer.text) and not self._has_answered:
            raise FatalProviderError(
                f"{self._endpoint.name}: {self._endpoint.address} answers with a web page and not "
                "as an API; check base_url, and whether a proxy or sign-in page stands in between."
            )
        try:
            return read_object(answer.text)
        except ValueError as error:
            raise self._endpoint.unreadable(str(error)) from None

    def _event(self, line: str) -> dict[str, Any]:
        """The event of one line of a stream, {} for lines that carry none."""
        if not line.startswith("data:"):
            return {}
        try:
            return read_object(line.removeprefix("data:"))
        except ValueError as error:
            raise self._endpoint.unreadable(str(error)) from None


def _delta_text(delta: Mapping[str, Any]) -> str:
    """Text of a stream's piece, or the piece of a forced tool's arguments; not its thinking."""
    text = delta.get("text") or delta.get("partial_json")
    return well_formed(text) if isinstance(text, str) else ""


def _model_info(entry: Mapping[str, Any]) -> ModelInfo:
    title = str(entry.get("display_name") or "")
    if entry.get("lifecycle") == "deprecated":
        date = str(entry.get("retires_at") or "")[:10]
        title += f" (leaves service{f' on {date}' if date else ''})"
    return ModelInfo(str(entry["id"]), title.strip())


def _make(service: ServiceConfig, key: str | None) -> AnthropicChat:
    """The adapter; an Anthropic key goes to Anthropic (or a server on this machine) only."""
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"The API key for {service.provider} has characters that no key has; paste it again."
        )
    if service.base_url:
        _check_address(service, service.base_url)
    if service.temperature is not None and service.temperature > HIGHEST_TEMPERATURE:
        raise ConfigError(
            f"{service.name}: temperature {service.temperature:g} is above 1, the highest this "
            "API takes; lower it, or leave it out."
        )
    return AnthropicChat(service, key)


def _check_address(service: ServiceConfig, address: str) -> None:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or port == 0 or parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"{service.name}: base_url `{address}` is not a web address; leave it out for "
            "Anthropic's own."
        )
    is_anthropic = parts.scheme == "https" and f".{host}".endswith(".anthropic.com")
    if not is_anthropic and not is_this_machine(address):
        raise ConfigError(
            f"{service.name}: {address} is not an address of Anthropic's; use "
            "`provider: openai_compatible` for gateways and other endpoints."
        )


INFO = ProviderInfo(
    name="anthropic",
    title="Anthropic",
    is_llm=True,
    needs_key=True,
    needs_base_url=False,
    make=_make,
)
