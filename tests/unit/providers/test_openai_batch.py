"""Tests of OpenAI's Batch API: the real SDK against a server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import (
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers import openai_batch
from llamaduo_gui.providers.base import (
    BatchProvider,
    BatchStatus,
    ChatRequest,
    Reply,
    ReplySchema,
    UnreachableError,
)
from llamaduo_gui.providers.openai_batch import OpenAIBatches
from llamaduo_gui.providers.registry import make_provider
from tests.fakes.answers import Answers
from tests.fakes.http_server import Response
from tests.fakes.openai_server import FakeOpenAI, Settings

KEY = "sk-marked-0123456789"
SCHEMA = ReplySchema("answer", {"type": "object", "properties": {}, "additionalProperties": False})
T = TypeVar("T")
Results = dict[str, Reply | ProviderError]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(key=KEY), Answers(known={"Capital of France?": "Paris, it is"})) as it:
        yield it


def service_of(server: FakeOpenAI, **changes: Any) -> ServiceConfig:
    values = {"provider": "openai", "model": "fake-model", "base_url": server.url}
    return ServiceConfig(**{**values, **changes})


def requests_to(server: FakeOpenAI, *texts: str, **changes: Any) -> dict[str, ChatRequest]:
    requests = [
        replace(
            ChatRequest.for_service(service_of(server), (Message("user", text),), "answer"),
            **changes,
        )
        for text in texts
    ]
    return {request.key(): request for request in requests}


def use(server: FakeOpenAI, work: Callable[[OpenAIBatches], Awaitable[T]], **changes: Any) -> T:
    """What `work` does with an adapter of its own, its connections closed afterwards."""

    async def work_and_close() -> T:
        provider = make_provider(service_of(server, **changes), {"openai": KEY})
        assert isinstance(provider, OpenAIBatches)
        try:
            return await work(provider)
        finally:
            await provider.close()

    return asyncio.run(work_and_close())


async def results_of(provider: OpenAIBatches, batch_id: str) -> Results:
    return {key: result async for key, result in provider.batch_results(batch_id)}


async def through(provider: OpenAIBatches, requests: dict[str, ChatRequest]) -> Results:
    """The results of a batch that ends as soon as it is asked for."""
    batch_id = await provider.submit_batch(requests, "label")
    assert (await provider.batch_status(batch_id)).state == "ended"
    return await results_of(provider, batch_id)


def test_openai_has_batches_and_other_endpoints_do_not(server: FakeOpenAI) -> None:
    openai = make_provider(service_of(server), {"openai": KEY})
    other = make_provider(service_of(server, provider="openai_compatible"), {})
    assert isinstance(openai, BatchProvider)
    assert not isinstance(other, BatchProvider)


def test_every_request_of_a_batch_gets_its_own_reply(server: FakeOpenAI) -> None:
    server.settings.reasoning_tokens = 7
    # Characters that end a line for Python and not for JSON lines, and many pieces.
    texts = ["Capital of France?", "a\u2028b\x85c", *[f"{n} {'x' * 200}" for n in range(50)]]
    requests = requests_to(server, *texts)
    found = use(server, lambda provider: through(provider, requests))
    assert {key: reply.text for key, reply in found.items() if isinstance(reply, Reply)} == {
        key: server.answers.answer(request.messages[0].content) for key, request in requests.items()
    }
    first = found[next(iter(requests))]
    assert isinstance(first, Reply)
    assert first.reasoning_tokens == 7
    assert first.completion_tokens > 7


def test_a_line_of_a_batch_asks_what_a_live_request_asks(server: FakeOpenAI) -> None:
    requests = requests_to(server, "Bonjour, ça va?", temperature=0.3, reply_schema=SCHEMA)
    request = next(iter(requests.values()))

    async def both(provider: OpenAIBatches) -> None:
        await provider.complete(request)
        await provider.submit_batch(requests, "label")

    use(server, both)
    batch = server.desk.batches["batch_1"]
    assert [line["body"] for line in batch.lines] == [server.log[0].body]
    assert batch.lines[0]["custom_id"] == request.key()
    assert batch.lines[0]["url"] == "/v1/chat/completions"


def test_a_lone_surrogate_in_the_data_can_be_handed_in_and_comes_back_whole(
    server: FakeOpenAI,
) -> None:
    server.settings.script = ["lone_surrogate"]
    requests = requests_to(server, "\ud83d half")
    found = use(server, lambda provider: through(provider, requests))
    reply = found[next(iter(requests))]
    assert isinstance(reply, Reply)
    assert reply.text.startswith("\ufffd ")
    reply.text.encode("utf-8")


def test_a_batch_is_found_by_its_label_when_the_answer_was_lost(server: FakeOpenAI) -> None:
    server.settings.batches.page_size = 2
    server.settings.batches.lost_answers = 1

    async def lose_and_find(provider: OpenAIBatches) -> list[str | None]:
        with pytest.raises(TransientProviderError, match="broke before its reply"):
            await provider.submit_batch(requests_to(server, "lost"), "mine-1")
        for number in range(5):
            await provider.submit_batch(requests_to(server, f"{number}"), f"other-{number}")
        return [await provider.find_batch(label) for label in ("mine-1", "other-4", "nobody")]

    assert use(server, lose_and_find) == ["batch_1", "batch_6", None]


def test_a_batch_is_made_once_whatever_the_server_answers(server: FakeOpenAI) -> None:
    server.settings.batches.refusals = 1
    with pytest.raises(TransientProviderError, match=r"passing fault \(500"):
        use(server, lambda provider: provider.submit_batch(requests_to(server, "a"), "label"))
    assert not server.desk.batches


def test_the_status_follows_the_batch_to_its_end(server: FakeOpenAI) -> None:
    server.settings.batches.delay_s = 0.3

    async def watch(provider: OpenAIBatches) -> list[BatchStatus]:
        batch_id = await provider.submit_batch(requests_to(server, "a", "b"), "label")
        seen = [await provider.batch_status(batch_id)]
        while seen[-1].state == "running":
            await asyncio.sleep(0.05)
            seen.append(await provider.batch_status(batch_id))
        return seen

    seen = use(server, watch)
    assert seen[0] == BatchStatus("running", 0, 0)
    assert BatchStatus("running", 0, 2) in seen
    assert seen[-1] == BatchStatus("ended", 2, 2)


def test_a_batch_turned_down_as_a_whole_says_why_and_what_to_do(server: FakeOpenAI) -> None:
    server.settings.batches.outcome = "failed"

    async def fail(provider: OpenAIBatches) -> tuple[BatchStatus, Results]:
        batch_id = await provider.submit_batch(requests_to(server, "a"), "label")
        return await provider.batch_status(batch_id), await results_of(provider, batch_id)

    status, found = use(server, fail)
    assert status.state == "failed"
    assert status.problem == (
        "openai:fake-model has too many tokens waiting in batches: Enqueued token limit reached "
        "for fake-model. Limit: 90,000 enqueued tokens; let earlier batches end, or hand in fewer "
        "requests."
    )
    assert not found


def test_an_expired_batch_keeps_its_replies_and_the_rest_can_be_sent_again(
    server: FakeOpenAI,
) -> None:
    server.settings.batches.outcome = "expired"
    found = use(server, lambda it: through(it, requests_to(server, "a", "b", "c", "d")))
    kinds = [type(result) for result in found.values()]
    assert kinds == [Reply, Reply, TransientProviderError, TransientProviderError]
    assert "did not come to this request" in str(list(found.values())[-1])


def test_a_batch_that_expired_unanswered_has_failed(server: FakeOpenAI) -> None:
    server.settings.batches.outcome = "expired_unanswered"

    async def expire(provider: OpenAIBatches) -> BatchStatus:
        batch_id = await provider.submit_batch(requests_to(server, "a"), "label")
        return await provider.batch_status(batch_id)

    status = use(server, expire)
    assert status.state == "failed"
    assert "did not answer the batch within its day" in status.problem


def test_a_batch_of_another_account_is_not_one_that_failed(server: FakeOpenAI) -> None:
    """It may be running and paid for: nobody must hand it in again."""
    for work in (
        lambda it: it.batch_status("batch_99"),
        lambda it: results_of(it, "batch_99"),
        lambda it: it.cancel_batch("batch_99"),
    ):
        with pytest.raises(RequestRejectedError) as caught:
            use(server, work)
        assert str(caught.value) == "openai:fake-model has no batch batch_99 for this key."


def test_results_that_are_kept_no_longer_are_none(server: FakeOpenAI) -> None:
    async def wait_too_long(provider: OpenAIBatches) -> Results:
        batch_id = await provider.submit_batch(requests_to(server, "a"), "label")
        await provider.batch_status(batch_id)
        server.desk.files.clear()
        return await results_of(provider, batch_id)

    assert use(server, wait_too_long) == {}


def test_a_cancelled_batch_keeps_what_was_answered(server: FakeOpenAI) -> None:
    server.settings.batches.delay_s = 60

    async def cancel(provider: OpenAIBatches) -> tuple[str, Results]:
        batch_id = await provider.submit_batch(requests_to(server, "a", "b"), "label")
        await provider.cancel_batch(batch_id)
        state = (await provider.batch_status(batch_id)).state
        await provider.cancel_batch(batch_id)
        return state, await results_of(provider, batch_id)

    state, found = use(server, cancel)
    assert state == "cancelled"
    assert [type(result) for result in found.values()] == [Reply, TransientProviderError]


def test_each_line_fails_alone_and_in_its_own_way(server: FakeOpenAI) -> None:
    server.settings.script = [
        "server_error",
        "content_filter",
        None,
        "no_credit",
        "malformed_json",
        "drop",
        "refusal",
        "length",
    ]
    requests = requests_to(server, *"abcdefgh")
    found = use(server, lambda provider: through(provider, requests))
    outcomes = {request.messages[0].content: found.get(key) for key, request in requests.items()}
    assert type(outcomes["a"]) is TransientProviderError
    assert type(outcomes["b"]) is RequestRejectedError
    assert isinstance(outcomes["c"], Reply)
    assert type(outcomes["d"]) is RequestRejectedError
    assert "has no credit left" in str(outcomes["d"])
    assert type(outcomes["e"]) is TransientProviderError
    assert outcomes["f"] is None
    assert isinstance(outcomes["g"], Reply)
    assert isinstance(outcomes["h"], Reply)
    assert (outcomes["g"].finish_reason, outcomes["h"].finish_reason) == ("refusal", "length")
    for result in outcomes.values():
        assert KEY not in str(result)


def test_lines_that_nobody_can_read_are_left_out(server: FakeOpenAI) -> None:
    async def spoil(provider: OpenAIBatches) -> Results:
        batch_id = await provider.submit_batch(requests_to(server, "a"), "label")
        await provider.batch_status(batch_id)
        name = next(name for name in server.desk.files if name.endswith("01"))
        odd = [b"{broken", b"[]", b'{"custom_id": 7}', b"", b'{"custom_id": "k", "response": 3}']
        server.desk.files[name] = b"\n".join([*odd, server.desk.files[name].strip()])
        return await results_of(provider, batch_id)

    found = use(server, spoil)
    assert type(found.pop("k")) is TransientProviderError
    assert [type(result) for result in found.values()] == [Reply]


def test_a_model_without_a_temperature_gets_none_the_second_time(server: FakeOpenAI) -> None:
    server.settings.refuses_temperature = True
    requests = requests_to(server, "a", "b", temperature=0.3)

    async def twice(provider: OpenAIBatches) -> list[Results]:
        # Both are handed in before either has answered.
        first = await provider.submit_batch(requests, "one")
        second = await provider.submit_batch(requests, "two")
        for batch_id in (first, second):
            await provider.batch_status(batch_id)
        found = [await results_of(provider, batch_id) for batch_id in (first, second)]
        return [*found, await through(provider, requests)]

    *refused, answered = use(server, twice)
    for found in refused:
        assert [type(result) for result in found.values()] == [TransientProviderError] * 2
        assert all(error.retry_after_s == 0 for error in found.values())  # type: ignore[union-attr]
    assert [type(result) for result in answered.values()] == [Reply, Reply]


def test_a_schema_that_is_turned_down_is_left_out_step_by_step(server: FakeOpenAI) -> None:
    server.settings.structured = "plain"
    requests = requests_to(server, "a", "b", reply_schema=SCHEMA)

    async def repeat(provider: OpenAIBatches) -> list[str]:
        found = [await through(provider, requests) for _ in range(3)]
        return [type(result).__name__ for results in found for result in results.values()]

    assert use(server, repeat) == ["TransientProviderError"] * 4 + ["Reply"] * 2


def test_a_complaint_about_what_was_not_sent_is_final(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a server that always complains would be asked for ever."""
    problem = {"error": {"message": "response_format and temperature are not supported"}}
    monkeypatch.setattr(server, "_refused_body", lambda _body: Response.of_json(problem, 400))
    requests = requests_to(server, "a", reply_schema=SCHEMA, temperature=0.3)

    async def repeat(provider: OpenAIBatches) -> list[str]:
        found = [await through(provider, requests) for _ in range(4)]
        return [type(result).__name__ for results in found for result in results.values()]

    assert use(server, repeat) == ["TransientProviderError"] * 3 + ["RequestRejectedError"]


