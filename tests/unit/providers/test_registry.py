"""Tests of finding and making providers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.providers.registry import (
    all_providers,
    make_provider,
    provider_info,
    service_label,
)


def test_the_providers_are_found_and_named_like_their_modules() -> None:
    assert {"offline", "openai", "openai_compatible"} <= set(all_providers())
    for name, info in all_providers().items():
        assert info.make.__module__ == f"llamaduo_gui.providers.{name}"


def test_only_the_offline_tutor_is_not_an_llm() -> None:
    assert [name for name, info in all_providers().items() if not info.is_llm] == ["offline"]


def test_the_label_says_what_is_not_an_llm() -> None:
    assert service_label("offline:tutor") == "offline:tutor (not an LLM)"
    assert service_label("openai:gpt:4") == "openai:gpt:4"
    assert service_label("retired:model") == "retired:model"


def test_an_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"`openai_compat`.*Did you mean `openai_compatible`"):
        provider_info("openai_compat")


@pytest.mark.parametrize("name", ["xyz", ""])
def test_a_far_off_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(ConfigError, match=r"There are .*`offline`.* and `openai_compatible`"):
        provider_info(name)


@pytest.mark.parametrize(
    ("service", "secrets", "says"),
    [
        ({"provider": "openai_compatible"}, {}, "set base_url"),
        ({"provider": "openai_compatible", "base_url": "localhost:1/v1"}, {}, "not a web address"),
        ({"provider": "openai_compatible", "base_url": "http://h:x/v1"}, {}, "not a web address"),
        ({"provider": "openai"}, {}, "needs an API key"),
        (
            {"provider": "openai", "base_url": "https://openai.com.example.org/v1"},
            {"openai": "k"},
            "not an address of OpenAI's",
        ),
        (
            {"provider": "openai", "base_url": "http://api.openai.com/v1"},
            {"openai": "k"},
            "not an address of OpenAI's",
        ),
        ({"provider": "openai"}, {"openai": "\u201csecret\u201d"}, "characters that no key has"),
        ({"provider": "offline", "base_url": "http://localhost/v1"}, {}, "remove base_url"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(
    service: dict[str, str], secrets: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        make_provider(ServiceConfig(model="m", **service), secrets)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", [None, "https://eu.api.openai.com/v1", "http://127.0.0.1:1/v1"])
def test_openais_own_addresses_and_this_machine_get_the_openai_key(address: str | None) -> None:
    service = ServiceConfig(provider="openai", model="m", base_url=address)
    assert make_provider(service, {"openai": "k"}).name == "openai"


def test_listing_the_providers_loads_no_sdk() -> None:
    code = (
        "import sys; from llamaduo_gui.providers.registry import all_providers; all_providers();"
        "print([m for m in ('openai', 'anthropic', 'google.genai', 'rouge_score', 'httpx2') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
