"""What a service LLM costs: the user's own prices, else the list shipped with genai-prices."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal
from urllib.parse import urlsplit

from llamaduo_gui.core.config import PriceConfig, ServiceConfig
from llamaduo_gui.core.service_settings import last_valid_service_settings, load_service_settings
from llamaduo_gui.core.types import TokenCounts
from llamaduo_gui.providers.base import ChatRequest, Reply

# Names of the adapters in the price list.
LIST_NAMES = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
# The three APIs whose batches cost half of the live price, as each of them publishes.
BATCH_SHARE = 0.5
# UTF-8 bytes a token, low on purpose: about 4 for English prose, 3 for one Chinese character.
BYTES_PER_TOKEN_AT_LEAST = 3
# What chat templates and tool definitions add to a request, in tokens.
WRAPPING_TOKENS = 64

_BATCH = {"processing": "batch"}
PriceOrigin = Literal["free", "project", "own", "list"]


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a service, in US dollars a million tokens.

    Attributes:
        cached_input: price of prompt tokens read from the service's cache.
        origin: free of charge, set in `pipeline.yaml`, in the user's own prices, or in the list.
        source: where it is from, in words.
        as_of: newest day on which the list changed a price, None for other sources.
        is_tiered: long prompts cost more than these figures; `cost_usd` takes that into account.
    """

    input: float
    output: float
    cached_input: float
    origin: PriceOrigin
    source: str
    as_of: date | None = None
    is_tiered: bool = False

    @property
    def is_free(self) -> bool:
        """Whether no call can cost anything."""
        return not self.is_tiered and self.input == self.output == self.cached_input == 0.0


def price_of(service: ServiceConfig) -> Price | None:
    """The price in force today, or None if it is not known; nothing is looked up on the network.

    The order: `price` in `pipeline.yaml`, the user's `services.yaml`, free of charge (the offline
    tutor, and OpenAI-compatible endpoints on this computer), the genai-prices package.

    Raises:
        ConfigError: `services.yaml` is not valid.
    """
    load_service_settings()
    return _price_of(service)


def describe_price(service: ServiceConfig) -> str:
    """The price and its source in one sentence, or what to do where none is known.

    Raises:
        ConfigError: `services.yaml` is not valid.
    """
    price = price_of(service)
    if price is None:
        return (
            f"No price is known for {service.name}: set `price` in pipeline.yaml "
            "or enter one in Settings."
        )
    if price.is_free:
        return f"{service.name} is free of charge ({price.source})."
    more = ", more for long prompts" if price.is_tiered else ""
    dated = f", newest change {price.as_of.isoformat()}" if price.as_of else ""
    return (
        f"{service.name}: {_amount(price.input)} for reading and {_amount(price.output)} for "
        f"writing a million tokens{more} ({price.source}{dated})."
    )


def _amount(usd: float) -> str:
    """`$2.50`, or as many decimals as there are."""
    return f"${usd:.2f}" if round(usd, 2) == usd else f"${usd:g}"


def cost_usd(
    service: ServiceConfig, tokens: TokenCounts, *, is_batch: bool = False
) -> float | None:
    """What one reply cost, in dollars.

    Args:
        service: where it came from.
        tokens: as in `Reply.tokens`; `cached` and `cache_write` are part of `prompt`, and
            `reasoning` of `completion`.
        is_batch: the reply came out of a batch; half the price where the API gives that.

    Returns:
        None where the price is not known, or where the service told no token counts.
    """
    price = _price_of(service)
    if price is None:
        return None
    if price.is_free:
        return 0.0
    if tokens.prompt + tokens.completion == 0:
        return None
    if price.origin == "list":
        return _listed_cost(service, tokens, is_batch=is_batch)
    cached = min(tokens.cached, tokens.prompt)
    dollars = (
        (tokens.prompt - cached) * price.input
        + cached * price.cached_input
        + tokens.completion * price.output
    ) / 1e6
    return dollars * BATCH_SHARE if is_batch and service.provider in LIST_NAMES else dollars


