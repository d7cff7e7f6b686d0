"""Plan B: who answers a request, and who does when that fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llamaduo_gui.core.errors import LlamaDuoError, RequestRejectedError, UserError
from llamaduo_gui.serving.answerers import Answer, Answerer, Ending, Question

Plan = Literal["local", "local_first", "service_first", "shadow"]
# Questions whose local answer is still to come, in the shadow plan; more are left out.
MOST_SHADOWS = 32


@dataclass(frozen=True, slots=True)
class Comparison:
    """What service and local model said to one question."""

    question: Question
    service: str
    service_text: str
    service_s: float
    local: str
    local_text: str
    local_s: float


class Router:
    """Answers questions by a plan.

    `local`: the local model alone. `local_first`: the service where the local model fails or says
    nothing. `service_first`: the local model where the service is out of reach, overloaded, out
    of credit or retired; what the service refuses as such (a filter, a bad request) stays
    refused. `shadow`: as service_first, and the local model is asked the same beside it.

    Args:
        plan: as above.
        local: the local model.
        service: the service LLM; not needed for `local`.
        say: takes a sentence for the person at the terminal, never a prompt or an answer.
        on_comparison: takes what both said (shadow).

    Attributes:
        counts: answers by the name of who gave them, and shadows `compared`, `equal`, `left_out`.
    """

    def __init__(
        self,
        plan: Plan,
        local: Answerer,
        service: Answerer | None,
        *,
        say: Callable[[str], None],
        on_comparison: Callable[[Comparison], None] | None = None,
    ) -> None:
        if service is None and plan != "local":
            raise UserError(f"The plan {plan} needs a service LLM.")
        self.plan = plan
        self._local = local
        self._service = service
        self._say = say
        self._on_comparison = on_comparison
        self._shadows: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    @property
    def answerers(self) -> Sequence[Answerer]:
        """Who is asked, in order."""
        if self._service is None or self.plan == "local":
            return (self._local,)
        if self.plan == "local_first":
            return (self._local, self._service)
        return (self._service, self._local)

    async def complete(self, question: Question) -> tuple[Answerer, Answer]:
        """Answer in one piece.

        Raises:
            LlamaDuoError: nobody could answer.
        """
        started = time.monotonic()
        *firsts, last = self.answerers
        for answerer in firsts:
            try:
                answer = await answerer.complete(question)
            except LlamaDuoError as error:
                self._fall_back(answerer, error)
                continue
            if answer.text.strip() or not answerer.is_local:
                self._note(answerer, question, answer.text, started)
                return answerer, answer
            self._say(f"{answerer.name} said nothing; {last.name} answers.")
        answer = await last.complete(question)
        self._note(last, question, answer.text, started)
        return last, answer

    async def stream(self, question: Question) -> tuple[Answerer, AsyncGenerator[str | Ending]]:
        """Answer piece by piece. Who answers is settled by the first piece, which has come.

        Raises:
            LlamaDuoError: nobody could answer.
        """
        started = time.monotonic()
        *firsts, last = self.answerers
        for answerer in firsts:
            stream = answerer.stream(question)
            try:
                first = await _first_text(stream)
            except LlamaDuoError as error:
                self._fall_back(answerer, error)
                continue
            if first.strip() or not answerer.is_local:
                return answerer, self._rest(answerer, question, first, stream, started)
            self._say(f"{answerer.name} said nothing; {last.name} answers.")
        stream = last.stream(question)
        first = await _first_text(stream)
        return last, self._rest(last, question, first, stream, started)

    def stop(self) -> None:
        """End answers under way and drop the shadows: the server is about to end."""
        for task in list(self._shadows):
            task.cancel()
        for answerer in self.answerers:
            answerer.stop()

    async def close(self) -> None:
        """Drop the shadows under way and close both."""
        for task in list(self._shadows):
            task.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)
        await self._local.close()
        if self._service is not None:
            await self._service.close()

    async def _rest(
        self,
        answerer: Answerer,
        question: Question,
        first: str,
        stream: AsyncGenerator[str | Ending],
        started: float,
    ) -> AsyncGenerator[str | Ending]:
        parts = [first]
        async with contextlib.aclosing(stream):
            yield first
            async for piece in stream:
                if not isinstance(piece, Ending):
                    parts.append(piece)
                yield piece
        self._note(answerer, question, "".join(parts), started)

    def _fall_back(self, answerer: Answerer, error: LlamaDuoError) -> None:
        if isinstance(error, RequestRejectedError):
            raise error
        self._say(f"{self.answerers[-1].name} answers in place of {answerer.name}: {error}")

    def _note(self, answerer: Answerer, question: Question, text: str, started: float) -> None:
        self.counts[answerer.name] += 1
        if self.plan != "shadow" or answerer.is_local:
            return
        if len(self._shadows) >= MOST_SHADOWS:
            self.counts["left_out"] += 1
            return
        seconds = time.monotonic() - started
        self._start(self._compare(answerer, question, text, seconds))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _compare(
        self, answerer: Answerer, question: Question, text: str, seconds: float
    ) -> None:
        started = time.monotonic()
        try:
            answer = await self._local.complete(question)
        except LlamaDuoError as error:
            self._say(f"{self._local.name} could not answer in the shadow: {error}")
            return
        self.counts["compared"] += 1
        self.counts["equal"] += int(answer.text.strip() == text.strip())
        if self._on_comparison is not None:
            local_s = time.monotonic() - started
            self._on_comparison(
                Comparison(
                    question,
                    answerer.name,
                    text,
                    seconds,
                    self._local.name,
                    answer.text,
                    local_s,
                )
            )


async def _first_text(stream: AsyncGenerator[str | Ending]) -> str:
    """The beginning of an answer up to its first visible text; empty if it has none."""
    parts: list[str] = []
    try:
        async for piece in stream:
            if isinstance(piece, Ending):
                await stream.aclose()
                break
            parts.append(piece)
            if piece.strip():
                break
    except BaseException:
        await stream.aclose()
        raise
    return "".join(parts)
