"""What calls to one service will take: by the calls made so far, or by the lengths of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.service_settings import with_own_limits
from llamaduo_gui.core.types import TokenCounts
from llamaduo_gui.pipeline.forecast import Range, total_of_calls
from llamaduo_gui.providers.pricing import BYTES_PER_TOKEN_AT_LEAST, WRAPPING_TOKENS, cost_usd
from llamaduo_gui.store.costs import CallRow

Basis = Literal["pilot", "calls", "lengths"]

# Without any call, tokens are judged by the bytes of texts: English prose has near 4 a token.
_BYTES_PER_TOKEN = Range(BYTES_PER_TOKEN_AT_LEAST, 4.0, 6.0)
# Tokens of a judgement: two scores with a sentence each; a model that thinks first writes more.
_JUDGEMENT_TOKENS = Range(40, 120, 500)
# A batch is answered within a day, mostly within an hour.
_BATCH_S = Range(0.0, 3600.0, 86400.0)


@dataclass(frozen=True, slots=True)
class PartForecast:
    """What one service will be asked in one step.

    Attributes:
        calls: requests still to be answered, those asked again because of an unusable reply
            included.
        prompt_tokens, completion_tokens: read and written.
        cost_usd: None where the price is not known.
        seconds: by the limits and the latency, measured or judged by the tokens written.
        basis: a pilot, the calls made so far, or the lengths of the texts alone.
        basis_calls: how many calls that were.
    """

    service: str
    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    cost_usd: Range | None
    seconds: Range
    basis: Basis
    basis_calls: int = 0

    @property
    def basis_text(self) -> str:
        """The basis in words."""
        if self.basis == "lengths":
            return "text lengths"
        calls = f"{self.basis_calls:,} calls"
        return f"a pilot of {calls}" if self.basis == "pilot" else f"{calls} made so far"


def by_calls(service: ServiceConfig, calls: Range, made: Sequence[CallRow]) -> PartForecast:
    """Judge calls to come by calls that were made for the same purpose, at today's price."""
    read = [float(call.tokens.prompt) for call in made]
    written = [float(call.tokens.completion) for call in made]
    most_usd = _call_usd(service, TokenCounts(round(2 * max(read)), service.max_tokens), None)
    dollars = [_call_usd(service, call.tokens, call.cost_usd) for call in made]
    priced = [value for value in dollars if value is not None]
    cost = (
        total_of_calls(priced, calls, math.inf if most_usd is None else max([most_usd, *priced]))
        if len(priced) == len(made)
        else None
    )
    prompts = total_of_calls(read, calls)
    replies = total_of_calls(written, calls, max([float(service.max_tokens), *written]))
    latencies = [call.latency_s for call in made if call.latency_s is not None]
    latency_s = (
        Range.exactly(fmean(latencies)) if latencies else _latency_s(Range.exactly(fmean(written)))
    )
    return PartForecast(
        service.name,
        calls,
        prompts,
        replies,
        cost,
        _seconds(service, calls, prompts + replies, latency_s),
        "pilot" if all(call.is_pilot for call in made) else "calls",
        len(made),
    )


def by_lengths(
    service: ServiceConfig, calls: Range, prompt_bytes: float, reply_bytes: Range | None
) -> PartForecast:
    """Judge calls to come by the lengths of texts.

    Args:
        service: which will be asked.
        calls: how many.
        prompt_bytes: of one prompt, as UTF-8.
        reply_bytes: of one reply; None for a judgement.
    """

    def tokens(size: Range) -> Range:
        few, usual, many = (
            _BYTES_PER_TOKEN.high,
            _BYTES_PER_TOKEN.expected,
            _BYTES_PER_TOKEN.low,
        )
        return Range(size.low / few, size.expected / usual, size.high / many)

    read = tokens(Range.exactly(prompt_bytes)) + Range(0, WRAPPING_TOKENS / 2, WRAPPING_TOKENS)
    written = _JUDGEMENT_TOKENS if reply_bytes is None else tokens(reply_bytes)
    limit = service.max_tokens
    written = Range(*(min(value, limit) for value in (written.low, written.expected, written.high)))
    each = [
        _call_usd(service, TokenCounts(math.ceil(one), math.ceil(other)), None)
        for one, other in zip(_ends(read), _ends(written), strict=True)
    ]
    priced = [value for value in each if value is not None]
    cost = calls * Range(*priced) if len(priced) == len(each) else None
    prompts, replies = calls * read, calls * written
    seconds = _seconds(service, calls, prompts + replies, _latency_s(written))
    return PartForecast(service.name, calls, prompts, replies, cost, seconds, "lengths")


def _call_usd(
    service: ServiceConfig, tokens: TokenCounts, stored_usd: float | None
) -> float | None:
    """Dollars of one call at today's price; else what it cost then."""
    priced = cost_usd(service, tokens, is_batch=service.mode == "batch")
    return stored_usd if priced is None else priced


def _latency_s(written: Range) -> Range:
    """Seconds to a reply of so many tokens, of which a service writes 25 to 150 a second."""
    return Range(0.3 + written.low / 150, 0.6 + written.expected / 80, 1.5 + written.high / 25)


def _seconds(service: ServiceConfig, calls: Range, tokens: Range, latency_s: Range) -> Range:
    """Time by whichever binds: a limit, or the latency at the set concurrency."""
    service = with_own_limits(service)
    if service.provider == "offline":
        return Range()
    if service.mode == "batch":
        return _BATCH_S if calls.high else Range()
    ends: list[float] = []
    for count, amount, wait_s in zip(_ends(calls), _ends(tokens), _ends(latency_s), strict=True):
        bounds = [wait_s * count / service.concurrency]
        if service.max_rpm is not None:
            bounds.append(60.0 * count / service.max_rpm)
        if service.max_tpm is not None:
            bounds.append(60.0 * amount / service.max_tpm)
        ends.append(max(bounds))
    return Range(*ends)


def _ends(amount: Range) -> tuple[float, float, float]:
    return amount.low, amount.expected, amount.high
