"""Tests of Gemini's batches: the real SDK against a server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import (
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import (
    BatchStatus,
    ChatRequest,
    RateLimitedError,
    Reply,
    ReplySchema,
)
from llamaduo_gui.providers.gemini import Gemini
from tests.fakes.answers import Answers
from tests.fakes.gemini_server import FakeGemini, Fault, Settings

KEY = "AIza-marked-0123456789"
PAIRS = {f"question number {number}": f"answer {number} – ünïcode\u2028" for number in range(40)}
SCHEMA = ReplySchema("answer", {"type": "object", "properties": {}})
Found = dict[str, Reply | ProviderError]


@pytest.fixture
def server() -> Iterator[FakeGemini]:
    with FakeGemini(Settings(key=KEY), Answers(known=PAIRS)) as it:
        yield it


def service_of(server: FakeGemini, **changes: Any) -> ServiceConfig:
    values = {"provider": "gemini", "model": "fake-model", "base_url": server.url}
    return ServiceConfig(**{**values, **changes})


def requests_of(server: FakeGemini, count: int, **changes: Any) -> dict[str, ChatRequest]:
    service = service_of(server)
    asked = [Message("user", question) for question in list(PAIRS)[:count]]
    made = [ChatRequest.for_service(service, (message,), "answer") for message in asked]
    return {request.key(): replace(request, **changes) for request in made}


def use(server: FakeGemini, act: Callable[[Gemini], Awaitable[Any]], **changes: Any) -> Any:
    """What comes of an act with a fresh adapter, as after a restart."""

    async def act_and_close() -> Any:
        provider = Gemini(service_of(server, **changes), KEY)
        try:
            return await act(provider)
        finally:
            await provider.close()

    return asyncio.run(act_and_close())


def submit(server: FakeGemini, requests: dict[str, ChatRequest], label: str = "label-1") -> str:
    name = use(server, lambda provider: provider.submit_batch(requests, label))
    assert isinstance(name, str)
    return name


def status(server: FakeGemini, name: str) -> BatchStatus:
    found = use(server, lambda provider: provider.batch_status(name))
    assert isinstance(found, BatchStatus)
    return found


def results(server: FakeGemini, name: str) -> Found:
    async def collect(provider: Gemini) -> Found:
        return {key: outcome async for key, outcome in provider.batch_results(name)}

    found = use(server, collect)
    assert isinstance(found, dict)
    return found


def outcome_of(server: FakeGemini, fault: Fault) -> Reply | ProviderError:
    """What comes of the one request of a batch that meets this fault."""
    name = submit(server, requests_of(server, 1))
    server.settings.script = [fault]
    status(server, name)
    (outcome,) = results(server, name).values()
    return outcome


@pytest.mark.parametrize("form", ["file", "inline"])
def test_every_answer_comes_back_to_its_request(server: FakeGemini, form: Any) -> None:
    server.settings.batches.results = form
    server.settings.thinking_tokens = 5
    requests = requests_of(server, 40)
    name = submit(server, requests)
    assert status(server, name) == BatchStatus("ended", 40, 40)
    found = results(server, name)
    assert found.keys() == requests.keys()
    for key, request in requests.items():
        reply = found[key]
        assert isinstance(reply, Reply)
        assert reply.text == PAIRS[request.messages[0].content]
        assert reply.prompt_tokens > 0
        assert reply.reasoning_tokens == 5
    assert set(server.delivered.values()) == {1}


def test_results_can_be_read_again_and_cost_nothing_more(server: FakeGemini) -> None:
    name = submit(server, requests_of(server, 3))
    status(server, name)
    assert results(server, name) == results(server, name)
    assert server.delivered.total() == 3


def test_a_batched_request_is_put_like_a_live_one(server: FakeGemini) -> None:
    requests = requests_of(server, 1, temperature=0.2, reply_schema=SCHEMA)
    status(server, submit(server, requests))
    (request,) = requests.values()
    use(server, lambda provider: provider.complete(request))
    batched, live = server.log
    assert batched.body == live.body
    assert batched.digest == live.digest


def test_a_batch_is_followed_until_its_end(server: FakeGemini) -> None:
    server.settings.batches.polls = 3
    name = submit(server, requests_of(server, 2))
    states = [status(server, name) for _ in range(4)]
    assert [found.state for found in states] == ["running", "running", "ended", "ended"]
    assert states[0] == BatchStatus("running", 0, 2)


def test_a_batch_whose_answer_was_lost_is_found_by_its_label(server: FakeGemini) -> None:
    server.settings.batches.lost_answers = 1
    with pytest.raises(TransientProviderError, match="broke before its reply was complete"):
        submit(server, requests_of(server, 2), "mine")
    for label in ("other-1", "other-2", "other-3", "mine-too"):
        submit(server, requests_of(server, 1), label)
    assert use(server, lambda provider: provider.find_batch("mine")) == "batches/b1"
    assert use(server, lambda provider: provider.find_batch("none")) is None
    newest = submit(server, requests_of(server, 1), "mine")
    assert use(server, lambda provider: provider.find_batch("mine")) == newest


def test_a_refused_batch_says_why_and_makes_none(server: FakeGemini) -> None:
    server.settings.batches.refusals = 1
    with pytest.raises(RateLimitedError, match="429: Too many enqueued tokens"):
        submit(server, requests_of(server, 1))
    assert not server.desk.batches


def test_a_batch_handed_in_again_does_not_send_its_file_again(server: FakeGemini) -> None:
    server.settings.batches.refusals = 2
    requests = requests_of(server, 3)

    async def insist(provider: Gemini) -> str:
        for _ in range(2):
            with pytest.raises(RateLimitedError):
                await provider.submit_batch(requests, "mine")
        return await provider.submit_batch(requests, "mine")

    name = use(server, insist)
    assert len(server.desk.files) == 1
    assert status(server, name).done == 3
    assert results(server, name).keys() == requests.keys()


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ("FAILED", "The batch of gemini:fake-model was turned down: The input file could not"),
        ("EXPIRED", "The batch of gemini:fake-model expired."),
    ],
)
def test_a_batch_that_came_to_nothing_says_why(server: FakeGemini, outcome: Any, says: str) -> None:
    server.settings.batches.outcome = outcome
    name = submit(server, requests_of(server, 2))
    found = status(server, name)
    assert found.state == "failed"
    assert found.problem.startswith(says)
    assert found.problem.endswith(".")
    assert results(server, name) == {}


def test_a_batch_that_the_service_does_not_know_is_told_apart_from_a_failed_one(
    server: FakeGemini,
) -> None:
    with pytest.raises(RequestRejectedError) as caught:
        status(server, "batches/b77")
    assert str(caught.value) == "gemini:fake-model has batches/b77 no more (404)."


def test_results_that_the_service_forgot_are_told_apart_from_a_wrong_key(
    server: FakeGemini,
) -> None:
    name = submit(server, requests_of(server, 1))
    status(server, name)
    server.desk.removed.add("files/batch-out1")
    with pytest.raises(RequestRejectedError, match="has the results files/batch-out1 no more"):
        results(server, name)
    server.settings.key = "another"
    with pytest.raises(FatalProviderError, match="did not accept the API key"):
        results(server, name)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("server_error", TransientProviderError, "passing fault (500: An internal error"),
        ("overloaded", TransientProviderError, "passing fault (503"),
        ("bad_request", RequestRejectedError, "rejected the request (400"),
        ("too_long", RequestRejectedError, "cannot take a prompt this long"),
        ("leaked_key", RequestRejectedError, "refuses access (403: Consumer 'api_key:[key]'"),
        ("no_candidates", TransientProviderError, "cannot be read: it has no candidate"),
    ],
)
def test_an_error_amid_results_is_of_the_kind_that_says_whether_to_ask_again(
    server: FakeGemini, fault: Fault, kind: type[ProviderError], says: str
) -> None:
    error = outcome_of(server, fault)
    assert isinstance(error, ProviderError)
    assert type(error) is kind
    assert says in str(error)
    assert KEY not in str(error)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("safety", "content_filter"), ("blocked", "content_filter"), ("length", "length")],
)
def test_an_answer_that_falls_short_is_a_reply_in_a_batch_too(
    server: FakeGemini, fault: Fault, reason: str
) -> None:
    reply = outcome_of(server, fault)
    assert isinstance(reply, Reply)
    assert reply.finish_reason == reason


def test_a_partial_failure_leaves_the_other_results_alone(server: FakeGemini) -> None:
    name = submit(server, requests_of(server, 4))
    server.settings.script = [None, "server_error", "drop", None]
    assert status(server, name) == BatchStatus("ended", 3, 4)
    found = list(results(server, name).values())
    assert [isinstance(outcome, Reply) for outcome in found] == [True, False, True]


def test_a_broken_line_costs_only_its_own_result(server: FakeGemini) -> None:
    server.settings.batches.has_broken_line = True
    name = submit(server, requests_of(server, 2))
    status(server, name)
    assert len(results(server, name)) == 2


def test_results_that_cannot_be_told_apart_stop_the_run(server: FakeGemini) -> None:
    server.settings.batches.results = "inline_without_keys"
    name = submit(server, requests_of(server, 2))
    status(server, name)
    with pytest.raises(FatalProviderError, match=r"does not say which request .*`mode: live`"):
        results(server, name)


def test_a_schema_refused_in_a_batch_is_asked_in_the_next_lesser_way(server: FakeGemini) -> None:
    server.settings.structured = "json_object"
    requests = requests_of(server, 2, reply_schema=SCHEMA)

    async def twice(provider: Gemini) -> list[Found]:
        rounds = []
        for label in ("first", "second"):
            name = await provider.submit_batch(requests, label)
            await provider.batch_status(name)
            rounds.append({key: value async for key, value in provider.batch_results(name)})
        return rounds

    refused, answered = use(server, twice)
    assert [type(value) for value in refused.values()] == [TransientProviderError] * 2
    assert [type(value) for value in answered.values()] == [Reply] * 2
    assert "responseMimeType" in server.log[-1].body["generationConfig"]


def test_a_batch_can_be_cancelled_while_it_runs(server: FakeGemini) -> None:
    server.settings.batches.polls = 9
    name = submit(server, requests_of(server, 1))
    use(server, lambda provider: provider.cancel_batch(name))
    assert status(server, name).state == "cancelled"
    assert results(server, name) == {}
    with pytest.raises(RequestRejectedError, match="The batch is not running"):
        use(server, lambda provider: provider.cancel_batch(name))


def test_a_file_larger_than_one_piece_of_the_upload_arrives_whole(
    server: FakeGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.genai import _api_client

    monkeypatch.setattr(_api_client, "CHUNK_SIZE", 1000)
    requests = requests_of(server, 40)
    name = submit(server, requests)
    assert sum("upload_id" in call for call in server.calls) > 5
    status(server, name)
    assert results(server, name).keys() == requests.keys()
