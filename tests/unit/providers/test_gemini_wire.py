"""Tests of putting requests as Gemini's JSON and of reading replies from it."""

from __future__ import annotations

from typing import Any

import pytest

from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.gemini_wire import Form, read_reply, request_body


def request_of(*turns: tuple[Any, str]) -> ChatRequest:
    messages = tuple(Message(role, text) for role, text in turns)
    return ChatRequest("gemini", None, "m", messages, "answer")


def texts(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(turn["role"], turn["parts"][0]["text"]) for turn in body["contents"]]


def candidate(reason: Any = "STOP", *parts: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": reason}]}


def test_system_turns_go_before_the_first_user_turn_where_they_have_no_field() -> None:
    request = request_of(("system", "a"), ("system", "b"), ("user", "c"), ("assistant", "d"))
    body = request_body(request, Form(has_system=False))
    assert texts(body) == [("user", "a\n\nb\n\nc"), ("model", "d")]
    assert "systemInstruction" not in body


def test_a_system_turn_alone_is_asked_as_the_user() -> None:
    assert texts(request_body(request_of(("system", "a")), Form())) == [("user", "a")]


def test_a_conversation_that_the_model_opens_keeps_its_order() -> None:
    request = request_of(("system", "a"), ("assistant", "b"), ("user", "c"))
    body = request_body(request, Form(has_system=False))
    assert texts(body) == [("user", "a"), ("model", "b"), ("user", "c")]


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("STOP", "stop"),
        (None, "stop"),
        ("FINISH_REASON_UNSPECIFIED", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("ESCALATION", "content_filter"),
        ("LANGUAGE", "other"),
        ("OTHER", "other"),
        ("MALFORMED_FUNCTION_CALL", "other"),
        ("MALFORMED_RESPONSE", "other"),
        ("SOMETHING_NEW", "other"),
    ],
)
def test_every_finish_reason_has_its_meaning(reason: Any, meaning: str) -> None:
    reply = read_reply(candidate(reason, {"text": "a"}), 0.5)
    assert reply is not None
    assert (reply.text, reply.finish_reason, reply.latency_s) == ("a", meaning, 0.5)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([{"text": "a"}, {"text": "b"}], "ab"),
        ([{"text": "hm", "thought": True}, {"text": "a"}], "a"),
        ([{"text": "a", "thought": False, "thoughtSignature": "xyz"}], "a"),
        ([{"functionCall": {"name": "f"}}, {"text": None}, "b", None], ""),
    ],
)
def test_the_text_is_that_of_the_parts_without_thoughts(parts: list[Any], text: str) -> None:
    reply = read_reply(candidate("STOP", *parts), 0.1)
    assert reply is not None
    assert reply.text == text


@pytest.mark.parametrize("content", [None, {}, {"parts": None}, {"parts": []}, "a", []])
def test_a_candidate_without_content_is_an_empty_reply(content: Any) -> None:
    reply = read_reply({"candidates": [{"content": content, "finishReason": "SAFETY"}]}, 0.1)
    assert reply is not None
    assert (reply.text, reply.finish_reason) == ("", "content_filter")


def test_usage_is_counted_with_thoughts_as_written_tokens() -> None:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 30,
        "totalTokenCount": 137,
    }
    reply = read_reply({**candidate("STOP", {"text": "a"}), "usageMetadata": usage}, 0.1)
    assert reply is not None
    counts = reply.tokens
    assert (counts.prompt, counts.completion) == (100, 37)
    assert (counts.cached, counts.reasoning) == (60, 30)


@pytest.mark.parametrize("usage", [None, {}, [], {"promptTokenCount": None}, "none"])
def test_missing_usage_counts_nothing(usage: Any) -> None:
    reply = read_reply({**candidate(), "usageMetadata": usage}, 0.1)
    assert reply is not None
    assert (reply.prompt_tokens, reply.completion_tokens, reply.reasoning_tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"candidates": None},
        {"candidates": []},
        {"candidates": [None]},
        {"candidates": [], "promptFeedback": {}},
        {"promptFeedback": None},
        {"promptFeedback": {"safetyRatings": []}},
    ],
)
def test_a_body_without_candidate_or_block_is_none(body: dict[str, Any]) -> None:
    assert read_reply(body, 0.1) is None


def test_a_blocked_prompt_is_an_empty_reply_of_the_content_filter() -> None:
    body = {"promptFeedback": {"blockReason": "OTHER"}, "usageMetadata": {"promptTokenCount": 9}}
    reply = read_reply(body, 0.1)
    assert reply is not None
    assert (reply.text, reply.finish_reason, reply.prompt_tokens) == ("", "content_filter", 9)


def test_half_a_character_is_neither_sent_nor_kept() -> None:
    body = request_body(request_of(("system", "a\ud800"), ("user", "b\udc00")), Form())
    assert body["systemInstruction"]["parts"] == [{"text": "a\ufffd"}]
    assert texts(body) == [("user", "b\ufffd")]
    reply = read_reply(candidate("STOP", {"text": "c\ud83d"}, {"text": "\ude00"}), 0.1)
    assert reply is not None
    assert reply.text == "c\U0001f600"
