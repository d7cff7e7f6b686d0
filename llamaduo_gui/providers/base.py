"""What every service LLM looks like to the rest of the application: request, reply, provider."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import TransientProviderError
from llamaduo_gui.core.types import Message

Purpose = Literal["synthesize", "judge", "answer", "chat"]
FinishReason = Literal["stop", "length", "refusal", "content_filter", "other"]

# English prose is near four characters a token; used only to pace requests, never to bill.
CHARACTERS_PER_TOKEN = 4


class RateLimitedError(TransientProviderError):
    """The service asked for fewer requests (429): every request waits, not only this one."""


class UnreachableError(TransientProviderError):
    """No connection could be made, so nothing was sent; the endpoint may come back."""


@dataclass(frozen=True, slots=True)
class ReplySchema:
    """A JSON schema the reply has to follow, and the name it has on the wire."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request for one reply.

    Attributes:
        provider, base_url, model: where it goes; part of its identity.
        purpose: what the reply is for; kept for the cost table, not part of the identity.
        temperature: None leaves it to the service.
        max_tokens: longest reply, in tokens.
        reply_schema: asks for JSON of this form where the API can enforce it.
        repeat: 0, 1, ... for the same question asked several times on purpose.
        attempt: 0, 1, ... for the same repeat asked again because the reply was unusable.
    """

    provider: str
    base_url: str | None
    model: str
    messages: tuple[Message, ...]
    purpose: Purpose
    temperature: float | None = None
    max_tokens: int = 2048
    reply_schema: ReplySchema | None = None
    repeat: int = 0
    attempt: int = 0

    @classmethod
    def for_service(
        cls,
        service: ServiceConfig,
        messages: tuple[Message, ...],
        purpose: Purpose,
        *,
        temperature: float | None = None,
        reply_schema: ReplySchema | None = None,
        repeat: int = 0,
    ) -> Self:
        """A request to `service`; its own temperature goes before the one given here."""
        return cls(
            provider=service.provider,
            base_url=service.base_url,
            model=service.model,
            messages=messages,
            purpose=purpose,
            temperature=service.temperature if service.temperature is not None else temperature,
            max_tokens=service.max_tokens,
            reply_schema=reply_schema,
            repeat=repeat,
        )

    def again(self) -> Self:
        """The same question once more, as a request of its own: the last reply was unusable."""
        return replace(self, attempt=self.attempt + 1)

    def content(self) -> dict[str, Any]:
        """Everything that can change the reply, as JSON values; stored with the reply."""
        return {
            "messages": [message.to_dict() for message in self.messages],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "reply_schema": dict(self.reply_schema.schema) if self.reply_schema else None,
            "repeat": self.repeat,
            "attempt": self.attempt,
        }

    def key(self) -> str:
        """Identity of the request: SHA-256 (hex) of its content and of where it goes."""
        address = (self.base_url or "").rstrip("/")
        identity = [self.provider, self.model, address, self.content()]
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def prompt_tokens_estimate(self) -> int:
        """About how many tokens the prompt has."""
        return sum(len(message.content) for message in self.messages) // CHARACTERS_PER_TOKEN + 1


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. Token counts are 0 where the service does not tell them.

    `cost_usd` is None where no price is known, and 0.0 where the service is free.
    """

    text: str
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    cost_usd: float | None = None


class Provider(Protocol):
    """The adapter to one API, for one endpoint and key.

    `complete` and `stream` raise the provider errors of `core.errors`, or RateLimitedError or
    UnreachableError, and nothing else (cancellation aside). An instance can be used again after
    `close`, also on another event loop.
    """

    @property
    def name(self) -> str:
        """The provider's name in `pipeline.yaml`."""
        ...

    async def complete(self, request: ChatRequest) -> Reply:
        """Ask for one reply; sends at most one HTTP request."""
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        """Ask for one reply and yield its text piece by piece."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """What a provider module says about itself, in a module constant called `INFO`.

    Attributes:
        name: its name in `pipeline.yaml`, equal to the module's name.
        title: its name in the window.
        is_llm: False for what only computes; every table and report then says so.
        needs_key: whether it cannot be used without an API key.
        needs_base_url: whether the address has to be given.
        make: builds the adapter from the settings and the key (None where there is none);
            raises ConfigError when they cannot work.
    """

    name: str
    title: str
    is_llm: bool
    needs_key: bool
    needs_base_url: bool
    make: Callable[[ServiceConfig, str | None], Provider]
