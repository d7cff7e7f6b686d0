"""What every service LLM looks like to the rest of the application: request, reply, provider."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self, runtime_checkable

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ProviderError, TransientProviderError
from llamaduo_gui.core.types import Message, TokenCounts

Purpose = Literal["synthesize", "judge", "answer", "chat"]
FinishReason = Literal["stop", "length", "refusal", "content_filter", "other"]

# English prose is near four characters a token; used only to pace requests, never to bill.
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What a service's answer says of its limits; None where it does not tell.

    Attributes:
        rpm, tpm: requests and tokens allowed a minute.
        requests_left, tokens_left: what is left of them now.
        requests_reset_s, tokens_reset_s: seconds until they are whole again.
    """

    rpm: float | None = None
    tpm: float | None = None
    requests_left: int | None = None
    tokens_left: int | None = None
    requests_reset_s: float | None = None
    tokens_reset_s: float | None = None


class RateLimitedError(TransientProviderError):
    """The service asked for fewer requests (429): every request waits, not only this one.

    Attributes:
        limits: what the answer said of the service's limits, None if nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        limits: RateLimits | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limits = limits


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
        top_p, seed: of the sampling; None leaves them to the service.
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
    top_p: float | None = None
    seed: int | None = None

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
        found = {
            "messages": [message.to_dict() for message in self.messages],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "reply_schema": dict(self.reply_schema.schema) if self.reply_schema else None,
            "repeat": self.repeat,
            "attempt": self.attempt,
        }
        # Only where they are set: stored replies of requests without them keep their keys.
        sampling = {"top_p": self.top_p, "seed": self.seed}
        return found | {name: value for name, value in sampling.items() if value is not None}

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

    Attributes:
        prompt_tokens: all tokens read, whatever they cost; `cached_tokens` of them came out of
            the service's cache and `cache_write_tokens` were written to it.
        completion_tokens: all tokens written that are paid for; `reasoning_tokens` of them are
            not part of `text`.
        cost_usd: what the service itself says it cost, or 0.0 where it is free; None leaves it
            to the price list.
        limits: what the answer said of the service's limits; not stored.
    """

    text: str
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    cost_usd: float | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    limits: RateLimits | None = None

    @property
    def tokens(self) -> TokenCounts:
        """All token counts together."""
        return TokenCounts(
            self.prompt_tokens,
            self.completion_tokens,
            self.cached_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model an endpoint offers; `title` is its name for people where it has one."""

    id: str
    title: str = ""


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

    async def list_models(self) -> Sequence[ModelInfo]:
        """The models this key can use, as the endpoint lists them; one or few HTTP requests.

        Raises the errors of `complete`; RequestRejectedError where the endpoint has no list.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


BatchState = Literal["running", "ended", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """How far a batch is.

    Attributes:
        state: `ended` when its results can be fetched, each an answer or an error; `failed` when
            the batch as a whole was turned down or expired without results (`problem` says why).
        done, total: requests answered so far and all of them, 0 where the service does not tell.
    """

    state: BatchState
    done: int = 0
    total: int = 0
    problem: str = ""


@runtime_checkable
class BatchProvider(Protocol):
    """What an adapter has besides `Provider` when its API answers in batches at half the price.

    All methods raise the errors of `Provider.complete`. `label` is a text of at most 64 ASCII
    letters, digits, `-` and `_` that the caller makes up; a batch is found again by it where the
    API keeps one, so that a submission whose answer was lost is not made twice.
    """

    @property
    def batch_limit(self) -> int:
        """Requests one batch may have."""
        ...

    async def submit_batch(self, requests: Mapping[str, ChatRequest], label: str) -> str:
        """Hand in requests by their keys (`ChatRequest.key()`); returns the batch's id."""
        ...

    async def find_batch(self, label: str) -> str | None:
        """Id of the newest batch of this label, None if there is none or the API cannot tell."""
        ...

    async def batch_status(self, batch_id: str) -> BatchStatus:
        """Ask how far a batch is."""
        ...

    def batch_results(self, batch_id: str) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
        """Results of a batch that ended, as they come: the request's key, its reply or error.

        An error is RequestRejectedError where asking again is in vain, and
        TransientProviderError where it may succeed. Requests without a result are left out.
        """
        ...

    async def cancel_batch(self, batch_id: str) -> None:
        """Ask for a batch to be stopped; what was answered can still be fetched."""
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