def test_a_download_cut_short_is_a_passing_fault(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = server.desk._file

    def cut(name: str) -> Any:
        response = original(name)
        response.is_cut = True
        return response

    monkeypatch.setattr(server.desk, "_file", cut)
    requests = requests_to(server, *[f"{number} {'x' * 300}" for number in range(20)])
    with pytest.raises(TransientProviderError, match="broke before its reply was complete"):
        use(server, lambda provider: through(provider, requests))


def test_a_wrong_key_and_a_dead_server_are_told_apart(server: FakeOpenAI) -> None:
    requests = requests_to(server, "a")
    server.settings.key = "another"
    for work in (
        lambda it: it.submit_batch(requests, "label"),
        lambda it: it.find_batch("label"),
        lambda it: it.batch_status("batch_1"),
        lambda it: results_of(it, "batch_1"),
        lambda it: it.cancel_batch("batch_1"),
    ):
        with pytest.raises(FatalProviderError, match="did not accept the API key"):
            use(server, work)
    with pytest.raises(UnreachableError):
        use(
            server,
            lambda it: it.submit_batch(requests, "label"),
            base_url="http://127.0.0.1:9/v1",
        )


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b'{"id": 7}', b"<html>", b"{"])
def test_odd_answers_of_the_batch_endpoints_are_provider_errors(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    async def odd(_request: Any) -> Response:
        return Response(200, body)

    monkeypatch.setattr(server.desk, "handle", odd)

    async def all_of_them(provider: OpenAIBatches) -> int:
        failures = 0
        for call in (
            provider.submit_batch(requests_to(server, "a"), "label"),
            provider.find_batch("label"),
            provider.batch_status("batch_1"),
            provider.cancel_batch("batch_1"),
            results_of(provider, "batch_1"),
        ):
            try:
                await call
            except ProviderError:
                failures += 1
        return failures

    assert use(server, all_of_them) >= 1


def test_a_full_batch_fits_the_api(server: FakeOpenAI) -> None:
    assert openai_batch.BATCH_LIMIT <= 50_000
    line = use(server, _line_of)
    assert len(line.encode()) * openai_batch.BATCH_LIMIT < 200 * 2**20
    assert json.loads(line)["method"] == "POST"


async def _line_of(provider: OpenAIBatches) -> str:
    request = ChatRequest("openai", None, "m", (Message("user", "x" * 16_000),), "judge")
    return provider._line(request.key(), request)
