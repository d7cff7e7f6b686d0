"""Tests of Message Batches through the adapter: the real SDK against a server on loopback."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from llamaduo_gui.core.errors import (
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.anthropic_batches import custom_id, request_key
from llamaduo_gui.providers.base import BatchProvider, BatchStatus, ChatRequest, Reply
from llamaduo_gui.providers.batch_label import make_label
from llamaduo_gui.providers.registry import make_provider
from tests.anthropic_requests import KEY, is_one_sentence, judging, request_to, service_of
from tests.fakes.answers import Answers
from tests.fakes.anthropic_server import FakeAnthropic, Settings

Result = TypeVar("Result")
LABEL = "run-7_part-1"


@pytest.fixture
def server() -> Iterator[FakeAnthropic]:
    with FakeAnthropic(Settings(key=KEY), Answers()) as it:
        yield it


def with_provider(
    server: FakeAnthropic, use: Callable[[Any], Awaitable[Result]], **changes: Any
) -> Result:
    """What `use` makes of an adapter, whose connections are closed afterwards."""

    async def use_and_close() -> Result:
        provider = make_provider(service_of(server, **changes), {"anthropic": KEY})
        assert isinstance(provider, BatchProvider)
        try:
            return await use(provider)
        finally:
            await provider.close()

    return asyncio.run(use_and_close())


def questions(server: FakeAnthropic, count: int, **changes: Any) -> dict[str, ChatRequest]:
    """Requests by their keys."""
    base = request_to(service_of(server))
    asked = [
        replace(base, messages=(Message("user", f"Question {number}"),), **changes)
        for number in range(count)
    ]
    return {request.key(): request for request in asked}


async def ended(provider: Any, batch_id: str) -> BatchStatus:
    status: BatchStatus = await provider.batch_status(batch_id)
    while status.state == "running":
        await asyncio.sleep(0.01)
        status = await provider.batch_status(batch_id)
    return status


async def results_of(provider: Any, batch_id: str) -> dict[str, Reply | ProviderError]:
    return {key: result async for key, result in provider.batch_results(batch_id)}


def whole_batch(
    server: FakeAnthropic, requests: dict[str, ChatRequest], **changes: Any
) -> tuple[BatchStatus, dict[str, Reply | ProviderError]]:
    """Hand a batch in, wait for its end, fetch its results."""

    async def use(provider: Any) -> tuple[BatchStatus, dict[str, Reply | ProviderError]]:
        batch_id = await provider.submit_batch(requests, LABEL)
        return await ended(provider, batch_id), await results_of(provider, batch_id)

    return with_provider(server, use, **changes)


def test_a_batch_answers_every_request_under_its_key(server: FakeAnthropic) -> None:
    server.settings.batches.polls = 3
    server.settings.cached_tokens = 4
    requests = questions(server, 30)
    status, results = whole_batch(server, requests)
    assert status == BatchStatus("ended", 30, 30)
    assert {key: result.text for key, result in results.items() if isinstance(result, Reply)} == {
        key: f"You said: {request.messages[0].content}" for key, request in requests.items()
    }
    reply = results[next(iter(requests))]
    assert isinstance(reply, Reply)
    assert (reply.finish_reason, reply.cached_tokens) == ("stop", 4)
    assert reply.prompt_tokens > reply.cached_tokens
    assert set(server.delivered.values()) == {1}
    assert not server.log, "nothing was asked live"


def test_a_running_batch_says_so(server: FakeAnthropic) -> None:
    server.settings.batches.polls = 1000

    async def use(provider: Any) -> BatchStatus:
        status: BatchStatus = await provider.batch_status(
            await provider.submit_batch(questions(server, 3), LABEL)
        )
        return status

    assert with_provider(server, use) == BatchStatus("running", 0, 3)


def test_names_in_a_batch_are_what_the_api_allows_and_give_the_key_back() -> None:
    for number in range(50):
        key = f"{number:064x}"[::-1]
        name = custom_id(key, f"label-{number}")
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
        assert request_key(name) == key
    assert custom_id("ab" * 32, "one") != custom_id("ab" * 32, "two")
    assert request_key("somebody-elses") is None


def test_a_judging_batch_has_its_schema_and_its_temperature(server: FakeAnthropic) -> None:
    request = judging(service_of(server), temperature=0.5)
    _, results = whole_batch(server, {request.key(): request})
    batch = next(iter(server.desk.batches.values()))
    assert "output_config" in batch.requests[0]["params"]
    assert (batch.requests[0]["params"]["temperature"], batch.version) == (0.5, "2023-06-01")
    assert isinstance(results[request.key()], Reply)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("overloaded", TransientProviderError, "passing fault (529: Overloaded)"),
        ("server_error", TransientProviderError, "passing fault (500"),
        ("drop", TransientProviderError, "did not get to it within a day; ask again"),
        ("context_length", RequestRejectedError, "cannot take a prompt this long"),
        ("content_filter", RequestRejectedError, "content filter"),
        ("forbidden", RequestRejectedError, "refuses access (403"),
    ],
)
def test_requests_that_fail_alone_say_why_and_the_others_have_their_replies(
    server: FakeAnthropic, fault: Any, kind: type[ProviderError], says: str
) -> None:
    server.settings.script = [None, fault]
    status, results = whole_batch(server, questions(server, 5))
    errors = [result for result in results.values() if isinstance(result, ProviderError)]
    assert status.state == "ended"
    assert len(results) == 5
    assert [type(error) for error in errors] == [kind]
    assert says in str(errors[0])
    assert is_one_sentence(str(errors[0]))


def test_replies_that_stopped_early_are_told_in_batches_too(server: FakeAnthropic) -> None:
    server.settings.script = ["refusal", "length"]
    _, results = whole_batch(server, questions(server, 3))
    reasons = sorted(reply.finish_reason for reply in results.values() if isinstance(reply, Reply))
    assert reasons == ["length", "refusal", "stop"]


def test_a_batch_that_ran_out_of_time_leaves_the_rest_to_be_asked_again(
    server: FakeAnthropic,
) -> None:
    server.settings.batches.outcome = "expired"
    status, results = whole_batch(server, questions(server, 6))
    kinds = [type(result) for result in results.values()]
    assert status == BatchStatus("ended", 3, 6)
    assert (kinds.count(Reply), kinds.count(TransientProviderError)) == (3, 3)


def test_a_batch_nothing_of_which_was_answered_failed(server: FakeAnthropic) -> None:
    server.settings.batches.outcome = "expired_unanswered"

    async def use(provider: Any) -> BatchStatus:
        return await ended(provider, await provider.submit_batch(questions(server, 2), LABEL))

    assert with_provider(server, use) == BatchStatus(
        "failed", 0, 2, "it was not answered within a day"
    )


def test_results_that_are_not_kept_any_more_are_missing_and_no_failure(
    server: FakeAnthropic,
) -> None:
    async def use(provider: Any) -> None:
        batch_id = await provider.submit_batch(questions(server, 2), LABEL)
        await ended(provider, batch_id)
        server.desk.batches[batch_id].is_archived = True
        for attempt in (results_of, ended):
            with pytest.raises(RequestRejectedError, match="no results of batch msgbatch_0001"):
                await attempt(provider, batch_id)

    with_provider(server, use)


def test_a_cancelled_batch_keeps_what_was_answered(server: FakeAnthropic) -> None:
    server.settings.batches.polls = 1000

    async def use(provider: Any) -> tuple[BatchStatus, dict[str, Reply | ProviderError]]:
        batch_id = await provider.submit_batch(questions(server, 4), LABEL)
        await provider.cancel_batch(batch_id)
        status = await ended(provider, batch_id)
        await provider.cancel_batch(batch_id)
        return status, await results_of(provider, batch_id)

    status, results = with_provider(server, use)
    assert status == BatchStatus("cancelled", 2, 4)
    errors = [str(result) for result in results.values() if isinstance(result, ProviderError)]
    assert len(errors) == 2
    assert "its batch was stopped before" in errors[0]


def test_a_batch_cancelled_before_anything_was_answered_is_cancelled(
    server: FakeAnthropic,
) -> None:
    server.settings.batches.polls = 1000

    async def use(provider: Any) -> BatchStatus:
        batch_id = await provider.submit_batch(questions(server, 1), LABEL)
        await provider.cancel_batch(batch_id)
        return await ended(provider, batch_id)

    assert with_provider(server, use) == BatchStatus("cancelled", 0, 1)


def test_a_batch_of_somebody_else_is_rejected_in_one_sentence(server: FakeAnthropic) -> None:
    async def use(provider: Any) -> None:
        with pytest.raises(
            RequestRejectedError, match="no results of batch msgbatch_9999"
        ) as caught:
            await provider.batch_status("msgbatch_9999")
        assert is_one_sentence(str(caught.value))

    with_provider(server, use)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"retired": ("claude-fake",), "models": ("x",)}, "has left service"),
        ({"models": ("x",)}, "is not offered"),
        ({"models": ("claude-fake?limit=1",)}, "is not offered"),
        ({"takes_batches": False}, "does not answer in batches; set `mode: live`"),
    ],
)
def test_a_model_that_cannot_answer_is_told_before_the_batch_is_handed_in(
    server: FakeAnthropic, changes: dict[str, Any], says: str
) -> None:
    for name, value in changes.items():
        setattr(server.settings, name, value)

    async def use(provider: Any) -> None:
        with pytest.raises(FatalProviderError, match=says) as caught:
            await provider.submit_batch(questions(server, 2), LABEL)
        assert is_one_sentence(str(caught.value))

    with_provider(server, use)
    assert not server.desk.batches


def test_a_model_without_structured_output_gets_a_tool_in_its_first_batch(
    server: FakeAnthropic,
) -> None:
    server.settings.structured = "tool"
    request = judging(service_of(server))
    _, results = whole_batch(server, {request.key(): request})
    assert isinstance(results[request.key()], Reply)


def test_what_a_batch_was_refused_for_is_left_out_of_the_next(server: FakeAnthropic) -> None:
    server.settings.refuses_temperature = True
    requests = questions(server, 3, temperature=0.5)

    async def use(provider: Any) -> list[set[type]]:
        kinds = []
        for _ in range(2):
            batch_id = await provider.submit_batch(requests, LABEL)
            await ended(provider, batch_id)
            found = await results_of(provider, batch_id)
            kinds.append({type(result) for result in found.values()})
        return kinds

    assert with_provider(server, use) == [{TransientProviderError}, {Reply}]


def find_lost(
    server: FakeAnthropic,
    before: Callable[[Any], Awaitable[None]] | None = None,
    after: Callable[[Any, str], Awaitable[None]] | None = None,
) -> str | None:
    """Lose the answer to a batch of three, and look for it with an adapter of another process."""
    server.settings.batches.polls = 1000
    label = make_label(3)

    async def lose(provider: Any) -> None:
        if before is not None:
            await before(provider)
        server.settings.batches.lost_answers = 1
        with pytest.raises(TransientProviderError):
            await provider.submit_batch(questions(server, 3), label)

    async def find(provider: Any) -> str | None:
        if after is not None:
            await after(provider, label)
        found: str | None = await provider.find_batch(label)
        return found

    with_provider(server, lose)
    return with_provider(server, find)


async def hand_in_earlier(server: FakeAnthropic, provider: Any) -> None:
    """A batch just like the lost one, a minute older."""
    batch_id = await provider.submit_batch(questions(server, 3), "earlier")
    server.desk.batches[batch_id].created_at -= timedelta(minutes=1)


@pytest.mark.parametrize("clock_skew_s", [0.0, -3600.0, 3600.0])
def test_a_running_batch_whose_answer_was_lost_is_found_by_its_time_and_size(
    server: FakeAnthropic, clock_skew_s: float
) -> None:
    server.settings.batches.clock_skew_s = clock_skew_s

    async def others(provider: Any) -> None:
        await hand_in_earlier(server, provider)
        await provider.submit_batch(questions(server, 2), "smaller")

    assert find_lost(server, others) == "msgbatch_0003"


def test_a_lost_batch_that_could_be_either_of_two_is_waited_for(server: FakeAnthropic) -> None:
    async def alike(provider: Any) -> None:
        await provider.submit_batch(questions(server, 3), "another")

    async def unsure(provider: Any, label: str) -> None:
        with pytest.raises(TransientProviderError, match="may be any of 2 that are under way"):
            await provider.find_batch(label)
        server.settings.batches.polls = 0
        await ended(provider, "msgbatch_0002")

    assert find_lost(server, alike, unsure) == "msgbatch_0002"


def test_a_batch_that_was_never_handed_in_is_not_found(server: FakeAnthropic) -> None:
    server.settings.batches.polls = 1000

    async def use(provider: Any) -> str | None:
        await hand_in_earlier(server, provider)
        server.settings.batches.refusals = 1
        label = make_label(3)
        with pytest.raises(TransientProviderError):
            await provider.submit_batch(questions(server, 3), label)
        found: str | None = await provider.find_batch(label)
        return found

    assert with_provider(server, use) is None


def test_a_batch_is_found_by_another_process_once_it_has_results(server: FakeAnthropic) -> None:
    never_handed_in = make_label(3)

    async def lose(provider: Any) -> None:
        server.settings.batches.lost_answers = 1
        with pytest.raises(TransientProviderError):
            await provider.submit_batch(questions(server, 3), LABEL)
        await ended(provider, await provider.submit_batch(questions(server, 3), "another"))
        await ended(provider, "msgbatch_0001")

    async def find(provider: Any) -> list[str | None]:
        return [await provider.find_batch(name) for name in (LABEL, "another", never_handed_in)]

    with_provider(server, lose)
    assert with_provider(server, find) == ["msgbatch_0001", "msgbatch_0002", None]


def test_a_lot_is_read_line_by_line(server: FakeAnthropic) -> None:
    status, results = whole_batch(server, questions(server, 500))
    assert status.total == 500
    assert all(isinstance(result, Reply) for result in results.values())
    assert len(results) == 500
