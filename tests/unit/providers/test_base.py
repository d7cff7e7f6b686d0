"""Tests of the identity of requests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest, ReplySchema

REQUEST = ChatRequest(
    provider="openai_compatible",
    base_url="http://localhost/v1",
    model="m",
    messages=(Message("user", "hello"),),
    purpose="answer",
)


@pytest.mark.parametrize(
    "changed",
    [
        replace(REQUEST, provider="openai"),
        replace(REQUEST, base_url="http://localhost:1/v1"),
        replace(REQUEST, model="n"),
        replace(REQUEST, messages=(Message("system", "hello"),)),
        replace(REQUEST, temperature=0.0),
        replace(REQUEST, max_tokens=7),
        replace(REQUEST, reply_schema=ReplySchema("s", {"type": "object"})),
        replace(REQUEST, repeat=1),
        REQUEST.again(),
    ],
)
def test_whatever_can_change_the_reply_changes_the_key(changed: ChatRequest) -> None:
    assert changed.key() != REQUEST.key()


@pytest.mark.parametrize(
    "same",
    [replace(REQUEST, purpose="chat"), replace(REQUEST, base_url="http://localhost/v1/")],
)
def test_what_cannot_change_the_reply_keeps_the_key(same: ChatRequest) -> None:
    assert same.key() == REQUEST.key()


def test_the_key_does_not_change_between_versions_of_the_application() -> None:
    assert REQUEST.key() == "46384fc523b702169ccd1245b1ed5bdda96b5466f570dc8bf0b3978c655a8d4f"


def test_the_services_own_temperature_goes_first() -> None:
    service = ServiceConfig(provider="offline", model="tutor")
    cold = ServiceConfig(provider="offline", model="tutor", temperature=0.1)
    messages = (Message("user", "hello"),)
    assert ChatRequest.for_service(service, messages, "answer", temperature=1.0).temperature == 1.0
    assert ChatRequest.for_service(cold, messages, "answer", temperature=1.0).temperature == 0.1
    assert ChatRequest.for_service(service, messages, "answer").temperature is None


def test_text_that_is_not_valid_unicode_has_a_key() -> None:
    assert len(replace(REQUEST, messages=(Message("user", "\ud800"),)).key()) == 64
