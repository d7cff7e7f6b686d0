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
from llamaduo_gui.providers.base import RateLimitedError, RateLimits
from llamaduo_gui.providers.endpoint import Endpoint, Problem
from llamaduo_gui.providers.openai_errors import from_body, from_status, read_problem

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
        ({"error": {"error": {"message": "a"}}}, Problem("a")),
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
    error = from_status(ENDPOINT, status, body, {})
    assert type(error) is kind
    assert "openai_compatible:m" in str(error)
    assert str(error).endswith(".")
    assert str(status) in str(error)


def test_retry_after_of_an_overloaded_server_is_kept() -> None:
    assert from_status(ENDPOINT, 503, None, {"retry-after": "7"}).retry_after_s == 7


def test_long_and_many_lined_messages_are_cut_to_one_line() -> None:
    text = str(from_status(ENDPOINT, 400, {"message": "first\nsecond " + "x" * 900}, {}))
    assert "first second" in text
    assert "\n" not in text
    assert len(text) < 400


def test_the_key_is_neither_in_the_text_nor_in_the_repr() -> None:
    error = from_status(ENDPOINT, 400, {"message": "key sk-secret is odd"}, {})
    assert "sk-secret" not in str(error)
    assert "sk-secret" not in repr(ENDPOINT)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (
            404,
            {"message": "The model `x` does not exist", "code": "model_not_found"},
            "is not offered at",
        ),
        (404, {"message": 'model "m" not found, try pulling it first'}, "is not offered at"),
        (400, {"message": "Model Not Exist"}, "is not offered at"),
        (404, {"message": "The model `m` has been deprecated, learn more"}, "has left service"),
        (400, {"message": "gone", "code": "model_decommissioned"}, "has left service"),
        (410, {"message": "This model is no longer available"}, "has left service"),
        (404, {"detail": "Not Found"}, "was not found at http://localhost/v1"),
        (404, "404 page not found", "was not found at http://localhost/v1"),
        (400, {"message": "`temperature` is deprecated for this model."}, "rejected the request"),
        (400, {"message": "For model m the parameter `n` is deprecated"}, "rejected the request"),
        (400, {"message": "Your credit balance is too low"}, "has no credit left"),
    ],
)
def test_a_model_that_is_gone_is_told_apart_from_a_wrong_address(
    status: int, body: Any, says: str
) -> None:
    assert says in str(from_status(ENDPOINT, status, body, {}))


def test_an_error_in_a_good_answer_has_its_own_status_or_is_a_passing_fault() -> None:
    assert "(429" in str(from_body(ENDPOINT, {"error": {"code": 429, "message": "busy"}}))
    for code in (None, 9, "५०२", "x", 10**30):
        error = from_body(ENDPOINT, {"error": {"code": code, "message": "odd"}})
        assert "passing fault (500: odd)" in str(error)


def test_a_429_keeps_what_its_headers_say_of_the_limits() -> None:
    headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "0"}
    error = from_status(ENDPOINT, 429, None, headers)
    assert isinstance(error, RateLimitedError)
    assert error.limits == RateLimits(rpm=500, requests_left=0)
