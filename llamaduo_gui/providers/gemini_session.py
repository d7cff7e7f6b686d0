"""A connection to the Gemini API: the google-genai SDK, kept from the environment and retries."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import (
    ConfigError,
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
)
from llamaduo_gui.providers.endpoint import Endpoint, Problem, is_this_machine
from llamaduo_gui.providers.gemini_errors import explain, read_problem

if TYPE_CHECKING:
    import httpx2
    from google.genai.client import AsyncClient, Client

ADDRESS = "https://generativelanguage.googleapis.com"
API_VERSION = "v1beta"
CONNECT_TIMEOUT_S = 10.0
# More than `concurrency` can ask for: requests wait for their turn in the engine and not here.
MOST_CONNECTIONS = 1000
# The service turns down an X-Server-Timeout below this ("Manually set deadline is too short").
SHORTEST_SERVER_TIMEOUT_S = 10

_GOOGLE = re.compile(r"([a-z0-9-]+\.)+googleapis\.com")
_VERSION_PATH = re.compile(r"/v1(alpha|beta)?$")


class _Clients(NamedTuple):
    """The SDK and the HTTP clients below it, which it leaves to others to close.

    It makes one for blocking calls in any case, with the environment's proxies, unless given one.
    """

    sdk: Client
    http: httpx2.AsyncClient
    unused: httpx2.Client


class GeminiSession:
    """Opens the SDK's client when it is needed; can be used again after `close`.

    Args:
        service: model, address and timeout.
        key: API key; it goes to Google's addresses and this machine and nowhere else.

    Raises:
        ConfigError: the address or the key cannot be right.
    """

    def __init__(self, service: ServiceConfig, key: str) -> None:
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"The API key for {service.provider} has characters that no key has; "
                "paste it again."
            )
        self.service = service
        self._key = key
        self.endpoint = Endpoint(service.provider, service.model, checked_address(service), key)
        self._clients: _Clients | None = None

    @property
    def sdk(self) -> AsyncClient:
        """The SDK's asynchronous client."""
        return self._opened().sdk.aio

    async def get_json(self, path: str) -> Mapping[str, Any]:
        """The JSON object at a path below the API version; raises what the SDK would."""
        from google.genai.errors import APIError

        url = f"{self.endpoint.address}/{API_VERSION}/{path}"
        response = await self._opened().http.get(url, headers={"x-goog-api-key": self._key})
        await APIError.raise_for_async_response(response)
        body = json.loads(response.text)
        if not isinstance(body, dict):
            raise TypeError(f"not a JSON object but a {type(body).__name__}")
        return body

    @asynccontextmanager
    async def speaking(
        self,
        timeout_s: float | None = None,
        *,
        adapt: Callable[[Problem], bool] | None = None,
        gone: str = "",
    ) -> AsyncIterator[None]:
        """Turn everything that calling the SDK can raise into a provider error.

        The SDK reads answers without checking their form, so that a broken one can also end in a
        TypeError and its like; only SDK calls belong in the block.

        Args:
            timeout_s: for the whole block; the SDK's own starts anew with every byte that comes.
            adapt: told the problem of a 400; True if the request is worth sending again, since
                it will be put in another way.
            gone: a thing that the service keeps for a time; its absence is no fault of settings.
        """
        import httpx2
        from google.genai.errors import APIError

        broken = (ValueError, TypeError, AttributeError, LookupError)
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except APIError as error:
            problem = read_problem(error.details)
            if error.code == 400 and adapt is not None and adapt(problem):
                raise self.endpoint.adapting() from None
            is_absent = error.code == 404 or (error.code == 403 and "not exist" in problem.text)
            if gone and is_absent:
                raise RequestRejectedError(
                    f"{self.endpoint.name} has {gone} no more ({error.code})."
                ) from None
            raise self._explain(error) from None
        except (httpx2.HTTPError, TimeoutError, *broken) as error:
            raise self._explain(error) from None

    def _explain(self, error: Exception) -> ProviderError:
        return explain(self.endpoint, error, self.service.timeout_s)

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        clients, self._clients = self._clients, None
        if clients is not None:
            await clients.http.aclose()
            clients.unused.close()

    def _opened(self) -> _Clients:
        if self._clients is None:
            try:
                self._clients = self._open()
            except (ImportError, ValueError) as error:
                raise FatalProviderError(
                    f"{self.endpoint.name} cannot be spoken to as the environment wants it"
                    f"{self.endpoint.said(str(error))}; correct HTTPS_PROXY, ALL_PROXY or "
                    "GOOGLE_GENAI_HTTP_CLIENT."
                ) from None
        return self._clients

    def _open(self) -> _Clients:
        import httpx2
        from google.genai.client import Client, DebugConfig
        from google.genai.types import HttpOptions

        timeout_s = self.service.timeout_s
        server_timeout_s = max(SHORTEST_SERVER_TIMEOUT_S, math.ceil(timeout_s))
        connect_timeout_s = min(timeout_s, CONNECT_TIMEOUT_S)

        async def connect_soon(request: httpx2.Request) -> None:
            # The SDK knows one timeout only and gives it to every phase of a request.
            request.extensions["timeout"]["connect"] = connect_timeout_s

        # A client of our own: no redirects, which would take the key along, and no aiohttp with
        # its own retry. A proxy for the outside world must not get requests to this machine.
        http = httpx2.AsyncClient(
            timeout=timeout_s,
            limits=httpx2.Limits(max_connections=MOST_CONNECTIONS),
            trust_env=not is_this_machine(self.endpoint.address),
            event_hooks={"request": [connect_soon]},
        )
        unused = httpx2.Client(trust_env=False)
        # Each of these is otherwise taken from the environment: GOOGLE_GENAI_USE_VERTEXAI,
        # GOOGLE_API_KEY, GOOGLE_GEMINI_BASE_URL, GOOGLE_GENAI_API_VERSION and
        # GOOGLE_GENAI_CLIENT_MODE, which replays recorded answers. Without retry_options the SDK
        # sends a request once.
        sdk = Client(
            enterprise=False,
            api_key=self._key,
            debug_config=DebugConfig(client_mode=None, replays_directory=None, replay_id=None),
            http_options=HttpOptions(
                base_url=self.endpoint.address,
                api_version=API_VERSION,
                timeout=max(1, round(1000 * timeout_s)),
                headers={"X-Server-Timeout": str(server_timeout_s)},
                httpx_async_client=http,
                httpx_client=unused,
            ),
        )
        return _Clients(sdk, http, unused)


def checked_address(service: ServiceConfig) -> str:
    """The address without the API's version; raises ConfigError if no key may go there."""
    address = (service.base_url or ADDRESS).rstrip("/")
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        is_usable = parts.port is None or parts.port > 0
    except ValueError:
        host, is_usable = "", False
    is_google = parts.scheme == "https" and _GOOGLE.fullmatch(host) if is_usable else None
    is_here = is_usable and parts.scheme in ("http", "https") and is_this_machine(address)
    if not is_google and not is_here:
        raise ConfigError(
            f"{service.name}: {service.base_url} is not an address of Google's; remove base_url, "
            "or use `provider: openai_compatible` for other endpoints."
        )
    return _VERSION_PATH.sub("", address)
