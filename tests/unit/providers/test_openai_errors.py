"""Tests of reading the error bodies that servers are known to send."""

from __future__ import annotations

from typing import Any

import pytest

from llamaduo_gui.core.errors import (
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.providers.base import RateLimitedError
from llamaduo_gui.providers.openai_errors import Endpoint, Problem, read_problem

ENDPOINT = Endpoint("openai_compatible", "m", "http://localhost/v1", "sk-secret")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"error": {"message": "a", "code": "c", "param": "p"}}, Problem("a", "c", "p")),
        ({"message": "a", "code": 400, "type": "t"}, Problem("a", "400")),
        ({"error": "a"}, Problem("a")),
        ({"detail": "a"}, Problem("a")),
        ({"detail": [{"msg": "a", "type": "t"}]}, Problem("a", "t")),
        ([{"error": {"message": "a", "code": None}}], Problem("a")),
        ({"error": {"message": None}}, Problem()),
        ({"error": []}, Problem()),
        ("plain words", Problem("plain words")),
        ("<html>no", Problem()),
        (None, Problem()),
        (7, Problem()),
    ],
)
def test_every_shape_of_error_body_is_read(body: Any, problem: Problem) -> None:
    assert read_problem(body) == problem


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"message": "API key not valid. Please pass a valid API key."}, FatalProviderError),
        (400, {"message": "no such model", "code": "model_not_found"}, FatalProviderError),
        (401, None, FatalProviderError),
        (402, {"message": "Insufficient Balance"}, FatalProviderError),
        (403, None, FatalProviderError),
        (404, None, FatalProviderError),
        (408, None, TransientProviderError),
        (409, None, TransientProviderError),
        (413, None, RequestRejectedError),
        (422, None, RequestRejectedError),
        (429, None, RateLimitedError),
        (429, {"code": "insufficient_quota"}, FatalProviderError),
        (500, None, TransientProviderError),
        (503, "<html>busy", TransientProviderError),
        (529, None, TransientProviderError),
        (400, {"message": "the request exceeds the available context size"}, RequestRejectedError),
    ],
)
def test_every_status_is_of_the_right_kind(
    status: int, body: Any, kind: type[ProviderError]
) -> None:
    error = ENDPOINT.from_status(status, body, {})
    assert type(error) is kind
    assert "openai_compatible:m" in str(error)
    assert str(error).endswith(".")
    assert str(status) in str(error)


def test_retry_after_of_an_overloaded_server_is_kept() -> None:
    assert ENDPOINT.from_status(503, None, {"retry-after": "7"}).retry_after_s == 7


def test_long_and_many_lined_messages_are_cut_to_one_line() -> None:
    text = str(ENDPOINT.from_status(400, {"message": "first\nsecond " + "x" * 900}, {}))
    assert "first second" in text
    assert "\n" not in text
    assert len(text) < 400


def test_the_key_is_neither_in_the_text_nor_in_the_repr() -> None:
    error = ENDPOINT.from_status(400, {"message": "key sk-secret is odd"}, {})
    assert "sk-secret" not in str(error)
    assert "sk-secret" not in repr(ENDPOINT)
