"""Any endpoint that speaks OpenAI's chat completions: Ollama, vLLM, llama.cpp, OpenRouter..."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError, ProviderError
from llamaduo_gui.providers.base import ChatRequest, FinishReason, ModelInfo, ProviderInfo, Reply
from llamaduo_gui.providers.endpoint import Endpoint, is_web_page
from llamaduo_gui.providers.openai_errors import explain, from_body, read_problem

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# Servers on one's own machine want no key, but the SDK wants to send one.
NO_KEY = "none"
CONNECT_TIMEOUT_S = 10.0

SchemaMode = Literal["json_schema", "json_object", "plain"]
_NEXT_MODE: dict[SchemaMode, SchemaMode] = {"json_schema": "json_object", "json_object": "plain"}
_ABOUT_FORMAT = re.compile(
    r"response[_ ]?format|json[_ ]?schema|json[_ ]?object|json mode|structured|guided|grammar"
)

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
}


class OpenAIChat:
    """Chat completions through the openai SDK, which retries nothing itself.

    Where the endpoint turns down a JSON schema, or `max_tokens`, the next lesser way is
    remembered for as long as the instance lives.

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
        length_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
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
        self._length_parameter: str = length_parameter
        self._mode: SchemaMode = "json_schema"
        self._has_answered = False
        self._open_client: AsyncOpenAI | None = None

    @property
    def name(self) -> str:
        """The provider's name in `pipeline.yaml`."""
        return self._service.provider

    async def complete(self, request: ChatRequest) -> Reply:
        """Ask for one reply with one HTTP request; see `Provider.complete`."""
        import openai

        parameters = self._parameters(request)
        create: Any = self._client().chat.completions.with_raw_response.create
        started = time.perf_counter()
        try:
            # The SDK's own timeout starts anew with every byte that comes.
            async with asyncio.timeout(self._service.timeout_s):
                response = await create(**parameters)
        except (openai.OpenAIError, TimeoutError) as error:
            raise self._explain(error, parameters) from None
        reply = self._read(response.text, time.perf_counter() - started)
        self._has_answered = True
        return reply

    async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        """Ask for one reply and yield its text as it comes; see `Provider.stream`."""
        import openai

        parameters = self._parameters(request)
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
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            raise self._explain(error, parameters) from None
        if not has_chunks:
            raise self._endpoint.unreadable("it is not a stream")

    async def list_models(self) -> Sequence[ModelInfo]:
        """The models the endpoint lists, by id; see `Provider.list_models`."""
        import openai

        try:
            async with asyncio.timeout(self._service.timeout_s):
                page = await self._client().models.list()
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            raise self._explain(error, {}) from None
        entries = [str(entry.id) for entry in page.data or [] if getattr(entry, "id", None)]
        return [ModelInfo(name) for name in sorted(entries)]

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
            is_local = _is_loopback(urlsplit(self._address).hostname or "")
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

    def _parameters(self, request: ChatRequest) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "model": request.model,
            "messages": [message.to_dict() for message in request.messages],
            self._length_parameter: request.max_tokens,
        }
        if request.temperature is not None:
            parameters["temperature"] = request.temperature
        if request.reply_schema is not None and self._mode == "json_object":
            parameters["response_format"] = {"type": "json_object"}
        elif request.reply_schema is not None and self._mode == "json_schema":
            parameters["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": request.reply_schema.name,
                    "schema": dict(request.reply_schema.schema),
                    "strict": True,
                },
            }
        return parameters

    def _explain(self, error: Exception, parameters: Mapping[str, Any]) -> ProviderError:
        """The error to raise; one that only needs the request put differently says so."""
        import openai

        if isinstance(error, openai.APIStatusError) and error.status_code in (400, 422):
            problem = read_problem(error.body)
            if problem.code == "json_validate_failed":
                return self._endpoint.unreadable("it did not follow the JSON schema")
            if self._adapt(problem.text, parameters):
                return self._endpoint.adapting()
        return explain(self._endpoint, error, self._service.timeout_s)

    def _adapt(self, problem: str, parameters: Mapping[str, Any]) -> bool:
        """Remember what the endpoint does not take; True if the request is worth repeating."""
        if "max_tokens" in parameters and "max_completion_tokens" in problem:
            self._length_parameter = "max_completion_tokens"
            return True
        sent = parameters.get("response_format", {}).get("type")
        if sent is None or not _ABOUT_FORMAT.search(problem):
            return False
        # Requests that were under way together complain together: step down once.
        if sent == self._mode:
            self._mode = _NEXT_MODE[self._mode]
        return True

    def _read(self, text: str, latency_s: float) -> Reply:
        if is_web_page(text) and not self._has_answered:
            raise self._endpoint.web_page()
        try:
            body = json.loads(text)
        except ValueError:
            raise self._endpoint.unreadable("it is not valid JSON") from None
        if not isinstance(body, dict):
            raise self._endpoint.unreadable("it is not a JSON object")
        if body.get("error") and not body.get("choices"):
            raise from_body(self._endpoint, body)
        reply = read_completion(body, latency_s)
        if reply is None:
            raise self._endpoint.unreadable("it has no message")
        return reply


def read_completion(body: Mapping[str, Any], latency_s: float) -> Reply | None:
    """The reply in a chat completion, None if there is no message in it.

    Usage, finish reason and content may be missing or null: servers differ.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return None
    text = _text_of(message.get("content"))
    refusal = message.get("refusal")
    reason = _FINISH_REASONS.get(str(choice.get("finish_reason") or "stop").lower(), "other")
    if isinstance(refusal, str) and refusal:
        text, reason = text or refusal, "refusal"
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        text=text,
        finish_reason=reason,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        latency_s=latency_s,
    )


def _text_of(content: object) -> str:
    """Content as text; some servers send it in typed parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
