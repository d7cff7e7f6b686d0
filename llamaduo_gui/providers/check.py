"""Tries a service LLM out: is the address right, the key accepted, the model there?"""

from __future__ import annotations

import asyncio
import difflib
import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import (
    ConfigError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.types import Message
from llamaduo_gui.providers.base import ChatRequest, ModelInfo, Provider, ProviderInfo
from llamaduo_gui.providers.endpoint import is_this_machine
from llamaduo_gui.providers.registry import make_provider, provider_info

QUESTION = "Reply with the one word: ready"
# Room for a reasoning model to think; others write one word.
LONGEST_ANSWER = 256
# An adapter may have to leave out one parameter after the other.
MOST_TRIES = 4
NAMES_SHOWN = 3
_SDKS = {
    "openai": "openai",
    "openai_compatible": "openai",
    "anthropic": "anthropic",
    "gemini": "google.genai",
}


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """What came of trying a service out.

    Attributes:
        ok: whether it can be used as configured.
        sentence: the outcome for a person; says what to do next where it is not ok.
        models: what the service lists, empty where it has no list.
        has_model: whether the model is listed; None where there is no list or no model is named.
        latency_s: seconds the service took to answer, None where it did not.
    """

    ok: bool
    sentence: str
    models: tuple[ModelInfo, ...] = ()
    has_model: bool | None = None
    latency_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The report that `to_dict` made these values of."""
        models = tuple(ModelInfo(**entry) for entry in values.get("models", ()))
        return cls(**{**values, "models": models})


def service_to_check(
    provider: str, model: str = "", base_url: str | None = None, timeout_s: float = 60.0
) -> ServiceConfig:
    """The settings to try out; without a model only the connection and the list are tried."""
    service = ServiceConfig(
        provider=provider, model=model or "none", base_url=base_url or None, timeout_s=timeout_s
    )
    return service.model_copy(update={"model": model})


async def check_service(service: ServiceConfig, secrets: Mapping[str, str]) -> ConnectionReport:
    """List the models and, where that does not prove that `service` works, ask one question.

    A list proves it where a key is needed for it, or the server is on this machine. Otherwise,
    and where the model is not listed, one tiny request is made and the report says so.

    Args:
        service: its model may be empty: none is chosen yet.
        secrets: API keys by provider name.
    """
    try:
        info = provider_info(service.provider)
        if info.needs_base_url and not service.base_url:
            return ConnectionReport(
                False, f"{info.title} needs an address, for example http://localhost:11434/v1."
            )
        provider = make_provider(service, secrets)
    except ConfigError as error:
        return ConnectionReport(False, str(error))
    if not info.is_llm:
        return ConnectionReport(True, f"{info.title} computes on this machine; it is always there.")
    try:
        return await _Check(service, info, provider).run()
    except ProviderError as error:
        return ConnectionReport(False, str(error))
    finally:
        await provider.close()


class _Check:
    def __init__(self, service: ServiceConfig, info: ProviderInfo, provider: Provider) -> None:
        self._service = service
        self._info = info
        self._provider = provider

    async def run(self) -> ConnectionReport:
        """See `check_service`; raises the error that kept the list from coming."""
        model = self._service.model
        # Loading takes a second, which is not the service's.
        if sdk := _SDKS.get(self._info.name):
            await asyncio.to_thread(importlib.import_module, sdk)
        started = time.perf_counter()
        try:
            models: tuple[ModelInfo, ...] | None = tuple(await self._provider.list_models())
        except RequestRejectedError:
            models = None
        latency_s = time.perf_counter() - started
        if not model:
            return self._connected(models, latency_s)
        has_model = None if models is None else _is_listed(model, models)
        if has_model and models and self._is_proof():
            sentence = (
                f"{self._service.name} is ready: the service answered in {latency_s:.2f} s and "
                f"lists {_counted(models)}, this one among them."
            )
            return ConnectionReport(True, sentence, models, has_model, latency_s)
        return await self._asked(models, has_model)

    def _is_proof(self) -> bool:
        """Whether the list of models comes only to those who may use them."""
        return self._info.needs_key or is_this_machine(self._service.base_url or "")

    def _connected(self, models: Sequence[ModelInfo] | None, latency_s: float) -> ConnectionReport:
        answered = f"{self._info.title} answered in {latency_s:.2f} s"
        if models is None:
            sentence = f"{answered} and has no list of models; name one to try it."
        elif not models:
            sentence = f"{answered} and has no model yet; load one there first."
        else:
            sentence = f"{answered} and lists {_counted(models)}."
        return ConnectionReport(models != (), sentence, tuple(models or ()), None, latency_s)

    async def _asked(
        self, models: Sequence[ModelInfo] | None, has_model: bool | None
    ) -> ConnectionReport:
        """The report of one tiny request."""
        listed = tuple(models or ())
        try:
            latency_s = await self._ask()
        except ProviderError as error:
            sentence = str(error)
            near = _nearest(self._service.model, listed) if has_model is False else ""
            if near:
                sentence = f"{sentence.rstrip('.')}; the nearest names it lists are {near}."
            return ConnectionReport(False, sentence, listed, has_model)
        sentence = f"{self._service.name} answered one short question in {latency_s:.2f} s"
        if has_model:
            sentence += "."
        elif has_model is False:
            sentence += f", although the service lists {_counted(listed)} without it."
        else:
            sentence += "; the service has no list of models."
        return ConnectionReport(True, sentence, listed, has_model, latency_s)

    async def _ask(self) -> float:
        """Seconds until one tiny request was answered."""
        service = self._service.model_copy(update={"max_tokens": LONGEST_ANSWER})
        request = ChatRequest.for_service(service, (Message("user", QUESTION),), "chat")
        for _ in range(MOST_TRIES - 1):
            try:
                return (await self._provider.complete(request)).latency_s
            except TransientProviderError as error:
                # Asked for again at once: the adapter has learnt what to leave out.
                if error.retry_after_s != 0:
                    raise
        return (await self._provider.complete(request)).latency_s


def _is_listed(model: str, models: Sequence[ModelInfo]) -> bool:
    """Gemini's endpoint lists `models/NAME`, and Ollama `NAME:latest`."""
    names = {entry.id for entry in models}
    return bool(names & {model, f"models/{model}", f"{model}:latest"})


def _nearest(model: str, models: Sequence[ModelInfo]) -> str:
    """The names most like `model`, for a sentence; empty if none is."""
    names = {entry.id.lower(): entry.id for entry in models}
    close = difflib.get_close_matches(model.lower(), names, n=NAMES_SHOWN, cutoff=0.5)
    within = [name for name in sorted(names) if model.lower() in name and name not in close]
    found = [f"`{names[name]}`" for name in [*close, *within][:NAMES_SHOWN]]
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def _counted(models: Sequence[ModelInfo]) -> str:
    return "1 model" if len(models) == 1 else f"{len(models)} models"
