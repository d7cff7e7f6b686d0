"""Tests of where a Gemini key may go, and with what form."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack

import pytest

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError, FatalProviderError
from llamaduo_gui.providers import gemini_session
from llamaduo_gui.providers.base import UnreachableError
from llamaduo_gui.providers.gemini_session import ADDRESS, GeminiSession, checked_address
from llamaduo_gui.providers.registry import make_provider

KEY = "AIza-marked-0123456789"


def service_at(address: str | None) -> ServiceConfig:
    return ServiceConfig(provider="gemini", model="m", base_url=address)


@pytest.mark.parametrize(
    ("address", "used"),
    [
        (None, ADDRESS),
        ("https://generativelanguage.googleapis.com/", ADDRESS),
        ("https://generativelanguage.googleapis.com/v1beta", ADDRESS),
        ("https://generativelanguage.googleapis.com/v1/", ADDRESS),
        (
            "https://eu-generativelanguage.googleapis.com",
            "https://eu-generativelanguage.googleapis.com",
        ),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:8000/gemini", "http://localhost:8000/gemini"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_google_and_this_machine_get_the_key(address: str | None, used: str) -> None:
    assert checked_address(service_at(address)) == used


@pytest.mark.parametrize(
    "address",
    [
        "http://generativelanguage.googleapis.com",
        "https://googleapis.com",
        "https://googleapis.com.example.org",
        "https://generativelanguage.googleapis.com@example.org",
        "https://example.org\\.googleapis.com",
        "https://example.org/.googleapis.com",
        "https://notgoogleapis.com",
        "https://127.0.0.1.example.org",
        "ftp://127.0.0.1",
        "http://127.0.0.1:0",
        "http://127.0.0.1:port",
        "generativelanguage.googleapis.com",
        "https://",
    ],
)
def test_no_other_address_gets_the_key(address: str) -> None:
    with pytest.raises(ConfigError, match="is not an address of Google's") as caught:
        make_provider(service_at(address), {"gemini": KEY})
    assert KEY not in str(caught.value)


def test_a_missing_key_and_one_that_cannot_be_are_said_at_once() -> None:
    with pytest.raises(ConfigError, match="Google Gemini needs an API key"):
        make_provider(service_at(None), {})
    with pytest.raises(ConfigError, match="characters that no key has") as caught:
        make_provider(service_at(None), {"gemini": "\u201cAIza\u201d"})
    assert "AIza" not in str(caught.value)


def test_nothing_shows_the_key() -> None:
    session = GeminiSession(service_at(None), KEY)
    assert KEY not in f"{session!r} {session.endpoint!r}"


def test_a_proxy_that_cannot_be_used_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "carrier-pigeon://127.0.0.1:9")
    provider = make_provider(service_at(None), {"gemini": KEY})
    with pytest.raises(FatalProviderError, match=r"cannot be spoken to .*correct HTTPS_PROXY"):
        asyncio.run(provider.list_models())  # type: ignore[arg-type]


def test_a_machine_that_takes_no_connection_is_given_up_sooner_than_a_slow_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gemini_session, "CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as queue:
        port = listener.getsockname()[1]
        for _ in range(4):
            # Beyond the first, nobody is let in before the listener takes someone.
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        session = GeminiSession(service_at(f"http://127.0.0.1:{port}"), KEY)

        async def look() -> None:
            try:
                async with session.speaking(20):
                    await session.sdk.models.list()
            finally:
                await session.close()

        started = time.monotonic()
        with pytest.raises(UnreachableError):
            asyncio.run(look())
        assert time.monotonic() - started < 10
