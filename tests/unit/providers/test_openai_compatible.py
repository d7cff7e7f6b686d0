"""Tests of the OpenAI-compatible adapter: the real SDK against a server on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import (
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import (
    ChatRequest,
    ModelInfo,
    Provider,
    RateLimitedError,
    Reply,
    ReplySchema,
    UnreachableError,
)
from llamaduo_gui.providers.endpoint import Problem
from llamaduo_gui.providers.openai_dialect import Dialect
from llamaduo_gui.providers.openai_reply import read_completion
from llamaduo_gui.providers.registry import make_provider
from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI, Fault, Settings

KEY = "sk-marked-0123456789"
SCHEMA = ReplySchema("answer", {"type": "object", "properties": {}, "additionalProperties": False})


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(key=KEY), Answers(known={"Capital of France?": "Paris, it is"})) as it:
        yield it


def service_of(server: FakeOpenAI, **changes: Any) -> ServiceConfig:
    values = {"provider": "openai_compatible", "model": "fake-model", "base_url": server.url}
    return ServiceConfig(**{**values, **changes})


def request_to(service: ServiceConfig, text: str = "Capital of France?") -> ChatRequest:
    return ChatRequest.for_service(service, (Message("user", text),), "answer")


def ask(service: ServiceConfig, key: str | None = KEY, **changes: Any) -> Reply:
    """One reply, the connections closed afterwards."""

    async def use() -> Reply:
        provider = make_provider(service, {service.provider: key} if key else {})
        try:
            return await provider.complete(replace(request_to(service), **changes))
        finally:
            await provider.close()

    return asyncio.run(use())


def failure(server: FakeOpenAI, *faults: Fault, **changes: Any) -> ProviderError:
    """The error of the last of several requests that meet these faults in turn."""
    server.settings.script = list(faults)
    service = service_of(server, **changes)

    async def use() -> ProviderError:
        provider = make_provider(service, {"openai_compatible": KEY})
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


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and "\n" not in text and KEY not in text


def test_a_reply_has_its_text_tokens_and_latency(server: FakeOpenAI) -> None:
    server.settings.latency_s = 0.05
    reply = ask(service_of(server))
    assert reply.text == "Paris, it is"
    assert reply.finish_reason == "stop"
    assert reply.prompt_tokens > 0
    assert reply.completion_tokens > 0
    assert 0.05 <= reply.latency_s < 5
    assert reply.cost_usd is None


def test_the_request_carries_what_was_set_and_nothing_else(server: FakeOpenAI) -> None:
    ask(service_of(server, max_tokens=77), temperature=0.3)
    assert server.log[0].body == {
        "model": "fake-model",
        "messages": [{"role": "user", "content": "Capital of France?"}],
        "max_tokens": 77,
        "temperature": 0.3,
    }
    ask(service_of(server))
    assert "temperature" not in server.log[1].body


def test_a_schema_is_sent_as_strict_structured_output(server: FakeOpenAI) -> None:
    ask(service_of(server), reply_schema=SCHEMA)
    assert server.log[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": dict(SCHEMA.schema), "strict": True},
    }


def test_a_lone_surrogate_is_neither_sent_nor_handed_on(server: FakeOpenAI) -> None:
    server.settings.script = ["lone_surrogate"]
    reply = ask(service_of(server), messages=(Message("user", "half a \ud83d face 🙂"),))
    assert server.log[0].body["messages"][0]["content"] == "half a \ufffd face 🙂"
    assert reply.text.startswith("\ufffd ")
    reply.text.encode("utf-8")


def test_a_reply_tells_cached_and_reasoning_tokens_and_what_it_cost(server: FakeOpenAI) -> None:
    server.settings.cached_tokens = 3
    server.settings.reasoning_tokens = 40
    server.settings.cost_usd = 0.00125
    reply = ask(service_of(server))
    assert (reply.cached_tokens, reply.reasoning_tokens, reply.cost_usd) == (3, 40, 0.00125)
    assert reply.tokens.completion == reply.completion_tokens > 40


def test_a_reply_tells_the_limits_of_the_service(server: FakeOpenAI) -> None:
    assert ask(service_of(server)).limits is None
    server.settings.tells_limits = True
    server.settings.max_rpm = 600
    server.settings.max_tpm = 60_000
    limits = ask(service_of(server)).limits
    assert limits is not None
    assert (limits.rpm, limits.tpm) == (600, 60_000)
    assert limits.requests_left == 599
    assert limits.requests_reset_s == pytest.approx(0.1)


def test_a_429_tells_the_limits_too(server: FakeOpenAI) -> None:
    server.settings.tells_limits = True
    server.settings.max_rpm = 60
    server.settings.max_tpm = 600
    error = failure(server, "rate_limit", "rate_limit")
    assert isinstance(error, RateLimitedError)
    assert error.limits is not None
    assert (error.limits.rpm, error.limits.tpm) == (60, 600)


def test_a_model_that_takes_no_temperature_is_asked_without_one(server: FakeOpenAI) -> None:
    server.settings.refuses_temperature = True
    service = service_of(server, temperature=0.3)
    provider = make_provider(service, {"openai_compatible": KEY})
    assert retries_until_answered(provider, request_to(service)) == [0.0]
    assert "temperature" not in server.log[-1].body


def test_a_temperature_out_of_range_is_not_dropped_in_silence() -> None:
    dialect = Dialect("max_tokens")
    problem = Problem("Invalid 'temperature': decimal above maximum value. Expected <= 1.")
    assert not dialect.adapt(problem, {"temperature": 1.5})
    assert dialect.optional()["temperature"] == 0


def test_a_model_that_left_service_is_named_as_such(server: FakeOpenAI) -> None:
    server.settings.retired = ("fake-model",)
    with pytest.raises(FatalProviderError) as caught:
        ask(service_of(server))
    assert str(caught.value) == (
        "openai_compatible:fake-model has left service (404: The model `fake-model` has been "
        "deprecated); choose a model that the endpoint lists."
    )


def models_of(service: ServiceConfig, key: str | None = KEY) -> list[ModelInfo]:
    async def use() -> list[ModelInfo]:
        provider = make_provider(service, {service.provider: key} if key else {})
        try:
            return list(await provider.list_models())
        finally:
            await provider.close()

    return asyncio.run(use())


@pytest.mark.parametrize(
    ("shape", "models"),
    [
        ("openai", [ModelInfo("a"), ModelInfo("b")]),
        ("bare", [ModelInfo("a"), ModelInfo("b")]),
        ("llama_cpp", [ModelInfo("a"), ModelInfo("b")]),
        ("open_router", [ModelInfo("a", "Test: a"), ModelInfo("b", "Test: b")]),
        ("null", []),
    ],
)
def test_models_are_listed_whatever_the_shape(
    server: FakeOpenAI, shape: Any, models: list[ModelInfo]
) -> None:
    server.settings.models = ("b", "a")
    server.settings.model_list = shape
    assert models_of(service_of(server)) == models


def test_an_endpoint_without_a_list_says_so(server: FakeOpenAI) -> None:
    server.settings.model_list = "none"
    with pytest.raises(RequestRejectedError, match="does not list its models"):
        models_of(service_of(server))


def test_a_list_with_a_wrong_key_is_not_a_missing_list(server: FakeOpenAI) -> None:
    with pytest.raises(FatalProviderError, match="did not accept the API key"):
        models_of(service_of(server), key="sk-other")


def retries_until_answered(provider: Provider, request: ChatRequest) -> list[float | None]:
    """The waits asked for by the errors before the reply; the second request has none."""

    async def use() -> list[float | None]:
        waits: list[float | None] = []
        while len(waits) < 5:
            try:
                await provider.complete(request)
            except TransientProviderError as error:
                waits.append(error.retry_after_s)
            else:
                break
        return waits

    async def use_twice() -> list[float | None]:
        try:
            first = await use()
            assert await use() == [], "what the endpoint takes is remembered"
            return first
        finally:
            await provider.close()

    return asyncio.run(use_twice())


@pytest.mark.parametrize(
    ("structured", "retries", "sent"),
    [
        ("json_schema", 0, "json_schema"),
        ("json_object", 1, "json_object"),
        ("plain", 2, None),
    ],
)
def test_an_endpoint_without_structured_output_is_asked_in_the_next_lesser_way(
    server: FakeOpenAI, structured: Any, retries: int, sent: str | None
) -> None:
    server.settings.structured = structured
    service = service_of(server)
    provider = make_provider(service, {"openai_compatible": KEY})
    request = replace(request_to(service), reply_schema=SCHEMA)
    assert retries_until_answered(provider, request) == [0.0] * retries
    assert server.log[-1].body.get("response_format", {}).get("type") == sent


def test_an_endpoint_that_refuses_max_tokens_gets_the_newer_name(server: FakeOpenAI) -> None:
    server.settings.refuses_max_tokens = True
    service = service_of(server)
    provider = make_provider(service, {"openai_compatible": KEY})
    assert retries_until_answered(provider, request_to(service)) == [0.0]
    assert "max_completion_tokens" in server.log[-1].body


def test_openais_own_models_get_the_newer_name_at_once(server: FakeOpenAI) -> None:
    server.settings.refuses_max_tokens = True
    ask(service_of(server, provider="openai"))
    assert "max_completion_tokens" in server.log[0].body


@pytest.mark.parametrize("fault", ["drop", "truncated", "server_error", "rate_limit"])
def test_the_sdk_itself_never_sends_twice(server: FakeOpenAI, fault: Fault) -> None:
    failure(server, fault)
    assert len(server.log) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("server_error", TransientProviderError, "passing fault (500: The server had an error)"),
        ("overloaded", TransientProviderError, "passing fault (529: Overloaded)"),
        ("drop", TransientProviderError, "broke before its reply was complete"),
        ("truncated", TransientProviderError, "broke before its reply was complete"),
        ("malformed_json", TransientProviderError, "cannot be read: it is not valid JSON"),
        ("no_choices", TransientProviderError, "cannot be read: it has no message"),
        ("error_in_200", TransientProviderError, "passing fault (502: upstream)"),
        ("rate_limit", RateLimitedError, "asks for fewer requests (429: Rate limit reached)"),
        ("choice_error", TransientProviderError, "passing fault (503: relay)"),
        ("no_credit", FatalProviderError, "has no credit left (429"),
        ("web_page", FatalProviderError, "answers with a web page and not as an API"),
        ("content_filter", RequestRejectedError, "refused this prompt by its content filter"),
        ("context_length", RequestRejectedError, "cannot take a prompt this long"),
        ("bad_request", RequestRejectedError, "rejected the request (400: Something about"),
    ],
)
def test_every_fault_becomes_one_sentence_of_the_right_kind(
    server: FakeOpenAI, fault: Fault, kind: type[ProviderError], says: str
) -> None:
    error = failure(server, fault)
    assert type(error) is kind
    assert says in str(error)
    assert str(error).startswith(("openai_compatible:fake-model", "The connection to openai_comp"))
    assert is_one_sentence(str(error))
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        ("refusal", "refusal", "I cannot help with that."),
        ("filtered_reply", "content_filter", ""),
        ("length", "length", "Paris,"),
        ("null_content", "stop", ""),
    ],
)
def test_a_reply_says_why_it_ended(
    server: FakeOpenAI, fault: Fault, reason: str, text: str
) -> None:
    server.settings.script = [fault]
    reply = ask(service_of(server))
    assert (reply.finish_reason, reply.text) == (reason, text)
    assert reply.prompt_tokens > 0


def test_a_web_page_amid_good_replies_is_a_passing_fault(server: FakeOpenAI) -> None:
    script: list[Any] = [None, "web_page"]
    assert type(failure(server, *script)) is TransientProviderError


def test_a_silent_server_is_a_passing_fault_after_the_timeout(server: FakeOpenAI) -> None:
    started = time.monotonic()
    error = failure(server, "hang", timeout_s=0.3)
    assert time.monotonic() - started < 3
    assert type(error) is TransientProviderError
    assert "did not answer within 0.3 s" in str(error)


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date"])
def test_retry_after_is_read_in_every_form(server: FakeOpenAI, form: Any) -> None:
    server.settings.retry_after = form
    server.settings.retry_after_s = 30
    error = failure(server, "rate_limit")
    assert error.retry_after_s is not None
    assert 28 <= error.retry_after_s <= 30


def test_a_wrong_key_says_where_to_set_it_and_not_what_it_was(server: FakeOpenAI) -> None:
    wrong = "sk-wrong-secret"
    with pytest.raises(FatalProviderError) as caught:
        ask(service_of(server), key=wrong)
    assert str(caught.value) == (
        "openai_compatible:fake-model did not accept the API key (401); set the right one in "
        "Settings or in OPENAI_COMPATIBLE_API_KEY."
    )


def test_a_missing_key_is_told_apart_from_a_wrong_one(server: FakeOpenAI) -> None:
    with pytest.raises(FatalProviderError, match=r"wants an API key .* none is set"):
        ask(service_of(server), key=None)


def test_a_local_server_without_keys_needs_none(server: FakeOpenAI) -> None:
    server.settings.key = None
    assert ask(service_of(server), key=None).text == "Paris, it is"


def test_a_key_that_the_server_echoes_is_struck_out(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fakes import openai_server

    echo = openai_server._problem(400, f"cannot use {KEY} here")
    monkeypatch.setattr(server, "_failure", lambda _fault: echo)
    with pytest.raises(RequestRejectedError, match=r"cannot use \[key\] here"):
        ask(service_of(server))


def test_an_unknown_model_and_a_wrong_path_are_fatal(server: FakeOpenAI) -> None:
    server.settings.models = ("other",)
    with pytest.raises(FatalProviderError, match=r"is not offered at .* does not exist"):
        ask(service_of(server))
    address = server.url.removesuffix("/v1")
    with pytest.raises(FatalProviderError, match=r"often /v1"):
        ask(service_of(server, base_url=address))


def test_nobody_listening_is_told_apart_from_a_broken_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    service = ServiceConfig(
        provider="openai_compatible", model="m", base_url=f"http://127.0.0.1:{port}/v1"
    )
    with pytest.raises(UnreachableError, match=f"cannot be reached at http://127.0.0.1:{port}/v1"):
        ask(service)


def test_https_to_a_server_that_speaks_http_is_explained(server: FakeOpenAI) -> None:
    address = server.url.replace("http:", "https:")
    with pytest.raises(UnreachableError) as caught:
        ask(service_of(server, base_url=address))
    assert is_one_sentence(str(caught.value))


def test_a_proxy_for_the_outside_world_is_not_used_for_this_machine(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(service_of(server)).text == "Paris, it is"


def test_openais_organisation_is_not_told_to_other_endpoints(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-private")
    seen: dict[str, str] = {}
    original = server._refused_access
    monkeypatch.setattr(
        server, "_refused_access", lambda request: seen.update(request.headers) or original(request)
    )
    ask(service_of(server))
    assert seen["authorization"] == f"Bearer {KEY}"
    assert not [name for name in seen if name.startswith("openai-")]


def test_the_openai_key_in_the_environment_is_not_sent_elsewhere(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "OPENAI_API_KEY", KEY)
    with pytest.raises(FatalProviderError, match="none is set"):
        ask(service_of(server), key=None)


def test_a_provider_can_be_used_again_after_close_and_on_another_loop(server: FakeOpenAI) -> None:
    service = service_of(server)
    provider = make_provider(service, {"openai_compatible": KEY})

    async def use() -> str:
        try:
            return (await provider.complete(request_to(service))).text
        finally:
            await provider.close()

    assert [asyncio.run(use()), asyncio.run(use())] == ["Paris, it is"] * 2


async def collect(provider: Provider, request: ChatRequest) -> list[str]:
    try:
        return [piece async for piece in provider.stream(request)]
    finally:
        await provider.close()


def test_a_stream_comes_piece_by_piece(server: FakeOpenAI) -> None:
    service = service_of(server)
    provider = make_provider(service, {"openai_compatible": KEY})
    pieces = asyncio.run(collect(provider, request_to(service)))
    assert pieces == ["Paris, ", "it ", "is"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("truncated", TransientProviderError),
        ("malformed_json", TransientProviderError),
        ("drop", TransientProviderError),
        ("rate_limit", RateLimitedError),
        ("web_page", TransientProviderError),
    ],
)
def test_a_broken_stream_is_one_sentence_too(
    server: FakeOpenAI, fault: Fault, kind: type[ProviderError]
) -> None:
    server.settings.script = [fault]
    service = service_of(server)
    provider = make_provider(service, {"openai_compatible": KEY})
    with pytest.raises(kind) as caught:
        asyncio.run(collect(provider, request_to(service)))
    assert is_one_sentence(str(caught.value))


def test_a_stream_left_early_is_closed(server: FakeOpenAI) -> None:
    server.settings.token_delay_s = 0.02
    service = service_of(server)
    provider = make_provider(service, {"openai_compatible": KEY})

    async def first_piece() -> str:
        stream = provider.stream(request_to(service))
        piece = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        await provider.close()
        return piece

    assert asyncio.run(first_piece()) == "Paris, "


def completion(**message: Any) -> dict[str, Any]:
    reason = message.pop("finish_reason", "stop")
    return {"choices": [{"message": message, "finish_reason": reason}]}


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        (completion(content="hi"), "hi", "stop"),
        (completion(content="hi", finish_reason=None), "hi", "stop"),
        (completion(content="hi", finish_reason="eos"), "hi", "stop"),
        (completion(content="hi", finish_reason="length"), "hi", "length"),
        (completion(content="hi", finish_reason="MAX_TOKENS"), "hi", "length"),
        (completion(content="hi", finish_reason="content_filter"), "hi", "content_filter"),
        (completion(content="hi", finish_reason="tool_calls"), "hi", "other"),
        (completion(content=None), "", "stop"),
        (completion(), "", "stop"),
        (completion(content=None, refusal="No."), "No.", "refusal"),
        (completion(content="hi", refusal=None), "hi", "stop"),
        (completion(content=[{"type": "text", "text": "a"}, {"text": "b"}, 3]), "ab", "stop"),
    ],
)
def test_the_variants_of_a_completion_are_read(
    body: dict[str, Any], text: str, reason: str
) -> None:
    reply = read_completion(body, 0.1)
    assert reply is not None
    assert (reply.text, reply.finish_reason) == (text, reason)
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 0)


@pytest.mark.parametrize(
    "usage",
    [None, [], {}, {"prompt_tokens": None}, {"prompt_tokens": "7"}, {"completion_tokens": -1}],
)
def test_missing_or_odd_usage_counts_as_nothing(usage: Any) -> None:
    reply = read_completion({**completion(content="hi"), "usage": usage}, 0.1)
    assert reply is not None
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 0)


@pytest.mark.parametrize(
    "body",
    [{}, {"choices": None}, {"choices": []}, {"choices": [None]}, {"choices": [{}]}],
)
def test_a_body_without_a_message_is_none(body: dict[str, Any]) -> None:
    assert read_completion(body, 0.1) is None
