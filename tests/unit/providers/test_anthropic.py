"""Tests of the Anthropic adapter: the real SDK against a server on loopback."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llamaduo_gui.core.errors import (
    ConfigError,
    FatalProviderError,
    ProviderError,
    TransientProviderError,
)
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import (
    ChatRequest,
    ModelInfo,
    Provider,
    RateLimitedError,
    ReplySchema,
)
from llamaduo_gui.providers.registry import make_provider
from tests.anthropic_requests import (
    KEY,
    SCHEMA,
    ask,
    asked_twice,
    is_one_sentence,
    judging,
    request_to,
    service_of,
)
from tests.fakes.answers import Answers
from tests.fakes.anthropic_faults import Fault
from tests.fakes.anthropic_server import FakeAnthropic, Settings


@pytest.fixture
def server() -> Iterator[FakeAnthropic]:
    settings = Settings(key=KEY)
    with FakeAnthropic(settings, Answers(known={"Capital of France?": "Paris, it is"})) as it:
        yield it


def test_a_request_carries_what_was_set_and_nothing_else(server: FakeAnthropic) -> None:
    ask(service_of(server, max_tokens=77))
    assert server.log[0].body == {
        "model": "claude-fake",
        "max_tokens": 77,
        "messages": [{"role": "user", "content": "Capital of France?"}],
    }
    assert server.log[0].version == "2026-10-21"


def test_system_turns_are_the_system_prompt_and_neighbours_of_one_role_one_turn(
    server: FakeAnthropic,
) -> None:
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hello."),
        Message("user", "Are you there?"),
        Message("assistant", "Yes."),
        Message("system", "Be kind."),
        Message("user", "Capital of France?"),
    )
    ask(service_of(server), messages=turns)
    assert server.log[0].body["system"] == "Be brief.\n\nBe kind."
    assert server.log[0].body["messages"] == [
        {"role": "user", "content": "Hello.\n\nAre you there?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Capital of France?"},
    ]


def test_a_temperature_asks_for_the_last_version_of_the_api_that_has_one(
    server: FakeAnthropic,
) -> None:
    ask(service_of(server), temperature=0.3)
    assert server.log[0].body["temperature"] == 0.3
    assert server.log[0].version == "2023-06-01"


def test_a_model_that_refuses_a_temperature_is_asked_without_from_then_on(
    server: FakeAnthropic,
) -> None:
    server.settings.refuses_temperature = True
    service = service_of(server)
    provider = make_provider(service, {"anthropic": KEY})
    request = replace(request_to(service), temperature=0.3)
    assert asked_twice(provider, request)[1] == 1
    assert "temperature" not in server.log[-1].body
    assert server.log[-1].version == "2026-10-21"


@pytest.mark.parametrize(
    ("model", "is_sent"),
    [
        ("claude-3-haiku-20240307", True),
        ("claude-sonnet-4-20250514", True),
        ("claude-haiku-4-5-20251001", True),
        ("claude-opus-4-6", True),
        ("claude-opus-4-7", False),
        ("claude-sonnet-5", False),
        ("claude-haiku-5-5", False),
        ("claude-fable-5-1", False),
    ],
)
def test_a_temperature_is_sent_to_the_models_known_to_take_one(
    server: FakeAnthropic, model: str, is_sent: bool
) -> None:
    ask(service_of(server, model=model), model=model, temperature=0.3)
    assert ("temperature" in server.log[0].body) == is_sent


def test_a_temperature_above_the_apis_range_is_refused_and_not_bent(server: FakeAnthropic) -> None:
    with pytest.raises(ConfigError, match=r"temperature 1.2 is above 1"):
        ask(service_of(server, temperature=1.2))
    with pytest.raises(FatalProviderError, match=r"from 0 to 1, not 1.2") as caught:
        ask(service_of(server), temperature=1.2)
    assert is_one_sentence(str(caught.value))
    assert not server.log
    ask(service_of(server), temperature=1.0)


@pytest.mark.parametrize(
    ("structured", "model", "refused", "form"),
    [
        ("json_schema", "claude-sonnet-5", 0, "output_config"),
        ("tool", "claude-unheard-of", 1, "tools"),
        ("tool", "claude-3-opus-20240229", 0, "tools"),
        ("tool", "claude-opus-4-20250514", 0, "tools"),
        ("plain", "claude-unheard-of", 2, None),
    ],
)
def test_a_schema_is_asked_for_in_the_best_way_the_model_takes(
    server: FakeAnthropic, structured: Any, model: str, refused: int, form: str | None
) -> None:
    server.settings.structured = structured
    service = service_of(server, model=model)
    provider = make_provider(service, {"anthropic": KEY})
    reply, before = asked_twice(provider, judging(service))
    assert before == refused
    assert {"output_config", "tools"} & set(server.log[-1].body) == ({form} if form else set())
    assert json.loads(reply.text)["precision"]["score"] == 100
    assert reply.finish_reason == "stop"


def test_a_schema_is_sent_in_this_apis_form(server: FakeAnthropic) -> None:
    service = service_of(server, model="claude-3-haiku-20240307")
    provider = make_provider(service, {"anthropic": KEY})
    asked_twice(provider, judging(service))
    tool = server.log[0].body["tools"][0]
    assert (tool["name"], tool["input_schema"]) == ("judgement", dict(SCHEMA.schema))
    assert server.log[0].body["tool_choice"] == {"type": "tool", "name": "judgement"}


def test_a_schema_that_structured_output_cannot_take_goes_to_a_tool(server: FakeAnthropic) -> None:
    bounded = ReplySchema("x", {"type": "object", "properties": {}, "minProperties": 1})
    service = service_of(server)
    provider = make_provider(service, {"anthropic": KEY})
    request = replace(judging(service), reply_schema=bounded)
    assert asked_twice(provider, request)[1] == 1
    assert "tools" in server.log[-1].body


def test_text_no_json_can_carry_is_put_right_both_ways(server: FakeAnthropic) -> None:
    server.settings.script = ["lone_surrogate"]
    reply = ask(service_of(server), messages=(Message("user", "Odd: \ud83d"),))
    assert "\ud83d" not in reply.text
    assert server.log[0].body["messages"][0]["content"] == "Odd: \ufffd"


def test_a_reply_has_its_text_tokens_and_latency(server: FakeAnthropic) -> None:
    server.settings.latency_s = 0.05
    reply = ask(service_of(server))
    assert (reply.text, reply.finish_reason) == ("Paris, it is", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (5, 4)
    assert 0.05 <= reply.latency_s < 5
    assert reply.cost_usd is None


def test_all_tokens_read_are_counted_whether_cached_or_not(server: FakeAnthropic) -> None:
    server.settings.cached_tokens = 300
    server.settings.cache_write_tokens = 100
    reply = ask(service_of(server), messages=(Message("user", "word " * 800),))
    assert (reply.prompt_tokens, reply.cached_tokens, reply.cache_write_tokens) == (1001, 300, 100)


def test_thinking_is_counted_but_is_not_part_of_the_text(server: FakeAnthropic) -> None:
    server.settings.thinking_tokens = 50
    reply = ask(service_of(server))
    assert reply.text == "Paris, it is"
    assert (reply.completion_tokens, reply.reasoning_tokens) == (54, 50)


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        ("length", "length", "Paris,"),
        ("context_full", "length", "Paris,"),
        ("refusal", "refusal", "I cannot help with that."),
        ("pause_turn", "other", ""),
        ("no_usage", "stop", "Paris, it is"),
    ],
)
def test_stop_reasons_are_told(server: FakeAnthropic, fault: Fault, reason: str, text: str) -> None:
    server.settings.script = [fault]
    reply = ask(service_of(server))
    assert (reply.finish_reason, reply.text) == (reason, text)


def test_an_answer_written_out_instead_of_calling_the_tool_is_its_text(
    server: FakeAnthropic,
) -> None:
    server.settings.script = ["malformed_content"]
    service = service_of(server, model="claude-3-haiku-20240307")
    reply = ask(service, messages=judging(service).messages, reply_schema=SCHEMA)
    assert reply.text.startswith('{"precision"')
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(reply.text)


def test_the_services_limits_come_with_the_reply_by_its_own_clock(server: FakeAnthropic) -> None:
    server.settings.max_rpm = 60
    server.settings.max_tpm = 600
    server.settings.batches.clock_skew_s = 3600
    limits = ask(service_of(server)).limits
    assert limits is not None
    assert (limits.rpm, limits.tpm) == (60, 600)
    assert (limits.requests_left, limits.tokens_left) == (59, 591)
    assert limits.requests_reset_s == pytest.approx(1, abs=1.1)
    assert limits.tokens_reset_s == pytest.approx(0.9, abs=1.1)


def test_a_service_that_tells_no_limits_has_none(server: FakeAnthropic) -> None:
    assert ask(service_of(server)).limits is None


async def collect(provider: Provider, request: ChatRequest) -> list[str]:
    try:
        return [piece async for piece in provider.stream(request)]
    finally:
        await provider.close()


def test_a_stream_comes_piece_by_piece_without_the_thinking(server: FakeAnthropic) -> None:
    server.settings.thinking_tokens = 9
    service = service_of(server)
    provider = make_provider(service, {"anthropic": KEY})
    pieces = asyncio.run(collect(provider, request_to(service)))
    assert pieces == ["Paris, ", "it ", "is"]


def test_a_stream_of_a_forced_tool_is_its_arguments(server: FakeAnthropic) -> None:
    service = service_of(server, model="claude-3-haiku-20240307")
    provider = make_provider(service, {"anthropic": KEY})
    pieces = asyncio.run(collect(provider, judging(service)))
    assert len(pieces) > 1
    assert json.loads("".join(pieces))["similarity"]["score"] == 100


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("truncated", TransientProviderError, "broke before its reply was complete"),
        ("malformed_json", TransientProviderError, "it is not valid JSON"),
        ("drop", TransientProviderError, "broke before its reply was complete"),
        ("stream_error", TransientProviderError, "passing fault (529: Overloaded)"),
        ("stream_stops", TransientProviderError, "it ends too early"),
        ("rate_limit", RateLimitedError, "asks for fewer requests"),
        ("web_page", TransientProviderError, "it is not a stream"),
    ],
)
def test_a_broken_stream_is_one_sentence_too(
    server: FakeAnthropic, fault: Fault, kind: type[ProviderError], says: str
) -> None:
    server.settings.script = [fault]
    service = service_of(server)
    provider = make_provider(service, {"anthropic": KEY})
    with pytest.raises(kind, match=re.escape(says)) as caught:
        asyncio.run(collect(provider, request_to(service)))
    assert is_one_sentence(str(caught.value))


def test_a_stream_left_early_is_closed(server: FakeAnthropic) -> None:
    server.settings.token_delay_s = 0.02
    service = service_of(server)
    provider = make_provider(service, {"anthropic": KEY})

    async def first_piece() -> str:
        stream = provider.stream(request_to(service))
        piece = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        await provider.close()
        return piece

    assert asyncio.run(first_piece()) == "Paris, "


def models_of(server: FakeAnthropic) -> list[ModelInfo]:
    async def use() -> list[ModelInfo]:
        provider = make_provider(service_of(server), {"anthropic": KEY})
        try:
            return list(await provider.list_models())
        finally:
            await provider.close()

    return asyncio.run(use())


def test_all_pages_of_the_models_are_listed_and_those_about_to_leave_say_so(
    server: FakeAnthropic,
) -> None:
    server.settings.models = tuple(f"claude-{number}" for number in range(5))
    server.settings.deprecated = ("claude-old",)
    server.settings.batches.page_size = 2
    assert models_of(server) == [
        *(ModelInfo(f"claude-{number}", f"Claude {number}") for number in range(5)),
        ModelInfo("claude-old", "Claude Old (leaves service on 2026-12-31)"),
    ]


def test_a_provider_can_be_used_again_after_close_and_on_another_loop(
    server: FakeAnthropic,
) -> None:
    service = service_of(server)
    provider = make_provider(service, {"anthropic": KEY})

    async def use() -> str:
        try:
            return (await provider.complete(request_to(service))).text
        finally:
            await provider.close()

    assert [asyncio.run(use()), asyncio.run(use())] == ["Paris, it is"] * 2


def test_the_key_is_in_no_text_of_the_provider(server: FakeAnthropic) -> None:
    provider = make_provider(service_of(server), {"anthropic": KEY})
    assert KEY not in repr(provider)
    assert KEY not in repr(vars(provider))
