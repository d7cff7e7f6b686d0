"""The two that can answer a request of the endpoint: the local GGUF file and the service LLM."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import (
    LlamaDuoError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.types import Message
from llamaduo_gui.inference.chat import ChatInfo, ChatReply, ChatSession, ChatSettings
from llamaduo_gui.providers.base import ChatRequest, Provider, Reply
from llamaduo_gui.providers.pricing import reply_cost_usd
from llamaduo_gui.providers.registry import make_provider

# A service that failed is not asked again for so long: each try may cost its whole timeout.
COOL_DOWN_S = 15.0


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks; None leaves a setting to whoever answers."""

    messages: tuple[Message, ...]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended; token counts are 0 where they are not known."""

    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    text: str
    ending: Ending


class Answerer(Protocol):
    """One of the two. Both methods raise LlamaDuoError and nothing else, cancellation aside."""

    @property
    def name(self) -> str:
        """The `model` in the answers it gives."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether nothing leaves this computer."""
        ...

    async def complete(self, question: Question) -> Answer:
        """Answer in one piece."""
        ...

    def stream(self, question: Question) -> AsyncGenerator[str | Ending]:
        """Answer piece by piece; an Ending comes last."""
        ...

    def stop(self) -> None:
        """End the answers under way, as far as they can be ended."""
        ...

    async def close(self) -> None:
        """Give back memory or connections."""
        ...


class LocalModel:
    """A GGUF file. Requests wait for one another; one whose client has left is stopped."""

    is_local = True

    def __init__(self, path: Path, *, temperature: float = 0.7) -> None:
        """Load the file.

        Raises:
            UserError: it cannot be used.
        """
        self._session = ChatSession(path)
        self.info: ChatInfo = self._session.info
        self._temperature = temperature
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "local-model")
        self._has_stopped = False
        self._stop = threading.Event()

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.info.path.stem

    async def complete(self, question: Question) -> Answer:
        """Answer in one piece."""
        parts: list[str] = []
        ending = Ending()
        async with contextlib.aclosing(self.stream(question)) as stream:
            async for piece in stream:
                if isinstance(piece, Ending):
                    ending = piece
                else:
                    parts.append(piece)
        return Answer("".join(parts), ending)

    async def stream(self, question: Question) -> AsyncGenerator[str | Ending]:
        """Answer piece by piece; the model writes on a thread of its own."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            pieces: asyncio.Queue[str | None] = asyncio.Queue()
            stop = self._stop = threading.Event()
            if self._has_stopped:
                raise LlamaDuoError("The endpoint is being stopped.")

            def write() -> ChatReply:
                return self._session.answer(
                    question.messages,
                    self._settings(question),
                    lambda text: _post(loop, pieces, text),
                    stop,
                )

            writing = loop.run_in_executor(self._thread, write)
            writing.add_done_callback(lambda _: pieces.put_nowait(None))
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
                reply = writing.result()
                reason = "stop" if reply.finish_reason in ("stop", "stopped") else "length"
                yield Ending(reason, reply.prompt_tokens, reply.completion_tokens)
            finally:
                stop.set()
                await asyncio.wait([writing])

    def stop(self) -> None:
        """End the answer under way, and give no more."""
        self._has_stopped = True
        self._stop.set()

    async def close(self) -> None:
        """Unload the file."""
        self.stop()
        self._thread.shutdown(wait=True)
        self._session.close()

    def _settings(self, question: Question) -> ChatSettings:
        temperature = question.temperature
        return ChatSettings(
            temperature=self._temperature if temperature is None else temperature,
            top_p=1.0 if question.top_p is None else question.top_p,
            max_new_tokens=question.max_tokens or self.info.context_length,
            seed=question.seed,
        )


class ServiceModel:
    """The service LLM of a project, with what it has cost so far.

    Attributes:
        cost_usd: of the answers given, estimated by length where they were streamed.
        has_unpriced: whether there were answers whose price is not known.
    """

    is_local = False

    def __init__(self, service: ServiceConfig, secrets: Mapping[str, str]) -> None:
        """Make the adapter; nothing is sent yet.

        Raises:
            ConfigError: the key or address is missing.
        """
        self._service = service
        self._provider: Provider = make_provider(service, secrets)
        self._rests_until = 0.0
        self.cost_usd = 0.0
        self.has_unpriced = False

    @property
    def name(self) -> str:
        """`provider:model`."""
        return self._service.name

    async def complete(self, question: Question) -> Answer:
        """Answer in one piece."""
        request = self._request(question)
        self._check_rest()
        try:
            reply = await self._provider.complete(request)
        except ProviderError as error:
            self._rest(error)
            raise
        self._count(request, reply)
        return Answer(
            reply.text, Ending(_reason(reply), reply.prompt_tokens, reply.completion_tokens)
        )

    async def stream(self, question: Question) -> AsyncGenerator[str | Ending]:
        """Answer piece by piece; the services' streams do not tell tokens or how they ended."""
        request = self._request(question)
        self._check_rest()
        parts: list[str] = []
        try:
            async for piece in self._provider.stream(request):
                parts.append(piece)
                yield piece
        except ProviderError as error:
            self._rest(error)
            raise
        finally:
            if parts:
                self._count(request, Reply("".join(parts)))
        yield Ending()

    def stop(self) -> None:
        """Let answers under way come; the server waits for them a few seconds."""

    async def close(self) -> None:
        """Close the connections."""
        await self._provider.close()

    def _request(self, question: Question) -> ChatRequest:
        service = self._service
        if question.max_tokens:
            service = service.model_copy(update={"max_tokens": question.max_tokens})
        if question.temperature is not None:
            service = service.model_copy(update={"temperature": question.temperature})
        return ChatRequest.for_service(service, question.messages, "chat")

    def _check_rest(self) -> None:
        left = self._rests_until - time.monotonic()
        if left > 0:
            raise TransientProviderError(
                f"{self.name} failed a moment ago and is asked again in {left:.0f} s.",
                retry_after_s=left,
            )

    def _rest(self, error: ProviderError) -> None:
        if not isinstance(error, RequestRejectedError):
            wait_s = COOL_DOWN_S if error.retry_after_s is None else error.retry_after_s
            self._rests_until = time.monotonic() + wait_s

    def _count(self, request: ChatRequest, reply: Reply) -> None:
        cost = reply_cost_usd(self._service, request, reply)
        self.cost_usd += cost or 0.0
        self.has_unpriced = self.has_unpriced or cost is None


def _reason(reply: Reply) -> str:
    if reply.finish_reason in ("refusal", "content_filter"):
        return "content_filter"
    return "length" if reply.finish_reason == "length" else "stop"


def _post(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[str | None], text: str) -> None:
    """Hand a piece to the event loop, which may have ended meanwhile."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(queue.put_nowait, text)
