"""What the endpoint reads from requests and writes into answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamaduo_gui.core.errors import (
    FatalProviderError,
    LlamaDuoError,
    RequestRejectedError,
    TransientProviderError,
    UserError,
)
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import RateLimitedError
from llamaduo_gui.serving.answerers import Ending
from llamaduo_gui.serving.wire import ChunkWriter, error_status, read_request

TURNS = [{"role": "user", "content": "Hi"}]


def test_typed_parts_and_the_developer_role_are_read() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = read_request(
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": parts},
            ],
            "max_tokens": 9,
            "max_completion_tokens": 7,
            "stream": True,
        }
    )
    assert asked.question.messages == (Message("system", "Be brief."), Message("user", "ab"))
    assert asked.question.max_tokens == 7
    assert asked.is_streamed
    assert not asked.wants_usage


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "not a JSON object"),
        ({}, "no messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "Each message"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "Only text"),
        ({"messages": TURNS, "temperature": "hot"}, "temperature"),
        ({"messages": TURNS, "temperature": True}, "temperature"),
        ({"messages": TURNS, "max_tokens": 0}, "max_tokens"),
        ({"messages": TURNS, "tools": [{}]}, "tools"),
        ({"messages": TURNS, "seed": 1.5}, "seed"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_sentence(body: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_request(body)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RateLimitedError("x"), 429),
        (TransientProviderError("x"), 503),
        (FatalProviderError("x"), 502),
        (RequestRejectedError("x"), 400),
        (UserError("x"), 400),
        (LlamaDuoError("x"), 500),
    ],
)
def test_each_error_has_its_status(error: LlamaDuoError, status: int) -> None:
    assert error_status(error)[0] == status


def test_half_a_character_cannot_break_a_stream() -> None:
    event = ChunkWriter("m").text("a\ud83d", is_first=True)
    document = json.loads(event.decode("utf-8").removeprefix("data: "))
    assert document["choices"][0]["delta"] == {"role": "assistant", "content": "a?"}


def test_a_stream_ends_with_done_and_its_usage_only_if_asked_for() -> None:
    ending = Ending("length", 3, 4)
    plain = ChunkWriter("m").end(ending, wants_usage=False).decode()
    counted = ChunkWriter("m").end(ending, wants_usage=True).decode()
    assert plain.endswith("data: [DONE]\n\n")
    assert "usage" not in plain
    assert '"total_tokens": 7' in counted
