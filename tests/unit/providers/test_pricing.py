"""Prices: which source wins, every kind of token, batches, and estimates that are not too low."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from llamaduo_gui.core.config import PriceConfig, ServiceConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.service_settings import service_settings_path, set_own_price
from llamaduo_gui.core.types import Message, TokenCounts
from llamaduo_gui.providers.base import ChatRequest, Reply, ReplySchema
from llamaduo_gui.providers.pricing import (
    cost_usd,
    describe_price,
    estimate_usd,
    price_of,
    prompt_tokens_at_most,
    reply_cost_usd,
)

MILLION = TokenCounts(prompt=1_000_000, completion=1_000_000)


def _service(provider: str = "openai", model: str = "gpt-4o", **values: Any) -> ServiceConfig:
    return ServiceConfig(provider=provider, model=model, **values)


def _request(service: ServiceConfig, text: str = "hello", **values: Any) -> ChatRequest:
    return ChatRequest.for_service(service, (Message("user", text),), "judge", **values)


def test_known_models_are_priced_from_the_shipped_list_with_its_date() -> None:
    price = price_of(_service())
    assert price is not None
    assert (price.input, price.output, price.cached_input) == (2.5, 10.0, 1.25)
    assert price.origin == "list"
    assert price.source.startswith("genai-prices ")
    assert price.as_of is not None
    assert price.as_of >= date(2026, 1, 1)
    assert price.source in describe_price(_service())


@pytest.mark.parametrize(
    ("provider", "model"), [("anthropic", "claude-opus-4-1"), ("gemini", "gemini-2.5-flash")]
)
def test_the_other_providers_of_the_paper_are_in_the_list(provider: str, model: str) -> None:
    assert price_of(_service(provider, model)) is not None


def test_the_project_goes_before_the_users_file_and_that_before_the_list() -> None:
    set_own_price("openai:gpt-4o", PriceConfig(input=1, output=2))
    own = price_of(_service())
    assert own is not None
    assert (own.input, own.origin) == (1, "own")
    priced = price_of(_service(price=PriceConfig(input=7, output=8)))
    assert priced is not None
    assert (priced.input, priced.cached_input, priced.origin) == (7, 7, "project")


def test_the_offline_tutor_and_this_computers_endpoints_are_free_unless_priced() -> None:
    local = _service("openai_compatible", "m", base_url="http://127.0.0.1:11434/v1")
    for service in (_service("offline", "tutor"), local):
        price = price_of(service)
        assert price is not None
        assert price.is_free
        assert cost_usd(service, MILLION) == 0.0
        assert "free of charge" in describe_price(service)
    own = local.model_copy(update={"price": PriceConfig(input=1, output=1)})
    assert cost_usd(own, MILLION) == 2.0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "127.8.0.1"])
def test_every_loopback_address_counts_as_this_computer(host: str) -> None:
    price = price_of(_service("openai_compatible", "m", base_url=f"http://{host}:8000/v1"))
    assert price is not None
    assert price.is_free


@pytest.mark.parametrize("url", ["http://192.168.1.4:8000/v1", "https://localhost.example.com/v1"])
def test_an_unknown_endpoint_has_no_price_and_the_sentence_says_what_to_do(url: str) -> None:
    service = _service("openai_compatible", "gpt-4o", base_url=url)
    assert price_of(service) is None
    assert cost_usd(service, MILLION) is None
    assert "set `price` in pipeline.yaml" in describe_price(service)


def test_a_known_vendors_compatible_endpoint_is_found_by_its_address() -> None:
    url = "https://api.deepseek.com/v1"
    assert price_of(_service("openai_compatible", "deepseek-chat", base_url=url)) is not None


def test_a_gateway_before_a_providers_api_keeps_the_providers_prices() -> None:
    assert cost_usd(_service(base_url="http://127.0.0.1:9/v1"), MILLION) == pytest.approx(12.5)


def test_an_unknown_model_has_no_price() -> None:
    assert price_of(_service(model="no-such-model-1")) is None


def test_cached_tokens_cost_their_own_price() -> None:
    tokens = TokenCounts(prompt=1_000_000, completion=0, cached=400_000)
    assert cost_usd(_service(), tokens) == pytest.approx(0.6 * 2.5 + 0.4 * 1.25)
    own = _service(price=PriceConfig(input=10, output=0, cached_input=1))
    assert cost_usd(own, tokens) == pytest.approx(6.4)


def test_tokens_written_to_the_cache_cost_more_where_the_list_says_so() -> None:
    service = _service("anthropic", "claude-opus-4-1")
    tokens = TokenCounts(prompt=1_000_000, cached=200_000, cache_write=300_000)
    assert cost_usd(service, tokens) == pytest.approx(0.5 * 15 + 0.2 * 1.5 + 0.3 * 18.75)


def test_reasoning_tokens_are_part_of_the_written_ones_and_not_paid_twice() -> None:
    tokens = TokenCounts(completion=1_000_000, reasoning=900_000)
    assert cost_usd(_service("openai", "gpt-5"), tokens) == pytest.approx(10.0)


def test_long_prompts_cost_the_price_of_their_tier() -> None:
    service = _service("anthropic", "claude-sonnet-4-5")
    price = price_of(service)
    assert price is not None
    assert price.is_tiered
    assert "more for long prompts" in describe_price(service)
    assert cost_usd(service, TokenCounts(prompt=100_000)) == pytest.approx(0.3)
    assert cost_usd(service, TokenCounts(prompt=300_000)) == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-4-32k"),
        ("anthropic", "claude-opus-4-5"),
        ("anthropic", "claude-opus-4-1"),
        ("gemini", "gemini-2.5-flash"),
    ],
)
def test_a_batch_costs_half_whether_or_not_the_list_has_its_price(
    provider: str, model: str
) -> None:
    service = _service(provider, model)
    live = cost_usd(service, MILLION)
    assert live is not None
    assert cost_usd(service, MILLION, is_batch=True) == pytest.approx(live / 2)


def test_a_batch_at_ones_own_price_is_half_only_where_the_api_gives_that() -> None:
    price = PriceConfig(input=1, output=1)
    assert cost_usd(_service(price=price), MILLION, is_batch=True) == 1.0
    compatible = _service("openai_compatible", "m", base_url="http://10.0.0.1/v1", price=price)
    assert cost_usd(compatible, MILLION, is_batch=True) == 2.0


def test_counts_that_contradict_each_other_still_give_a_cost() -> None:
    tokens = TokenCounts(prompt=10, completion=5, cached=20, cache_write=30, reasoning=50)
    for service in (_service(), _service("anthropic", "claude-opus-4-1")):
        cost = cost_usd(service, tokens)
        assert cost is not None
        assert cost > 0


def test_a_reply_costs_what_the_service_says_else_its_tokens_else_its_text() -> None:
    service = _service()
    request = _request(service)
    assert reply_cost_usd(service, request, Reply("x", cost_usd=0.125)) == 0.125
    counted = Reply("x", prompt_tokens=1_000_000, completion_tokens=1_000_000)
    assert reply_cost_usd(service, request, counted) == pytest.approx(12.5)
    uncounted = reply_cost_usd(service, request, Reply("x" * 3000))
    assert uncounted is not None
    assert 0.01 < uncounted < 0.011
    assert cost_usd(service, TokenCounts()) is None
    assert reply_cost_usd(_service(model="unknown-1"), request, counted) is None


@pytest.mark.parametrize("text", ["The quick brown fox jumps. " * 40, "敏捷的棕色狐狸跳过" * 40])
def test_an_estimate_is_at_least_what_a_longest_reply_costs(text: str) -> None:
    service = _service(max_tokens=1000)
    schema = ReplySchema("s", {"type": "object", "description": "d" * 90})
    request = _request(service, text, reply_schema=schema)
    least = len(text) // 4 if text.isascii() else len(text)
    assert prompt_tokens_at_most(request) > least + 30
    estimated = estimate_usd(service, request)
    real = cost_usd(service, TokenCounts(prompt=least, completion=1000))
    assert estimated is not None
    assert real is not None
    assert real < estimated < 2 * real
    shorter = estimate_usd(service, request, reply_tokens=10)
    assert shorter is not None
    assert shorter < estimated


def test_a_slip_in_the_users_file_is_reported_before_a_run_but_never_costs_a_paid_reply() -> None:
    service_settings_path().write_text("prices: {")
    with pytest.raises(ConfigError):
        price_of(_service())
    assert cost_usd(_service(), MILLION) == pytest.approx(12.5)
