"""OpenAI's own API: the same wire format, at its own addresses, with its own key."""

from __future__ import annotations

from urllib.parse import urlsplit

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.providers.base import ProviderInfo
from llamaduo_gui.providers.openai_batch import OpenAIBatches

ADDRESS = "https://api.openai.com/v1"
LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")


def _make(service: ServiceConfig, key: str | None) -> OpenAIBatches:
    """The adapter; an OpenAI key goes to OpenAI (or a server on this machine) and nowhere else."""
    if service.base_url:
        parts = urlsplit(service.base_url)
        host = parts.hostname or ""
        is_openai = parts.scheme == "https" and f".{host}".endswith(".openai.com")
        if not is_openai and host not in LOCAL_HOSTS:
            raise ConfigError(
                f"{service.name}: {service.base_url} is not an address of OpenAI's; "
                "use `provider: openai_compatible` for other endpoints."
            )
    return OpenAIBatches(service, key, default_address=ADDRESS)


INFO = ProviderInfo(
    name="openai",
    title="OpenAI",
    is_llm=True,
    needs_key=True,
    needs_base_url=False,
    make=_make,
)
