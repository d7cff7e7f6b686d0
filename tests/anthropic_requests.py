"""What the tests of the Anthropic adapter share: requests, and the adapter asked once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import TransientProviderError
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest, Provider, Reply, ReplySchema
from llamaduo_gui.providers.registry import make_provider
from tests.fakes.anthropic_server import FakeAnthropic

KEY = "sk-ant-marked-0123456789"
PART = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["reason", "score"],
    "additionalProperties": False,
}
SCHEMA = ReplySchema(
    "judgement",
    {
        "type": "object",
        "properties": {"precision": PART, "similarity": PART},
        "required": ["precision", "similarity"],
        "additionalProperties": False,
    },
)
JUDGE_PROMPT = "<target_response>a b</target_response><candidate_response>a b</candidate_response>"


def service_of(server: FakeAnthropic, **changes: Any) -> ServiceConfig:
    values = {"provider": "anthropic", "model": "claude-fake", "base_url": server.url}
    return ServiceConfig(**{**values, **changes})


def request_to(service: ServiceConfig, text: str = "Capital of France?") -> ChatRequest:
    return ChatRequest.for_service(service, (Message("user", text),), "answer")


def judging(service: ServiceConfig, **changes: Any) -> ChatRequest:
    return replace(request_to(service, JUDGE_PROMPT), reply_schema=SCHEMA, **changes)


def ask(service: ServiceConfig, key: str = KEY, **changes: Any) -> Reply:
    """One reply, the connections closed afterwards."""

    async def use() -> Reply:
        provider = make_provider(service, {"anthropic": key})
        try:
            return await provider.complete(replace(request_to(service), **changes))
        finally:
            await provider.close()

    return asyncio.run(use())


async def until_answered(provider: Provider, request: ChatRequest) -> tuple[Reply, int]:
    """The reply, and how many requests had to be put differently before it."""
    for refused in range(5):
        try:
            return await provider.complete(request), refused
        except TransientProviderError as error:
            if error.retry_after_s != 0.0:
                raise
    raise AssertionError("never answered")


def asked_twice(provider: Provider, request: ChatRequest) -> tuple[Reply, int]:
    """The reply, and how many requests were refused before; of a second one none is."""

    async def use() -> tuple[Reply, int]:
        try:
            first = await until_answered(provider, request)
            assert (await until_answered(provider, request))[1] == 0, "it is remembered"
            return first
        finally:
            await provider.close()

    return asyncio.run(use())


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and "\n" not in text and KEY not in text
