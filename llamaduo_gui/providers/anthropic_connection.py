"""The anthropic SDK's client, used for single HTTP requests whose faults are sentences."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.errors import ProviderError
from llamaduo_gui.providers.anthropic_errors import explain, read_problem
from llamaduo_gui.providers.endpoint import Endpoint

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

CONNECT_TIMEOUT_S = 10.0
# The SDK reads the environment's proxies itself, also without `trust_env`; None goes directly.
NO_PROXIES: dict[str, None] = {"http://": None, "https://": None, "all://": None}

# Told the text of a refusal in lower case; True if the request will be put in another way.
Adapt = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: its body as text, its headers by their names in lower case, and how long it took.

    Loading the SDK, a second with the first request, does not count.
    """

    text: str
    headers: Mapping[str, str]
    latency_s: float


class Connection:
    """Requests to one address with one key; the SDK retries nothing itself.

    The SDK's general `get` and `post` are used and not its methods for each path: those no longer
    know `temperature`, warn about models that are about to leave service, and fetch a batch's
    results from whatever address the server names.

    Args:
        endpoint: address and key, and the names in errors.
        timeout_s: time one request may take.
        is_local: whether the address is this machine; proxies are then left out.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float, *, is_local: bool) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._is_local = is_local
        self._open_client: AsyncAnthropic | None = None

    async def get(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        missing: ProviderError | None = None,
    ) -> Answer:
        """Fetch `path`; raises the errors of `Provider.complete`, or `missing` for a 404."""
        import httpx2

        return await self._exchange(
            lambda client: client.get(
                path, cast_to=httpx2.Response, options={"params": dict(query or {})}
            ),
            self._timeout_s,
            missing=missing,
        )

    async def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        adapt: Adapt | None = None,
        missing: ProviderError | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Send `body` to `path`; raises the errors of `Provider.complete`, `missing` for a 404."""
        import httpx2

        limit_s = timeout_s or self._timeout_s
        options = {"headers": dict(headers or {}), "timeout": self._limit(limit_s)}
        return await self._exchange(
            lambda client: client.post(
                path, cast_to=httpx2.Response, body=dict(body or {}), options=options
            ),
            limit_s,
            adapt,
            missing,
        )

    async def lines(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        adapt: Adapt | None = None,
        missing: ProviderError | None = None,
    ) -> AsyncGenerator[str, None]:
        """The lines of a success's body as they come; `path` is fetched where `body` is None."""
        import httpx2

        client: Any = self._client()
        options = {"headers": dict(headers or {})}
        try:
            if body is None:
                call = client.get(path, cast_to=httpx2.Response, stream=True, options=options)
            else:
                call = client.post(
                    path, cast_to=httpx2.Response, stream=True, body=dict(body), options=options
                )
            async with aclosing(await call) as response, aclosing(response.aiter_lines()) as lines:
                async for line in lines:
                    yield line
        except _faults() as error:
            raise self._explain(error, self._timeout_s, adapt, missing) from None

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._open_client is not None:
            client, self._open_client = self._open_client, None
            await client.close()

    async def _exchange(
        self,
        call: Callable[[Any], Any],
        limit_s: float,
        adapt: Adapt | None = None,
        missing: ProviderError | None = None,
    ) -> Answer:
        client = self._client()
        started = time.perf_counter()
        try:
            # The SDK's own timeout starts anew with every byte that comes.
            async with asyncio.timeout(limit_s):
                response = await call(client)
        except _faults() as error:
            raise self._explain(error, limit_s, adapt, missing) from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.text, headers, time.perf_counter() - started)

    def _explain(
        self,
        error: Exception,
        limit_s: float,
        adapt: Adapt | None,
        missing: ProviderError | None,
    ) -> ProviderError:
        """The error to raise; one that only needs the request put differently says so."""
        import anthropic

        if isinstance(error, anthropic.APIStatusError):
            if error.status_code == 404 and missing is not None:
                return missing
            is_refusal = error.status_code == 400
            if is_refusal and adapt is not None and adapt(read_problem(error.body).text):
                return self._endpoint.adapting()
        return explain(self._endpoint, error, limit_s)

    def _client(self) -> AsyncAnthropic:
        if self._open_client is None:
            import anthropic

            limit = self._limit(self._timeout_s)
            self._open_client = anthropic.AsyncAnthropic(
                api_key=self._endpoint.key,
                base_url=self._endpoint.address,
                max_retries=0,
                timeout=limit,
                # What users' own tracing is set up for is not told of prompts.
                open_telemetry=False,
                http_client=anthropic.DefaultAsyncHttpxClient(
                    timeout=limit,
                    follow_redirects=False,
                    mounts=NO_PROXIES if self._is_local else {},
                ),
            )
        return self._open_client

    def _limit(self, timeout_s: float) -> Any:
        import anthropic

        return anthropic.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))


def _faults() -> tuple[type[Exception], ...]:
    """Everything the SDK raises; bodies that are read piece by piece raise its HTTP library's."""
    import anthropic
    import httpx2

    return anthropic.AnthropicError, httpx2.HTTPError, TimeoutError
