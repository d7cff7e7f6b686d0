"""A conversation with a service LLM, in the same form as with a local model."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.types import Message, ModelKind
from llamaduo_gui.inference.chat import SHORT_HASH, ChatInfo, ChatReply, ChatSettings, OnText
from llamaduo_gui.inference.writing import WritingClock, WritingProgress
from llamaduo_gui.providers.base import CHARACTERS_PER_TOKEN, ChatRequest, Provider, Reply
from llamaduo_gui.providers.budget import try_reserve_call
from llamaduo_gui.providers.ledger import ReplyLedger
from llamaduo_gui.providers.pricing import estimate_usd, reply_cost_usd
from llamaduo_gui.providers.registry import make_provider, service_label

_STOP_CHECK_S = 0.05


class ServiceChat:
    """A service LLM. Nothing is sent until something is asked.

    A stream does not tell its tokens: they are counted as pieces, and the cost is estimated by
    the length of the texts.

    Args:
        service: which one.
        secrets: API keys by provider name.
        ledger: where calls and their cost are noted, None for nowhere.
        budget: the project's, None for no limit.

    Raises:
        ConfigError: the key or address is missing.
    """

    def __init__(
        self,
        service: ServiceConfig,
        secrets: Mapping[str, str],
        *,
        ledger: ReplyLedger | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._service = service
        self._provider: Provider = make_provider(service, secrets)
        self._ledger = ledger
        self._budget = budget
        self._clock = WritingClock()
        address = service.base_url or ""
        identity = f"{service.provider} {service.model} {address.rstrip('/')}"
        self.info = ChatInfo(
            path=Path(service.model),
            name=service_label(service.name),
            size_bytes=0,
            # There are no weights to hash: this tells services apart, and from any weights.
            sha256=hashlib.sha256(identity.encode()).hexdigest()[:SHORT_HASH],
            quant="",
            architecture="",
            parameters=0,
            context_length=0,
            base_model="",
            kind=ModelKind.SERVICE.value,
            engine=service.provider,
        )

    @property
    def progress(self) -> WritingProgress:
        """How far the answer being written is, or the last one was."""
        return self._clock.progress()

    def answer(
        self,
        conversation: Sequence[Message],
        settings: ChatSettings,
        on_text: OnText,
        stop: threading.Event | None = None,
    ) -> ChatReply:
        """Answer a conversation that ends with the user's turn; see `ChatSession.answer`.

        Raises:
            UserError: it does not end so, or the budget does not allow it.
            ProviderError: the service failed.
        """
        if not conversation or conversation[-1].role != "user":
            raise UserError("There is nothing to answer: the last turn is not the user's.")
        service = self._service.model_copy(
            update={"temperature": settings.temperature, "max_tokens": settings.max_new_tokens}
        )
        # Two questions alike are two calls: each is paid.
        request = ChatRequest.for_service(
            service, tuple(conversation), "chat", repeat=time.time_ns()
        )
        key = request.key()
        # A chat has one call under way at a time, so there is nothing to wait for.
        try_reserve_call(self._budget, service, key, request)
        self._clock = WritingClock()
        parts: list[str] = []

        def take(piece: str) -> None:
            self._clock.count_token()
            parts.append(piece)
            on_text(piece)

        self._begin(key, request)
        try:
            is_stopped = asyncio.run(self._stream(request, take, stop or threading.Event()))
        except LlamaDuoError as error:
            self._fail(key, str(error))
            raise
        return self._end(key, request, "".join(parts), is_stopped=is_stopped)

    def close(self) -> None:
        """There is nothing to give back: each answer opens and closes its connection."""

    async def _stream(
        self, request: ChatRequest, take: Callable[[str], None], stop: threading.Event
    ) -> bool:
        """Pass on the pieces; True if `stop` ended it."""
        reading = asyncio.create_task(_read(self._provider.stream(request), take))
        try:
            while not (await asyncio.wait([reading], timeout=_STOP_CHECK_S))[0]:
                if stop.is_set():
                    return True
            await reading
            return False
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, LlamaDuoError):
                await reading
            await self._provider.close()

    def _end(self, key: str, request: ChatRequest, text: str, *, is_stopped: bool) -> ChatReply:
        cost = reply_cost_usd(self._service, request, Reply(text))
        if self._budget is not None:
            self._budget.settle(key, cost)
        measures, seconds = self._clock.progress(), self._clock.seconds
        prompt = request.prompt_tokens_estimate()
        written = len(text) // CHARACTERS_PER_TOKEN + 1 if text else 0
        if self._ledger is not None:
            counted = Reply(text, prompt_tokens=prompt, completion_tokens=written)
            self._ledger.complete(
                key,
                text=text,
                finish_reason="other" if is_stopped else "stop",
                tokens=counted.tokens,
                cost_usd=cost,
                latency_s=seconds,
                attempts=1,
            )
        return ChatReply(
            text=text,
            finish_reason="stopped" if is_stopped else "stop",
            prompt_tokens=prompt,
            cached_tokens=0,
            completion_tokens=written,
            first_token_s=measures.first_token_s,
            seconds=seconds,
            # Pieces are not tokens: no speed is told.
            tokens_per_second=None,
            context_used=prompt + written,
            context_length=0,
            cost_usd=cost,
        )

    def _begin(self, key: str, request: ChatRequest) -> None:
        if self._ledger is not None:
            self._ledger.begin(
                key,
                run_id=None,
                provider=request.provider,
                model=request.model,
                purpose=request.purpose,
                request=request.content(),
                lost_usd=estimate_usd(self._service, request),
            )

    def _fail(self, key: str, error: str) -> None:
        if self._budget is not None:
            self._budget.release(key)
        if self._ledger is not None:
            self._ledger.fail(key, error=error, attempts=1)


async def _read(pieces: AsyncIterator[str], take: Callable[[str], None]) -> None:
    async for piece in pieces:
        take(piece)
