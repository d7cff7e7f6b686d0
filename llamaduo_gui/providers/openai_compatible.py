"""Any endpoint that speaks OpenAI's chat completions: Ollama, vLLM, llama.cpp, OpenRouter..."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Container, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError, ProviderError
from llamaduo_gui.providers.base import ChatRequest, ModelInfo, ProviderInfo, Reply
from llamaduo_gui.providers.endpoint import Endpoint, is_this_machine, is_web_page
from llamaduo_gui.providers.openai_dialect import Dialect, LengthParameter
from llamaduo_gui.providers.openai_errors import explain, from_body, read_problem
from llamaduo_gui.providers.openai_limits import read_limits
from llamaduo_gui.providers.openai_reply import (
    first_choice,
    read_completion,
    read_json,
    read_models,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# Servers on one's own machine want no key, but the SDK wants to send one.
NO_KEY = "none"
CONNECT_TIMEOUT_S = 10.0
# Answers of endpoints that have chat and no list of models.
NO_LIST = {404, 405, 501}


class OpenAIChat:
    """Chat completions through the openai SDK, which retries nothing itself.

    What the endpoint turns down (a JSON schema, `max_tokens`, a temperature) is left out for as
    long as the instance lives.

    Args:
        service: model, address and timeout.
        key: API key, None where the server wants none.
        default_address: used where `service` names none.
        length_parameter: how the longest reply is called on the wire.
    """

    def __init__(
        self,
        service: ServiceConfig,
        key: str | None,
        *,
        default_address: str = "",
        length_parameter: LengthParameter = "max_tokens",
    ) -> None:
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"The API key for {service.provider} has characters that no key has; "
                "paste it again."
            )
        self._service = service
        self._key = key
        self._address = _checked_address(service.base_url or default_address, service)
        self._endpoint = Endpoint(service.provider, service.model, self._address, key)
        self._dialect = Dialect(length_parameter)
        self._has_answered = False
        self._open_client: AsyncOpenAI | None = None

    @property
    def name(self) -> str:
        """The provider's name in `pipeline.yaml`."""
        return self._service.provider

    async def complete(self, request: ChatRequest) -> Reply:
        """Ask for one reply with one HTTP request; see `Provider.complete`."""
        parameters = self._dialect.parameters(request)
        create: Any = self._client().chat.completions.with_raw_response.create
        started = time.perf_counter()
        response = await self._sent(create(**parameters), parameters)
        reply = self._read(self._json(response.text), time.perf_counter() - started)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return replace(reply, limits=read_limits(headers))

    async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        """Ask for one reply and yield its text as it comes; see `Provider.stream`."""
        import openai

        parameters = self._dialect.parameters(request)
        create: Any = self._client().chat.completions.create
        has_chunks = False
        try:
            async with await create(**parameters, stream=True) as chunks:
                async for chunk in chunks:
                    has_chunks = True
                    for choice in getattr(chunk, "choices", None) or []:
                        text = getattr(getattr(choice, "delta", None), "content", None)
                        if isinstance(text, str) and text:
                            yield text
        except (openai.OpenAIError, TimeoutError, ValueError, RecursionError) as error:
            raise self._explain(error, parameters) from None
        if not has_chunks:
            raise self._endpoint.unreadable("it is not a stream")

    async def list_models(self) -> Sequence[ModelInfo]:
        """The models the endpoint lists, by id; see `Provider.list_models`."""
        fetch: Any = self._client().models.with_raw_response.list
        response = await self._sent(fetch(), {}, absent=NO_LIST)
        if response is None:
            raise self._endpoint.no_list()
        models = read_models(self._json(response.text))
        if models is None:
            raise self._endpoint.no_list()
        return models

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._open_client is not None:
            client, self._open_client = self._open_client, None
            await client.close()

    def _client(self) -> AsyncOpenAI:
        if self._open_client is None:
            import openai

            timeout_s = self._service.timeout_s
            limit = openai.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
            # A proxy set for the outside world must not get requests to this machine.
            is_local = is_this_machine(self._address)
            client = openai.AsyncOpenAI(
                api_key=self._key or NO_KEY,
                base_url=self._address,
                max_retries=0,
                timeout=limit,
                http_client=openai.DefaultAsyncHttpxClient(timeout=limit, trust_env=not is_local),
            )
            if self.name != "openai":
                # The SDK takes these from OPENAI_ORG_ID and OPENAI_PROJECT_ID: not for others.
                client.organization = client.project = None
            self._open_client = client
        return self._open_client

    async def _sent(
        self,
        call: Awaitable[Any],
        parameters: Mapping[str, Any],
        *,
        absent: Container[int] = (),
        timeout_s: float | None = None,
    ) -> Any:
        """The answer to a call of the SDK, or the error to raise for it.

        None where the status is one of `absent`: what was asked for is not there.
        """
        import openai

        try:
            # The SDK's own timeout starts anew with every byte that comes.
            async with asyncio.timeout(timeout_s or self._service.timeout_s):
                return await call
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            if isinstance(error, openai.APIStatusError) and error.status_code in absent:
                return None
            raise self._explain(error, parameters) from None

    def _explain(self, error: Exception, parameters: Mapping[str, Any]) -> ProviderError:
        """The error to raise; one that only needs the request put differently says so."""
        import openai

        if isinstance(error, openai.APIStatusError) and error.status_code in (400, 422):
            problem = read_problem(error.body)
            if problem.code == "json_validate_failed":
                return self._endpoint.unreadable("it did not follow the JSON schema")
            if self._dialect.adapt(problem, parameters):
                return self._endpoint.adapting()
        return explain(self._endpoint, error, self._service.timeout_s)

    def _read(self, body: object, latency_s: float) -> Reply:
        """The reply in the body of an answer with a good status."""
        if not isinstance(body, dict):
            raise self._endpoint.unreadable("it is not a JSON object")
        if body.get("error") and not body.get("choices"):
            raise from_body(self._endpoint, body)
        # OpenRouter tells an error of the model behind it in the place of its reply.
        if first_choice(body).get("error"):
            raise from_body(self._endpoint, first_choice(body))
        reply = read_completion(body, latency_s)
        if reply is None:
            raise self._endpoint.unreadable("it has no message")
        self._has_answered = True
        return reply

    def _json(self, text: str) -> Any:
        if is_web_page(text) and not self._has_answered:
            raise self._endpoint.web_page()
        try:
            return read_json(text)
        except ValueError:
            raise self._endpoint.unreadable("it is not valid JSON") from None


def _checked_address(address: str, service: ServiceConfig) -> str:
    try:
        parts = urlsplit(address)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_usable = is_usable and (parts.port is None or parts.port > 0)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(
            f"{service.name}: base_url `{address}` is not a web address; it looks like "
            "http://localhost:11434/v1."
        )
    return address.rstrip("/")


def _make(service: ServiceConfig, key: str | None) -> OpenAIChat:
    return OpenAIChat(service, key)


INFO = ProviderInfo(
    name="openai_compatible",
    title="OpenAI-compatible endpoint",
    is_llm=True,
    needs_key=False,
    needs_base_url=True,
    make=_make,
)
