"""The user's own prices and limits: validated, written whole, and safe from slips."""

from __future__ import annotations

import threading

import pytest

from llamaduo_gui.core.config import PriceConfig, ServiceConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.service_settings import (
    LimitConfig,
    ServiceSettings,
    last_valid_service_settings,
    load_service_settings,
    service_settings_path,
    set_own_limits,
    set_own_price,
    with_own_limits,
)

NAME = "openai_compatible:house-model"


def test_without_a_file_nothing_is_set() -> None:
    assert load_service_settings() == ServiceSettings()


def test_a_price_and_limits_read_back_and_can_be_removed() -> None:
    price = PriceConfig(input=0.5, output=1.5, cached_input=0.1)
    set_own_price(NAME, price)
    set_own_limits(NAME, LimitConfig(max_rpm=60))
    assert load_service_settings().prices == {NAME: price}
    assert load_service_settings().limits == {NAME: LimitConfig(max_rpm=60)}
    set_own_price(NAME, None)
    set_own_limits(NAME, None)
    assert load_service_settings() == ServiceSettings()


def test_an_edit_by_hand_is_seen_without_a_restart() -> None:
    set_own_price(NAME, PriceConfig(input=1, output=2))
    service_settings_path().write_text(f"prices: {{'{NAME}': {{input: 3, output: 40.5}}}}\n")
    assert load_service_settings().prices[NAME].output == 40.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prices: {'openai:x': {inputt: 1, output: 2}}", "did you mean `input`?"),
        ("prices: {'openai:x': {input: -1, output: 2}}", "prices.openai:x.input"),
        ("prices: {gpt: {input: 1, output: 2}}", "write provider:model"),
        ("limits: {'openai:x': {max_rpm: 0}}", "limits.openai:x.max_rpm"),
        ("api_key: sk-secret", "unknown key `api_key`"),
        ("- a list", "expected `prices:` and `limits:`"),
        ("prices: {", "line"),
    ],
)
def test_a_slip_is_named_with_its_place_and_never_shows_a_key(text: str, said: str) -> None:
    service_settings_path().write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_service_settings()
    assert said in str(caught.value)
    assert "services.yaml" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_a_slip_leaves_the_last_valid_prices_in_force_and_the_file_as_it_is() -> None:
    set_own_price(NAME, PriceConfig(input=1, output=2))
    load_service_settings()
    service_settings_path().write_text("prices: {")
    assert last_valid_service_settings().prices[NAME].input == 1
    with pytest.raises(ConfigError):
        set_own_price(NAME, PriceConfig(input=5, output=5))
    assert service_settings_path().read_text() == "prices: {"


def test_writers_at_the_same_time_lose_no_line() -> None:
    def write(number: int) -> None:
        set_own_price(f"openai:model-{number}", PriceConfig(input=number, output=number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load_service_settings().prices) == 12
    leftovers = [path.name for path in service_settings_path().parent.glob(".services-*")]
    assert leftovers == []


def test_own_limits_count_where_pipeline_yaml_sets_none() -> None:
    service = ServiceConfig(provider="openai_compatible", model="house-model", max_tpm=5000)
    assert with_own_limits(service) is service
    set_own_limits(NAME, LimitConfig(max_rpm=60, max_tpm=9000, concurrency=32))
    limited = with_own_limits(service)
    assert (limited.max_rpm, limited.max_tpm, limited.concurrency) == (60, 5000, 32)
    chosen = with_own_limits(service.model_copy(update={"concurrency": 2, "max_rpm": 600}))
    assert (chosen.max_rpm, chosen.concurrency) == (600, 2)
    other = service.model_copy(update={"model": "another"})
    assert with_own_limits(other) is other


def test_limits_that_cannot_be_read_are_not_exceeded_in_silence() -> None:
    service_settings_path().write_text("limits: {")
    with pytest.raises(ConfigError, match=r"services\.yaml"):
        with_own_limits(ServiceConfig(provider="openai", model="x"))
