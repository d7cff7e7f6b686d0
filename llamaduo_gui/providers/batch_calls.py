"""Calls to a batch API that are made again after passing faults, for as long as is reasonable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from llamaduo_gui.core.errors import FatalProviderError, TransientProviderError
from llamaduo_gui.providers.base import (
    BatchProvider,
    ChatRequest,
    RateLimitedError,
    UnreachableError,
)
from llamaduo_gui.providers.faults import UNREACHABLE_PATIENCE_S

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchPace:
    """How often a batch is asked after, and how long faults are borne. All in seconds.

    Attributes:
        first_poll_s, longest_poll_s, growth: the first wait, the longest, and the factor between.
        first_backoff_s: the wait after a first fault of a call; it doubles up to `longest_poll_s`.
        patience_s: a service that was reached once may stay away this long: nothing is lost
            meanwhile, for the batch goes on there.
        appears_within_s: a batch that may have been handed in is looked for this long.
        gather_s: a source that gives nothing for this long has nothing more to give now.
    """

    first_poll_s: float = 5.0
    longest_poll_s: float = 60.0
    growth: float = 1.5
    first_backoff_s: float = 2.0
    patience_s: float = 3600.0
    appears_within_s: float = 30.0
    gather_s: float = 0.2


class BatchCalls:
    """Makes calls to one service, patiently.

    Args:
        provider: the adapter.
        pace: waits between tries, and their end.
        tell: told in one sentence when a call has to be made again.
    """

    def __init__(
        self, provider: BatchProvider, pace: BatchPace, tell: Callable[[str], None]
    ) -> None:
        self.provider = provider
        self._pace = pace
        self._tell = tell
        self._is_in_contact = False

    async def patiently(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """The result of `attempt`, made again after each passing fault.

        Raises:
            FatalProviderError: the faults did not pass in time.
            ProviderError: what else `attempt` raises.
        """
        started = time.monotonic()
        faults = 0
        while True:
            try:
                result = await attempt()
            except TransientProviderError as error:
                wait_s = self._wait_s(error, faults)
                if time.monotonic() - started + wait_s > self._patience_s(error):
                    raise FatalProviderError(str(error), retry_after_s=wait_s) from error
                if not faults:
                    self._tell(f"{error} Trying again.")
                faults += 1
                await asyncio.sleep(wait_s)
            else:
                self._is_in_contact = True
                return result

    async def submit(self, requests: Mapping[str, ChatRequest], label: str) -> str:
        """Hand in a batch once; returns its id.

        An answer can be lost on its way back, so after such a fault the batch is looked for
        before it is handed in again.

        Raises:
            UnsureError: the last try may have arrived all the same.
            ProviderError: it was not handed in.
        """
        is_unsure = False

        async def attempt() -> str:
            nonlocal is_unsure
            if is_unsure and (found := await self.provider.find_batch(label)) is not None:
                return found
            try:
                return await self.provider.submit_batch(requests, label)
            except (RateLimitedError, UnreachableError):
                raise
            except TransientProviderError:
                is_unsure = True
                raise

        try:
            return await self.patiently(attempt)
        except FatalProviderError as error:
            if is_unsure:
                raise UnsureError(str(error)) from error
            raise

    def _wait_s(self, error: TransientProviderError, faults: int) -> float:
        if error.retry_after_s is not None:
            return error.retry_after_s
        return min(self._pace.longest_poll_s, self._pace.first_backoff_s * 2.0**faults)

    def _patience_s(self, error: TransientProviderError) -> float:
        """A wrong address shows at once; everything else is waited for."""
        if isinstance(error, UnreachableError) and not self._is_in_contact:
            return min(UNREACHABLE_PATIENCE_S, self._pace.patience_s)
        return self._pace.patience_s


class UnsureError(FatalProviderError):
    """A batch was handed in, or not: its answer was lost, and now nothing can be asked."""
