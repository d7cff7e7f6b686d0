"""Tests of reading the error bodies that Google's APIs are known to send."""

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
from llamaduo_gui.providers.gemini_errors import for_one_of_many, from_status, read_problem

ENDPOINT = Endpoint("gemini", "m", "https://generativelanguage.googleapis.com", "AIza-secret")
DETAIL = "type.googleapis.com/google.rpc"


def error_of(status: int, message: str, *details: Any, name: str = "") -> ProviderError:
    body = {"error": {"code": status, "message": message, "status": name, "details": details}}
    body["error"]["details"] = list(details)
    return from_status(ENDPOINT, status, body, {})


def failed_quotas(*quotas: tuple[str, str | None]) -> dict[str, Any]:
    violations = [
        {"quotaId": name, **({} if value is None else {"quotaValue": value})}
        for name, value in quotas
    ]
    return {"@type": f"{DETAIL}.QuotaFailure", "violations": violations}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"error": {"message": "a", "status": "NOT_FOUND"}}, Problem("a", "NOT_FOUND")),
        (
            {"error": {"message": "a", "status": "S", "details": [{"reason": "R"}]}},
            Problem("a", "R"),
        ),
        ([{"error": {"message": "a"}}], Problem("a")),
        ({"code": 3, "message": "a"}, Problem("a")),
        ({"error": "a"}, Problem()),
        ({"message": "<!DOCTYPE html>", "status": "Not Found"}, Problem("", "Not Found")),
        ({"error": {"message": None, "details": "no"}}, Problem()),
        ({"error": {"message": "a", "details": [None, 7]}}, Problem("a")),
        ("plain", Problem()),
        ([], Problem()),
        (None, Problem()),
    ],
)
def test_every_shape_of_error_body_is_read(body: Any, problem: Problem) -> None:
    assert read_problem(body) == problem


@pytest.mark.parametrize(
    ("status", "message", "kind", "says"),
    [
        (400, "API key not valid. Please pass a valid API key.", FatalProviderError, "API key"),
        (400, "API Key not found. Please pass a valid API key.", FatalProviderError, "API key"),
        (403, "Method doesn't allow unregistered callers", FatalProviderError, "API key (403)"),
        (401, "Request had invalid credentials.", FatalProviderError, "API key (401)"),
        (403, "Generative Language API is disabled", FatalProviderError, "refuses access"),
        (404, "models/m is not found for API version v1beta", FatalProviderError, "not offered"),
        (404, "This model models/m is no longer available.", FatalProviderError, "left service"),
        (404, "", FatalProviderError, "remove base_url"),
        (400, "spend limit of the project reached", FatalProviderError, "no credit"),
        (429, "Project has exceeded its spending cap.", FatalProviderError, "no credit"),
        (499, "The operation was cancelled.", TransientProviderError, "passing fault (499"),
        (500, "", TransientProviderError, "passing fault (500)"),
        (413, "Request payload size exceeds the limit", RequestRejectedError, "prompt this long"),
        (400, "Invalid value at 'contents'", RequestRejectedError, "rejected the request"),
    ],
)
def test_statuses_and_messages_get_their_sentence(
    status: int, message: str, kind: type[ProviderError], says: str
) -> None:
    error = error_of(status, message)
    assert type(error) is kind
    assert says in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, TransientProviderError),
        (3, RequestRejectedError),
        (4, TransientProviderError),
        (8, RateLimitedError),
        (13, TransientProviderError),
        (14, TransientProviderError),
        (16, FatalProviderError),
    ],
)
def test_the_codes_of_rpc_mean_what_their_status_means(
    code: int, kind: type[ProviderError]
) -> None:
    assert type(from_status(ENDPOINT, code, {"message": "no", "code": code}, {})) is kind


def test_the_quotas_of_a_minute_are_limits_and_the_lowest_counts() -> None:
    quotas = failed_quotas(
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "15"),
        ("GenerateRequestsPerMinutePerRegion", "10"),
        ("GenerateContentInputTokensPerModelPerMinute-FreeTier", "250000"),
    )
    error = error_of(429, "You exceeded your current quota.", quotas)
    assert isinstance(error, RateLimitedError)
    assert error.limits == RateLimits(rpm=10, tpm=250_000)
    assert "(429: 10 requests a minute and 250,000 tokens a minute)" in str(error)


@pytest.mark.parametrize(
    "quota",
    [
        "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
        "GenerateContentPaidTierInputTokensPerModelPerDay",
    ],
)
def test_the_quota_of_a_day_stops_the_run_even_beside_one_of_a_minute(quota: str) -> None:
    minute = ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "15")
    error = error_of(429, "You exceeded your current quota.", failed_quotas(minute, (quota, "500")))
    assert isinstance(error, FatalProviderError)
    assert "used up its quota of 500 " in str(error)
    assert "midnight Pacific time" in str(error)


def test_quotas_without_values_are_read_by_their_names() -> None:
    daily = failed_quotas(("GenerateRequestsPerDayPerProjectPerModel", None))
    assert "used up its quota for today (429)" in str(error_of(429, "", daily))
    minute = failed_quotas(("GenerateRequestsPerMinutePerProjectPerModel", None))
    error = error_of(429, "Quota exceeded.", minute)
    assert isinstance(error, RateLimitedError)
    assert error.limits is None
    assert "(429: Quota exceeded)" in str(error)


def test_the_metric_tells_where_there_is_no_id() -> None:
    violation = {"quotaMetric": "generativelanguage.googleapis.com/generate_requests_per_day"}
    detail = {"@type": f"{DETAIL}.QuotaFailure", "violations": [violation]}
    assert isinstance(error_of(429, "", detail), FatalProviderError)


def test_a_plan_without_the_model_is_told_apart_from_a_used_up_quota() -> None:
    error = error_of(429, "Quota exceeded for metric: free_tier_requests, limit: 0, model: m")
    assert isinstance(error, FatalProviderError)
    assert "not part of the key's plan" in str(error)


@pytest.mark.parametrize(
    ("delay", "seconds"), [("34s", 34.0), ("34.07s", 34.07), ("0s", 0.0), ("soon", None), (5, None)]
)
def test_the_delay_is_googles_duration(delay: Any, seconds: float | None) -> None:
    info = {"@type": f"{DETAIL}.RetryInfo", "retryDelay": delay}
    assert error_of(429, "no", info).retry_after_s == seconds


def test_a_header_tells_the_delay_where_the_body_does_not() -> None:
    error = from_status(ENDPOINT, 429, {"error": {"message": "no"}}, {"retry-after": "7"})
    assert error.retry_after_s == 7


def test_a_key_in_an_error_is_struck_out() -> None:
    error = error_of(403, "Consumer 'api_key:AIza-secret' has been suspended.")
    assert "AIza-secret" not in str(error)
    assert "[key]" in str(error)


def test_what_is_fatal_for_one_result_is_not_for_its_batch() -> None:
    fatal = for_one_of_many(FatalProviderError("no."))
    assert (type(fatal), str(fatal)) == (RequestRejectedError, "no.")
    passing = TransientProviderError("no.")
    assert for_one_of_many(passing) is passing
