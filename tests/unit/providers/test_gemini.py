"""Tests of the Gemini adapter: the real SDK against a server on loopback."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
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
    BatchProvider,
    ChatRequest,
    ModelInfo,
    Provider,
    RateLimitedError,
    RateLimits,
    Reply,
    ReplySchema,
    UnreachableError,
)
from llamaduo_gui.providers.registry import make_provider
from tests.fakes.answers import Answers
from tests.fakes.gemini_server import FakeGemini, Fault, Settings

KEY = "AIza-marked-0123456789"
SCHEMA = ReplySchema("answer", {"type": "object", "properties": {}, "additionalProperties": False})


@pytest.fixture
def server() -> Iterator[FakeGemini]:
    with FakeGemini(Settings(key=KEY), Answers(known={"Capital of France?": "Paris, it is"})) as it:
        yield it


def service_of(server: FakeGemini, **changes: Any) -> ServiceConfig:
    values = {"provider": "gemini", "model": "fake-model", "base_url": server.url}
    return ServiceConfig(**{**values, **changes})


def request_to(service: ServiceConfig, *messages: Message) -> ChatRequest:
    asked = messages or (Message("user", "Capital of France?"),)
    return ChatRequest.for_service(service, asked, "answer")


def use(service: ServiceConfig, act: Callable[[Provider], Awaitable[Any]], key: str = KEY) -> Any:
    """What comes of an act with a provider, the connections closed afterwards."""

    async def act_and_close() -> Any:
        provider = make_provider(service, {"gemini": key})
        try:
            return await act(provider)
        finally:
            await provider.close()

    return asyncio.run(act_and_close())


def ask(service: ServiceConfig, *messages: Message, key: str = KEY, **changes: Any) -> Reply:
    request = replace(request_to(service, *messages), **changes)
    reply = use(service, lambda provider: provider.complete(request), key)
    assert isinstance(reply, Reply)
    return reply


def failure(server: FakeGemini, *faults: Fault | None, **changes: Any) -> ProviderError:
    """The error of the last of several requests that meet these faults in turn."""
    server.settings.script = list(faults)
    service = service_of(server, **changes)

    async def fail(provider: Provider) -> ProviderError | None:
        error: ProviderError | None = None
        for _ in faults:
            try:
                await provider.complete(request_to(service))
            except ProviderError as caught:
                error = caught
        return error

    error = use(service, fail)
    assert isinstance(error, ProviderError)
    return error


def stream(service: ServiceConfig) -> list[str]:
    async def collect(provider: Provider) -> list[str]:
        return [piece async for piece in provider.stream(request_to(service))]

    pieces = use(service, collect)
    assert isinstance(pieces, list)
    return pieces


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and "\n" not in text and KEY not in text


def test_a_reply_has_its_text_tokens_and_latency(server: FakeGemini) -> None:
    server.settings.latency_s = 0.05
    reply = ask(service_of(server))
    assert reply.text == "Paris, it is"
    assert reply.finish_reason == "stop"
    assert (reply.prompt_tokens, reply.completion_tokens) == (5, 4)
    assert 0.05 <= reply.latency_s < 5
    assert reply.cost_usd is None


def test_thoughts_are_paid_for_and_are_no_part_of_the_text(server: FakeGemini) -> None:
    server.settings.thoughts = "France has a capital."
    server.settings.thinking_tokens = 100
    server.settings.cached_tokens = 2
    reply = ask(service_of(server))
    assert reply.text == "Paris, it is"
    assert (reply.completion_tokens, reply.reasoning_tokens) == (104, 100)
    assert (reply.prompt_tokens, reply.cached_tokens) == (5, 2)
    assert stream(service_of(server)) == ["Paris, ", "it ", "is"]


def test_the_request_carries_what_was_set_and_nothing_else(server: FakeGemini) -> None:
    ask(service_of(server, max_tokens=77), temperature=0.3)
    assert server.log[0].body == {
        "contents": [{"role": "user", "parts": [{"text": "Capital of France?"}]}],
        "generationConfig": {"maxOutputTokens": 77, "temperature": 0.3},
    }
    ask(service_of(server))
    assert "temperature" not in server.log[1].body["generationConfig"]


def test_turns_have_googles_roles_and_the_system_turn_its_own_field(server: FakeGemini) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")]
    ask(service_of(server), *(Message(role, text) for role, text in turns))  # type: ignore[arg-type]
    body = server.log[0].body
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]


def test_a_schema_is_sent_as_googles_structured_output(server: FakeGemini) -> None:
    ask(service_of(server), reply_schema=SCHEMA)
    assert server.log[0].body["generationConfig"] == {
        "maxOutputTokens": 2048,
        "responseMimeType": "application/json",
        "responseJsonSchema": dict(SCHEMA.schema),
    }


@pytest.mark.parametrize(
    ("structured", "has_system", "retries", "sent"),
    [
        ("json_schema", True, 0, {"responseMimeType", "responseJsonSchema"}),
        ("json_object", True, 1, {"responseMimeType"}),
        ("plain", True, 2, set()),
        ("json_schema", False, 1, {"responseMimeType", "responseJsonSchema"}),
        ("plain", False, 3, set()),
    ],
)
def test_a_model_that_takes_less_is_asked_in_the_next_lesser_way(
    server: FakeGemini, structured: Any, has_system: bool, retries: int, sent: set[str]
) -> None:
    server.settings.structured = structured
    server.settings.has_system = has_system
    service = service_of(server)
    turns = (Message("system", "Be brief."), Message("user", "Capital of France?"))
    request = replace(request_to(service, *turns), reply_schema=SCHEMA)

    async def waits_until_answered(provider: Provider) -> list[float | None]:
        waits: list[float | None] = []
        while len(waits) < 5:
            try:
                await provider.complete(request)
            except TransientProviderError as error:
                waits.append(error.retry_after_s)
            else:
                break
        return waits

    async def twice(provider: Provider) -> list[list[float | None]]:
        return [await waits_until_answered(provider) for _ in range(2)]

    assert use(service, twice) == [[0.0] * retries, []]
    body = server.log[-1].body
    assert body["generationConfig"].keys() - {"maxOutputTokens"} == sent
    assert ("systemInstruction" in body) is has_system
    first = body["contents"][0]["parts"][0]["text"]
    assert first == ("" if has_system else "Be brief.\n\n") + "Capital of France?"


def test_requests_refused_together_step_down_once(server: FakeGemini) -> None:
    server.settings.structured = "json_object"
    server.settings.latency_s = 0.05
    service = service_of(server)
    request = replace(request_to(service), reply_schema=SCHEMA)

    async def together(provider: Provider) -> str:
        errors = await asyncio.gather(
            *(provider.complete(request) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(error, TransientProviderError) for error in errors)
        return (await provider.complete(request)).text

    assert use(service, together) == "Paris, it is"
    assert "responseMimeType" in server.log[-1].body["generationConfig"]


@pytest.mark.parametrize(
    "fault", ["drop", "truncated", "server_error", "overloaded", "rate_limit", "bare_429"]
)
def test_the_sdk_itself_never_sends_twice(server: FakeGemini, fault: Fault) -> None:
    failure(server, fault)
    assert len(server.log) == 1


def test_the_sdk_has_nothing_to_say_about_a_request(
    server: FakeGemini, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        ask(service_of(server))
        stream(service_of(server))
    assert not [record for record in caplog.records if "genai" in record.name]
    assert KEY not in caplog.text


def test_a_long_answer_is_not_continued_behind_our_back(
    server: FakeGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = server._completion

    def cut(body: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        value = answer(body, fault)
        value["candidates"][0].update(finishReason="CONTINUATION", continuationToken="dG9rZW4=")
        return value

    monkeypatch.setattr(server, "_completion", cut)
    assert ask(service_of(server)).finish_reason == "length"
    stream(service_of(server))
    assert len(server.log) == 2


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("server_error", TransientProviderError, "passing fault (500: An internal error has"),
        ("overloaded", TransientProviderError, "passing fault (503: The model is overloaded)"),
        ("deadline", TransientProviderError, "passing fault (504: Deadline expired)"),
        ("drop", TransientProviderError, "broke before its reply was complete"),
        ("truncated", TransientProviderError, "broke before its reply was complete"),
        ("malformed_json", TransientProviderError, "cannot be read: it is not valid JSON"),
        ("no_candidates", TransientProviderError, "cannot be read: it has no candidate"),
        ("rate_limit", RateLimitedError, "asks for fewer requests (429: 15 requests a minute)"),
        ("tokens_per_minute", RateLimitedError, "(429: 250,000 tokens a minute)"),
        ("bare_429", RateLimitedError, "(429: Resource has been exhausted)"),
        ("daily_quota", FatalProviderError, "used up its quota of 20 requests for today (429)"),
        ("no_quota", FatalProviderError, "not part of the key's plan (429: its quota is 0)"),
        ("no_credit", FatalProviderError, "has no credit left (429: Your prepayment credits"),
        ("web_page", FatalProviderError, "answers with a web page and not as the Gemini API"),
        ("leaked_key", FatalProviderError, "refuses access (403: Consumer 'api_key:[key]' was"),
        ("expired_key", FatalProviderError, "did not accept the API key (400)"),
        ("location", FatalProviderError, "is not offered where you are (400: User location"),
        ("billing", FatalProviderError, "wants billing enabled for the key's project (400: "),
        ("too_long", RequestRejectedError, "cannot take a prompt this long (400: The input"),
        ("too_large", RequestRejectedError, "cannot take a prompt this long (400: Request"),
        ("bad_request", RequestRejectedError, "rejected the request (400: Something about"),
        ("redirect", RequestRejectedError, "rejected the request (302"),
    ],
)
def test_every_fault_becomes_one_sentence_of_the_right_kind(
    server: FakeGemini, fault: Fault, kind: type[ProviderError], says: str
) -> None:
    error = failure(server, fault)
    assert type(error) is kind
    assert says in str(error)
    assert str(error).startswith(("gemini:fake-model", "The connection to gemini:fake-model"))
    assert is_one_sentence(str(error))
    assert error.__cause__ is None
    assert len(server.log) == 1


def test_a_redirect_does_not_take_the_key_along(server: FakeGemini) -> None:
    failure(server, "redirect")
    assert len(server.calls) == 1


def test_a_web_page_amid_good_replies_is_a_passing_fault(server: FakeGemini) -> None:
    assert type(failure(server, None, "web_page")) is TransientProviderError


def test_a_429_tells_when_to_come_back_and_what_the_limit_is(server: FakeGemini) -> None:
    server.settings.retry_after_s = 34.5
    error = failure(server, "rate_limit")
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 34.5
    assert error.limits == RateLimits(rpm=15)
    error = failure(server, "tokens_per_minute")
    assert isinstance(error, RateLimitedError)
    assert error.limits == RateLimits(tpm=250_000)
    error = failure(server, "bare_429")
    assert isinstance(error, RateLimitedError)
    assert (error.retry_after_s, error.limits) == (None, None)


def test_a_silent_server_is_a_passing_fault_after_the_timeout(server: FakeGemini) -> None:
    started = time.monotonic()
    error = failure(server, "hang", timeout_s=0.3)
    assert time.monotonic() - started < 5
    assert type(error) is TransientProviderError
    assert "did not answer within 0.3 s" in str(error)


def test_the_service_is_told_the_timeout_but_never_one_that_it_refuses(server: FakeGemini) -> None:
    ask(service_of(server, timeout_s=5))
    ask(service_of(server, timeout_s=300))
    assert [entry.headers["x-server-timeout"] for entry in server.log] == ["10", "300"]


@pytest.mark.parametrize(
    ("fault", "text", "reason"),
    [
        ("blocked", "", "content_filter"),
        ("safety", "", "content_filter"),
        ("length", "Paris,", "length"),
        ("thinking_only", "", "length"),
        ("refusal", "I cannot help with that.", "stop"),
        ("empty", "", "stop"),
    ],
)
def test_an_answer_that_falls_short_is_a_reply_with_its_reason(
    server: FakeGemini, fault: Fault, text: str, reason: str
) -> None:
    server.settings.script = [fault]
    reply = ask(service_of(server))
    assert (reply.text, reply.finish_reason) == (text, reason)
    assert reply.prompt_tokens > 0, "the prompt is paid for all the same"


def test_thinking_that_used_up_the_reply_is_counted(server: FakeGemini) -> None:
    server.settings.script = ["thinking_only"]
    reply = ask(service_of(server, max_tokens=64))
    assert (reply.completion_tokens, reply.reasoning_tokens) == (64, 64)


def test_a_wrong_key_says_where_to_set_it_and_not_what_it_was(server: FakeGemini) -> None:
    with pytest.raises(FatalProviderError) as caught:
        ask(service_of(server), key="AIza-wrong-secret")
    assert str(caught.value) == (
        "gemini:fake-model did not accept the API key (400); set the right one in Settings or in "
        "GEMINI_API_KEY."
    )


def test_a_model_that_left_service_is_named_as_such(server: FakeGemini) -> None:
    server.settings.retired = ("fake-model",)
    with pytest.raises(FatalProviderError, match=r"gemini:fake-model has left service \(404"):
        ask(service_of(server))


def test_an_unknown_model_and_a_wrong_path_are_fatal(server: FakeGemini) -> None:
    server.settings.models = ("other",)
    with pytest.raises(FatalProviderError, match=r"is not offered at .* \(404: models/fake-model"):
        ask(service_of(server))
    with pytest.raises(FatalProviderError, match=r"nothing at .*/elsewhere answers as the Gemini"):
        ask(service_of(server, base_url=f"{server.url}/elsewhere"))


def test_the_version_that_google_puts_behind_its_address_is_not_doubled(
    server: FakeGemini,
) -> None:
    assert ask(service_of(server, base_url=f"{server.url}/v1beta/")).text == "Paris, it is"


def test_nobody_listening_is_told_apart_from_a_broken_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    service = ServiceConfig(provider="gemini", model="m", base_url=f"http://127.0.0.1:{port}")
    with pytest.raises(UnreachableError, match=f"cannot be reached at http://127.0.0.1:{port}"):
        ask(service)


def test_the_environment_neither_redirects_nor_replaces_the_key(
    server: FakeGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = "http://127.0.0.1:9"
    for name, value in {
        "GOOGLE_API_KEY": "AIza-other",
        "GEMINI_API_KEY": "AIza-another",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_CLOUD_PROJECT": "someone",
        "GOOGLE_CLOUD_LOCATION": "somewhere",
        "GOOGLE_GEMINI_BASE_URL": elsewhere,
        "GOOGLE_VERTEX_BASE_URL": elsewhere,
        "GOOGLE_GENAI_API_VERSION": "v1alpha",
        "GOOGLE_GENAI_CLIENT_MODE": "replay",
        "HTTP_PROXY": elsewhere,
    }.items():
        monkeypatch.setenv(name, value)
    assert ask(service_of(server)).text == "Paris, it is"
    assert server.log[0].headers["x-goog-api-key"] == KEY
    assert server.calls == ["POST /v1beta/models/fake-model:generateContent"]


def test_a_provider_can_be_used_again_after_close_and_on_another_loop(server: FakeGemini) -> None:
    service = service_of(server)
    provider = make_provider(service, {"gemini": KEY})

    async def once() -> str:
        try:
            return (await provider.complete(request_to(service))).text
        finally:
            await provider.close()

    assert [asyncio.run(once()), asyncio.run(once())] == ["Paris, it is"] * 2
    asyncio.run(provider.close())


def test_a_stream_comes_piece_by_piece(server: FakeGemini) -> None:
    assert stream(service_of(server)) == ["Paris, ", "it ", "is"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("truncated", TransientProviderError),
        ("malformed_json", TransientProviderError),
        ("drop", TransientProviderError),
        ("rate_limit", RateLimitedError),
        ("web_page", TransientProviderError),
        ("blocked", RequestRejectedError),
        ("expired_key", FatalProviderError),
    ],
)
def test_a_broken_stream_is_one_sentence_too(
    server: FakeGemini, fault: Fault, kind: type[ProviderError]
) -> None:
    server.settings.script = [fault]
    with pytest.raises(kind) as caught:
        stream(service_of(server))
    assert is_one_sentence(str(caught.value))
    assert len(server.log) == 1


def test_a_stream_left_early_is_closed(server: FakeGemini) -> None:
    server.settings.token_delay_s = 0.02
    service = service_of(server)

    async def first_piece(provider: Provider) -> str:
        pieces = provider.stream(request_to(service))
        piece = await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
        return piece

    assert use(service, first_piece) == "Paris, "


def test_as_many_requests_are_open_at_once_as_are_sent(server: FakeGemini) -> None:
    server.settings.latency_s = 1.5
    service = service_of(server)

    async def together(provider: Provider) -> int:
        sent = [provider.complete(request_to(service)) for _ in range(130)]
        return len(await asyncio.gather(*sent))

    assert use(service, together) == 130
    assert server.most_open > 100


def test_the_models_that_generate_text_are_listed_page_by_page(server: FakeGemini) -> None:
    server.settings.models = ("gemini-9-pro", "gemini-9-flash", "gemini-9-lite")
    models = use(service_of(server), lambda provider: provider.list_models())
    assert models == [
        ModelInfo("gemini-9-flash", "Gemini 9 Flash"),
        ModelInfo("gemini-9-lite", "Gemini 9 Lite"),
        ModelInfo("gemini-9-pro", "Gemini 9 Pro"),
    ]
    assert len(server.calls) == 2


def test_a_list_of_models_fails_with_the_same_sentences(server: FakeGemini) -> None:
    with pytest.raises(FatalProviderError, match="did not accept the API key"):
        use(service_of(server), lambda provider: provider.list_models(), key="wrong")
    address = f"{server.url}/elsewhere"
    with pytest.raises(FatalProviderError, match="answers as the Gemini API"):
        use(service_of(server, base_url=address), lambda provider: provider.list_models())


def test_the_adapter_answers_in_batches_too(server: FakeGemini) -> None:
    assert isinstance(make_provider(service_of(server), {"gemini": KEY}), BatchProvider)