def reply_cost_usd(
    service: ServiceConfig, request: ChatRequest, reply: Reply, *, is_batch: bool = False
) -> float | None:
    """What `reply` cost: as the service says, else by its tokens, else by the texts' lengths.

    Returns:
        None where neither the service nor any price list knows.
    """
    if reply.cost_usd is not None:
        return reply.cost_usd
    by_tokens = cost_usd(service, reply.tokens, is_batch=is_batch)
    if by_tokens is not None:
        return by_tokens
    written = len(reply.text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN_AT_LEAST + 1
    return estimate_usd(service, request, reply_tokens=written, is_batch=is_batch)


def estimate_usd(
    service: ServiceConfig,
    request: ChatRequest,
    *,
    reply_tokens: int | None = None,
    is_batch: bool = False,
) -> float | None:
    """At most what a request may cost, in dollars; None where the price is not known.

    Args:
        service: where it goes.
        request: its prompt and the longest reply it allows.
        reply_tokens: tokens of the reply; None for the longest that `request` allows.
        is_batch: it goes out in a batch.
    """
    completion = request.max_tokens if reply_tokens is None else reply_tokens
    tokens = TokenCounts(prompt=prompt_tokens_at_most(request), completion=completion)
    return cost_usd(service, tokens, is_batch=is_batch)


def prompt_tokens_at_most(request: ChatRequest) -> int:
    """Tokens of the prompt and the reply schema, estimated high in any script."""
    texts = [message.content for message in request.messages]
    if request.reply_schema is not None:
        texts.append(str(dict(request.reply_schema.schema)))
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return size // BYTES_PER_TOKEN_AT_LEAST + WRAPPING_TOKENS


def is_on_this_computer(address: str | None) -> bool:
    """Whether a base URL points at the loopback interface."""
    host = (urlsplit(address or "").hostname or "").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _price_of(service: ServiceConfig) -> Price | None:
    if service.price is not None:
        return _own(service.price, "project", "set in pipeline.yaml")
    own = last_valid_service_settings().prices.get(service.name)
    if own is not None:
        return _own(own, "own", "your own price")
    if service.provider == "offline":
        return Price(0.0, 0.0, 0.0, "free", "it computes on this computer")
    if service.provider == "openai_compatible" and is_on_this_computer(service.base_url):
        return Price(0.0, 0.0, 0.0, "free", "it runs on this computer")
    return _listed(service)


def _own(price: PriceConfig, origin: PriceOrigin, source: str) -> Price:
    cached = price.input if price.cached_input is None else price.cached_input
    return Price(price.input, price.output, cached, origin, source)


def _listed(service: ServiceConfig) -> Price | None:
    found = _find(service.provider, service.base_url or "", service.model)
    if found is None:
        return None
    prices = found[1].get_prices(datetime.now(tz=UTC))
    read, written = _base(prices.input_mtok), _base(prices.output_mtok)
    if read is None or written is None:
        return None
    cached = _base(prices.cache_read_mtok)
    units = (prices.input_mtok, prices.output_mtok, prices.cache_read_mtok)
    return Price(
        input=read,
        output=written,
        cached_input=read if cached is None else cached,
        origin="list",
        source=f"genai-prices {version('genai-prices')}",
        as_of=_list_date(),
        is_tiered=any(hasattr(unit, "tiers") for unit in units),
    )


def _listed_cost(service: ServiceConfig, tokens: TokenCounts, *, is_batch: bool) -> float | None:
    from genai_prices import Usage

    found = _find(service.provider, service.base_url or "", service.model)
    if found is None:
        return None
    provider, model = found
    # Counts a service got wrong must not fail a reply that is paid.
    prompt = tokens.prompt
    cached = min(tokens.cached, prompt)
    usage = Usage(
        input_tokens=prompt,
        cache_read_tokens=cached,
        cache_write_tokens=min(tokens.cache_write, prompt - cached),
        output_tokens=tokens.completion,
        output_reasoning_tokens=min(tokens.reasoning, tokens.completion),
    )
    now = datetime.now(tz=UTC)
    has_batch_price = is_batch and _has_batch_price(model, now)
    context = _BATCH if has_batch_price else None
    dollars = float(
        model.calc_price(
            usage, provider, genai_request_timestamp=now, price_context=context
        ).total_price
    )
    is_halved = is_batch and not has_batch_price and service.provider in LIST_NAMES
    return dollars * BATCH_SHARE if is_halved else dollars


@lru_cache(maxsize=256)
def _find(provider: str, base_url: str, model: str) -> tuple[Any, Any] | None:
    """Provider and model of the price list: by address, else by the adapter's name."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    places = [{"provider_api_url": base_url}] if base_url else []
    if provider in LIST_NAMES:
        places.append({"provider_id": LIST_NAMES[provider]})
    for place in places:
        try:
            return snapshot.find_provider_model(
                model, None, place.get("provider_id"), place.get("provider_api_url")
            )
        except LookupError:
            continue
    return None


@lru_cache(maxsize=1)
def _list_date() -> date | None:
    """The newest day up to now on which a price of the list came into force.

    The package does not say when it was made; its version is named beside this date.
    """
    from genai_prices.data_snapshot import get_snapshot

    today = datetime.now(tz=UTC).date()
    days: set[date] = set()
    for provider in get_snapshot().providers:
        for model in provider.models:
            entries = [*(model.prices if isinstance(model.prices, list) else [])]
            dated = [*entries, *(model.price_variants or ())]
            days.update(
                day for entry in dated if (day := getattr(entry.constraint, "start_date", None))
            )
    return max((day for day in days if day <= today), default=None)


def _has_batch_price(model: Any, now: datetime) -> bool:
    return any(
        variant.when == _BATCH and (variant.constraint is None or variant.constraint.active(now))
        for variant in model.price_variants or ()
    )


def _base(price: Any) -> float | None:
    """The price of a short prompt, None if the unit is not priced."""
    if price is None:
        return None
    return float(price if isinstance(price, Decimal) else price.base)
