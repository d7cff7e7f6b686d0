"""Tests of what goes wrong with Anthropic: every fault one sentence, and keys that stay put."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import (
    ConfigError,
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.providers.base import (
    RateLimitedError,
    UnreachableError,
)
from llamaduo_gui.providers.registry import make_provider
from tests.anthropic_requests import KEY, ask, is_one_sentence, request_to, service_of
from tests.fakes.answers import Answers
from tests.fakes.anthropic_faults import Fault
from tests.fakes.anthropic_server import FakeAnthropic, Settings
from tests.fakes.http_server import HttpServer, Request, Response


@pytest.fixture
def server() -> Iterator[FakeAnthropic]:
    settings = Settings(key=KEY)
    with FakeAnthropic(settings, Answers(known={"Capital of France?": "Paris, it is"})) as it:
        yield it


def failure(server: FakeAnthropic, *faults: Fault | None, **changes: Any) -> ProviderError:
    """The error of the last of several requests that meet these faults in turn."""
    server.settings.script = list(faults)
    service = service_of(server, **changes)

    async def use() -> ProviderError:
        provider = make_provider(service, {"anthropic": KEY})
        error: ProviderError | None = None
        try:
            for _ in faults:
                try:
                    await provider.complete(request_to(service))
                except ProviderError as caught:
                    error = caught
        finally:
            await provider.close()
        assert error is not None
        return error

    return asyncio.run(use())


@pytest.mark.parametrize("fault", ["drop", "truncated", "server_error", "overloaded", "rate_limit"])
def test_the_sdk_itself_never_sends_twice(server: FakeAnthropic, fault: Fault) -> None:
    failure(server, fault)
    assert len(server.log) == 1


def is_kind(error: ProviderError, kind: type[ProviderError]) -> bool:
    """Whether the engine takes an error for this kind; those that hold everybody are their own."""
    holds_everybody = (RateLimitedError, UnreachableError)
    is_held = isinstance(error, holds_everybody)
    return isinstance(error, kind) and is_held == issubclass(kind, holds_everybody)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("server_error", TransientProviderError, "passing fault (500: Internal server error)"),
        ("overloaded", TransientProviderError, "passing fault (529: Overloaded)"),
        ("timeout", TransientProviderError, "passing fault (504: Request timeout)"),
        ("error_in_200", TransientProviderError, "passing fault (529: Overloaded)"),
        ("drop", TransientProviderError, "broke before its reply was complete"),
        ("truncated", TransientProviderError, "broke before its reply was complete"),
        ("malformed_json", TransientProviderError, "cannot be read: it is not valid JSON"),
        ("no_content", TransientProviderError, "cannot be read: it has no content"),
        ("rate_limit", RateLimitedError, "asks for fewer requests (429: This request would"),
        ("tier_spend_limit", FatalProviderError, "reached the account's spending limit (429"),
        ("own_spend_limit", FatalProviderError, "reached the account's spending limit (400"),
        ("no_credit", FatalProviderError, "has no credit left (400: Your credit balance is too"),
        ("billing", FatalProviderError, "has no credit left (402"),
        ("forbidden", FatalProviderError, "refuses access (403: Your API key may not"),
        ("disabled", FatalProviderError, "refuses access (400: This organization has been"),
        ("web_page", FatalProviderError, "answers with a web page and not as an API"),
        ("content_filter", RequestRejectedError, "refused this prompt by its content filter"),
        ("context_length", RequestRejectedError, "cannot take a prompt this long (400: prompt is"),
        ("too_large", RequestRejectedError, "cannot take a prompt this long (413"),
        ("bad_request", RequestRejectedError, "rejected the request (400: Something about"),
    ],
)
def test_every_fault_becomes_one_sentence_of_the_right_kind(
    server: FakeAnthropic, fault: Fault, kind: type[ProviderError], says: str
) -> None:
    error = failure(server, fault)
    assert is_kind(error, kind)
    assert says in str(error)
    assert str(error).startswith(("anthropic:claude-fake", "The connection to anthropic:claude"))
    assert is_one_sentence(str(error))
    assert error.__cause__ is None


def test_a_web_page_amid_good_replies_is_a_passing_fault(server: FakeAnthropic) -> None:
    assert is_kind(failure(server, None, "web_page"), TransientProviderError)


def test_a_silent_server_is_a_passing_fault_after_the_timeout(server: FakeAnthropic) -> None:
    started = time.monotonic()
    error = failure(server, "hang", timeout_s=0.3)
    assert time.monotonic() - started < 3
    assert is_kind(error, TransientProviderError)
    assert "did not answer within 0.3 s" in str(error)


def test_a_server_that_answers_drop_by_drop_is_given_up_after_the_timeout() -> None:
    async def trickle(_request: Request) -> Response:
        return Response(pieces=[b" "] * 40, piece_delay_s=0.1)

    with HttpServer(trickle) as slow:
        service = ServiceConfig(
            provider="anthropic", model="claude-fake", base_url=slow.address, timeout_s=0.4
        )
        started = time.monotonic()
        with pytest.raises(TransientProviderError, match=r"did not answer within 0.4 s"):
            ask(service)
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_429_says_when_to_come_back_and_what_the_limits_are(
    server: FakeAnthropic, form: Any
) -> None:
    server.settings.retry_after = form
    server.settings.retry_after_s = 30
    server.settings.max_rpm = 600
    error = failure(server, "rate_limit")
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s is not None
    assert 28 <= error.retry_after_s <= 30
    assert error.limits is not None
    assert error.limits.rpm == 600


def test_a_wrong_key_says_where_to_set_it_and_not_what_it_was(server: FakeAnthropic) -> None:
    with pytest.raises(FatalProviderError) as caught:
        ask(service_of(server), key="sk-wrong-secret")
    assert str(caught.value) == (
        "anthropic:claude-fake did not accept the API key (401); set the right one in Settings "
        "or in ANTHROPIC_API_KEY."
    )


def test_a_model_that_left_service_is_named_as_such(server: FakeAnthropic) -> None:
    server.settings.models = ("claude-fake",)
    said = {}
    for model in ("claude-opus-9", "claude-3-opus-20240229", "claude-3-5-sonnet-20240620"):
        with pytest.raises(FatalProviderError) as caught:
            ask(service_of(server, model=model))
        said[model] = str(caught.value)
    assert "claude-opus-9 is not offered" in said["claude-opus-9"]
    assert (
        "has left service (404, announced for January 5th, 2026)" in said["claude-3-opus-20240229"]
    )
    assert "has left service (404);" in said["claude-3-5-sonnet-20240620"]


def test_a_model_whose_last_day_is_to_come_is_not_said_to_be_gone(
    server: FakeAnthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anthropic.resources.messages import DEPRECATED_MODELS

    monkeypatch.setitem(DEPRECATED_MODELS, "claude-late", "January 1st, 2999")
    server.settings.models = ("claude-fake",)
    with pytest.raises(FatalProviderError, match="is not offered"):
        ask(service_of(server, model="claude-late"))


def test_a_wrong_path_is_not_taken_for_a_wrong_model(server: FakeAnthropic) -> None:
    with pytest.raises(FatalProviderError, match=r"no Messages API at .*/gateway"):
        ask(service_of(server, base_url=f"{server.url}/gateway"))


def test_the_version_behind_the_address_is_not_needed_and_does_not_hurt(
    server: FakeAnthropic,
) -> None:
    assert ask(service_of(server, base_url=f"{server.url}/v1/")).text == "Paris, it is"


def test_nobody_listening_is_told_apart_from_a_broken_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    service = ServiceConfig(
        provider="anthropic", model="claude-fake", base_url=f"http://127.0.0.1:{port}"
    )
    with pytest.raises(UnreachableError, match=f"cannot be reached at http://127.0.0.1:{port}"):
        ask(service)


def test_a_proxy_for_the_outside_world_is_not_used_for_this_machine(
    server: FakeAnthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(service_of(server)).text == "Paris, it is"


@pytest.mark.parametrize(
    "address",
    [
        "https://gateway.example.org",
        "http://api.anthropic.com",
        "https://api.anthropic.com.example.org",
        "https://notanthropic.com",
    ],
)
def test_an_anthropic_key_goes_to_anthropic_or_this_machine_and_nowhere_else(
    address: str,
) -> None:
    service = ServiceConfig(provider="anthropic", model="m", base_url=address)
    with pytest.raises(ConfigError, match=r"not an address of Anthropic's; use `provider: openai"):
        make_provider(service, {"anthropic": KEY})


@pytest.mark.parametrize("address", [None, "https://api.anthropic.com", "http://[::1]:8080"])
def test_anthropics_own_addresses_and_this_machine_get_the_key(address: str | None) -> None:
    service = ServiceConfig(provider="anthropic", model="m", base_url=address)
    assert make_provider(service, {"anthropic": KEY}).name == "anthropic"


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"base_url": "api.anthropic.com"}, KEY, "not a web address"),
        ({"base_url": "http://127.0.0.1:x"}, KEY, "not a web address"),
        ({}, "\u201csecret\u201d", "characters that no key has"),
        ({}, "", "needs an API key"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(
    changes: dict[str, str], key: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        make_provider(ServiceConfig(provider="anthropic", model="m", **changes), {"anthropic": key})
    assert "secret" not in str(caught.value)


def test_the_key_that_was_set_goes_before_what_the_environment_has(
    server: FakeAnthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "sk-other")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-other")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    assert ask(service_of(server)).text == "Paris, it is"


def test_a_redirection_to_another_address_does_not_take_the_key_along(
    server: FakeAnthropic,
) -> None:
    async def redirect(_request: Request) -> Response:
        there = server.url.replace("127.0.0.1", "localhost")
        return Response(307, headers={"Location": f"{there}/v1/messages"})

    with (
        HttpServer(redirect) as elsewhere,
        pytest.raises(FatalProviderError, match=r"sends elsewhere \(307\), where the key does not"),
    ):
        ask(service_of(server, base_url=elsewhere.address))
    assert not server.log
