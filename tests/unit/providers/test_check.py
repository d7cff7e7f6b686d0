"""Tests of trying a service LLM out, against a server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from llamaduo_gui.providers import check, endpoint
from llamaduo_gui.providers.base import ModelInfo
from llamaduo_gui.providers.check import ConnectionReport, check_service, service_to_check
from tests.fakes.anthropic_server import FakeAnthropic
from tests.fakes.gemini_server import FakeGemini
from tests.fakes.openai_server import FakeOpenAI, Settings

KEY = "sk-marked-0123456789"


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(key=KEY, models=("gpt-small", "gpt-large", "whisper"))) as running:
        yield running


def report_on(
    server: FakeOpenAI, model: str = "gpt-small", provider: str = "openai", **changes: Any
) -> ConnectionReport:
    values = {"base_url": server.url, "timeout_s": 5.0, **changes}
    return asyncio.run(check_service(service_to_check(provider, model, **values), {provider: KEY}))


def test_a_listed_model_is_ready_without_a_request_being_paid(server: FakeOpenAI) -> None:
    report = report_on(server)
    assert report.ok
    assert report.has_model
    assert report.sentence.startswith("openai:gpt-small is ready: the service answered in ")
    assert report.sentence.endswith("and lists 3 models, this one among them.")
    assert [model.id for model in report.models] == ["gpt-large", "gpt-small", "whisper"]
    assert report.latency_s is not None
    assert server.log == []


def test_a_model_that_is_not_there_is_answered_with_the_nearest_names(server: FakeOpenAI) -> None:
    report = report_on(server, "gpt-smal")
    assert not report.ok
    assert report.has_model is False
    assert report.sentence == (
        f"openai:gpt-smal is not offered at {server.url} (404: The model `gpt-smal` does not "
        "exist): the name is wrong, the key may not use it, or it left service; choose a model "
        "that the endpoint lists; the nearest names it lists are `gpt-small` and `gpt-large`."
    )
    assert len(report.models) == 3


def test_a_model_that_answers_without_being_listed_is_ready(server: FakeOpenAI) -> None:
    server.settings.models = ()
    report = report_on(server, "anything")
    assert report.ok
    assert report.has_model is False
    assert "although the service lists 1 model without it" in report.sentence
    assert len(server.log) == 1


def test_a_server_without_a_list_is_asked_one_short_question(server: FakeOpenAI) -> None:
    server.settings.model_list = "none"
    report = report_on(server)
    assert report.ok
    assert report.has_model is None
    assert "answered one short question" in report.sentence
    assert report.sentence.endswith("the service has no list of models.")
    assert len(server.log) == 1
    assert server.log[0].body["max_completion_tokens"] == check.LONGEST_ANSWER


def test_the_question_is_put_again_in_the_way_the_server_wants_it(server: FakeOpenAI) -> None:
    server.settings.model_list = "none"
    server.settings.refuses_max_tokens = True
    report = report_on(server, provider="openai_compatible")
    assert report.ok
    assert [entry.status for entry in server.log] == [400, 200]


def test_a_public_list_of_models_does_not_prove_the_key(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenRouter lists its models to everybody."""
    monkeypatch.setattr(check, "is_this_machine", lambda _address: False)
    server.settings.models = ("gpt-small",)
    assert report_on(server, provider="openai_compatible").ok
    assert len(server.log) == 1
    monkeypatch.setattr(check, "is_this_machine", endpoint.is_this_machine)
    assert report_on(server, provider="openai_compatible").ok
    assert len(server.log) == 1


def test_without_a_model_the_connection_and_the_list_are_tried(server: FakeOpenAI) -> None:
    report = report_on(server, model="")
    assert report.ok
    assert report.has_model is None
    assert report.sentence.startswith("OpenAI answered in ")
    assert report.sentence.endswith("and lists 3 models.")
    server.settings.model_list = "null"
    empty = report_on(server, model="")
    assert not empty.ok
    assert empty.sentence.endswith("has no model yet; load one there first.")
    server.settings.model_list = "none"
    assert report_on(server, model="").sentence.endswith(
        "has no list of models; name one to try it."
    )


@pytest.mark.parametrize("model", ["", "gpt-small"])
def test_a_wrong_key_is_said_in_one_sentence_without_the_key(
    server: FakeOpenAI, model: str
) -> None:
    server.settings.key = "another"
    report = report_on(server, model)
    name = f"openai:{model}" if model else "openai"
    assert report == ConnectionReport(
        False,
        f"{name} did not accept the API key (401); set the right one in Settings or in "
        "OPENAI_API_KEY.",
    )


def test_what_cannot_even_be_tried_is_said_too(server: FakeOpenAI) -> None:
    keyless = asyncio.run(check_service(service_to_check("openai", "m"), {}))
    assert "OpenAI needs an API key" in keyless.sentence
    homeless = asyncio.run(check_service(service_to_check("openai_compatible"), {}))
    assert homeless.sentence == (
        "OpenAI-compatible endpoint needs an address, for example http://localhost:11434/v1."
    )
    unknown = asyncio.run(check_service(service_to_check("opnai"), {}))
    assert "Did you mean `openai`?" in unknown.sentence
    dead = report_on(server, base_url="http://127.0.0.1:9/v1")
    assert "cannot be reached at http://127.0.0.1:9/v1" in dead.sentence
    assert not any(report.ok for report in (keyless, homeless, unknown, dead))


def test_what_computes_on_this_machine_is_always_there() -> None:
    report = asyncio.run(check_service(service_to_check("offline", "tutor"), {}))
    assert report.ok
    assert "computes on this machine" in report.sentence


def test_a_report_survives_its_way_between_processes(server: FakeOpenAI) -> None:
    report = report_on(server)
    assert ConnectionReport.from_dict(report.to_dict()) == report


def test_the_nearest_names_include_those_that_contain_it() -> None:
    models = [ModelInfo(name) for name in ("meta/llama-3-70b-instruct", "qwen", "LLAMA-3-8B")]
    assert check._nearest("llama-3", models) == "`LLAMA-3-8B` and `meta/llama-3-70b-instruct`"
    assert check._nearest("zzz", models) == ""


@pytest.mark.parametrize(("model", "listed"), [("a", "a"), ("a", "models/a"), ("a", "a:latest")])
def test_the_same_model_under_its_other_name_is_listed(model: str, listed: str) -> None:
    assert check._is_listed(model, [ModelInfo(listed)])
    assert not check._is_listed(model, [ModelInfo("b")])


@pytest.mark.parametrize("name", ["openai", "openai_compatible", "anthropic", "gemini"])
def test_every_provider_is_tried_in_the_same_words(name: str) -> None:
    fakes = {"anthropic": FakeAnthropic, "gemini": FakeGemini}
    with fakes.get(name, FakeOpenAI)() as running:
        running.settings.key = KEY
        running.settings.models = ("fake-model", "fake-model-large")
        found = report_on(running, "fake-model", name)
        missing = report_on(running, "fake-modle", name)
        running.settings.key = "another"
        locked = report_on(running, "fake-model", name)
    assert found.ok
    assert found.sentence.startswith(f"{name}:fake-model is ready: the service answered in ")
    assert [model.id for model in found.models] == ["fake-model", "fake-model-large"]
    assert not missing.ok
    assert missing.sentence.startswith(f"{name}:fake-modle is not offered at ")
    assert "nearest names it lists are `fake-model` and `fake-model-large`" in missing.sentence
    assert locked.sentence.startswith(f"{name}:fake-model did not accept the API key (4")
    for report in (found, missing, locked):
        assert KEY not in repr(report)
