"""The demo's tutor: pairs from a grammar, scores from reference metrics. It is not an LLM."""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError, RequestRejectedError
from llamaduo_gui.core.paths import resource
from llamaduo_gui.core.wire import extract_tag, outside_tags
from llamaduo_gui.providers.base import ChatRequest, ModelInfo, ProviderInfo, Reply
from llamaduo_gui.providers.grammar import TicketGrammar
from llamaduo_gui.providers.reference_metrics import (
    as_score,
    missing_and_extra,
    rouge_l,
    token_f1,
    tokens,
)

_PAIR_COUNT = re.compile(r"\b(\d+) (?:new )?pairs?\b")
WORDS_SHOWN = 4


@lru_cache(maxsize=1)
def _grammar() -> TicketGrammar:
    return TicketGrammar.load(resource("demo", "grammar.toml"))


class OfflineTutor:
    """Answers the wire contract's prompts by rules, the same way every time, at no cost.

    A judge prompt about any task is scored: precision is the token F1 against the target,
    similarity is ROUGE-L. Pairs and answers exist for the demo's tickets alone.
    """

    name = "offline"

    async def complete(self, request: ChatRequest) -> Reply:
        """Score, write pairs or triage a ticket, whichever the prompt asks for.

        Raises:
            RequestRejectedError: the prompt is about something other than the demo's tickets.
        """
        return Reply(text=self._answer(request), cost_usd=0.0)

    async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        """The answer of `complete`, word by word."""
        for piece in re.findall(r"\S+\s*|\s+", self._answer(request)):
            yield piece

    async def list_models(self) -> Sequence[ModelInfo]:
        """The one model there is."""
        return [ModelInfo("tutor", "Offline tutor (not an LLM)")]

    async def close(self) -> None:
        """Nothing is held open."""

    def _answer(self, request: ChatRequest) -> str:
        prompt = next(
            (turn.content for turn in reversed(request.messages) if turn.role == "user"), ""
        )
        instruction = extract_tag("instruction", prompt)
        target = extract_tag("target_response", prompt)
        candidate = extract_tag("candidate_response", prompt)
        response = extract_tag("response", prompt)
        if target is not None and candidate is not None:
            return judge(target, candidate)
        if instruction is not None and response is not None:
            found = _PAIR_COUNT.search(outside_tags(prompt))
            rng = random.Random(request.key())
            return _write_pairs(instruction, response, int(found.group(1)) if found else 1, rng)
        answer = _grammar().answer(prompt)
        if answer is None:
            raise _unknown_task()
        return answer


def judge(target: str, candidate: str) -> str:
    """Scores and reasons of a candidate in the wire contract's JSON."""
    f1, rouge = token_f1(target, candidate), rouge_l(target, candidate)
    difference = describe_difference(target, candidate)
    scores = {
        "precision": {"reason": f"Token F1 {f1:.2f}: {difference}.", "score": as_score(f1)},
        "similarity": {"reason": f"ROUGE-L {rouge:.2f}: {difference}.", "score": as_score(rouge)},
    }
    return json.dumps(scores, ensure_ascii=False)


def describe_difference(target: str, candidate: str) -> str:
    """What the candidate lacks and has too much of, in words, without a full stop."""
    missing, extra = missing_and_extra(target, candidate)
    parts = []
    if missing:
        parts.append(f"{_listed(missing)} missing")
    if extra:
        parts.append(f"{_listed(extra)} not in the target")
    if parts:
        return "; ".join(parts)
    if rouge_l(target, candidate) == 1:
        return "every word of the target, in order"
    if not tokens(target):
        return "no letters or digits to compare, and the texts differ"
    return "the target's words in another order"


def _listed(words: list[str]) -> str:
    shown = ", ".join(f"'{word}'" for word in words[:WORDS_SHOWN])
    more = len(words) - WORDS_SHOWN
    verb = "is" if len(words) == 1 else "are"
    return f"{shown} and {more} more {verb}" if more > 0 else f"{shown} {verb}"


def _write_pairs(instruction: str, response: str, count: int, rng: random.Random) -> str:
    pairs = _grammar().similar_pairs(instruction, response, count, rng)
    if not pairs:
        raise _unknown_task()
    items = [{"instruction": asked, "response": answered} for asked, answered in pairs]
    return json.dumps({"pairs": items}, ensure_ascii=False)


def _unknown_task() -> RequestRejectedError:
    return RequestRejectedError(
        "The offline tutor is not an LLM and only knows the demo's support tickets; "
        "name a service LLM as the teacher for other data."
    )


def _make(service: ServiceConfig, _key: str | None) -> OfflineTutor:
    if service.base_url:
        raise ConfigError("The offline tutor has no address; remove base_url.")
    return OfflineTutor()


INFO = ProviderInfo(
    name="offline",
    title="Offline tutor",
    is_llm=False,
    needs_key=False,
    needs_base_url=False,
    make=_make,
)
