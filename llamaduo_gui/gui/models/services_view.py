"""Limits and prices of the services in use and of those with values of one's own, for tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llamaduo_gui.core.config import PriceConfig, ServiceConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.service_settings import (
    DEFAULT_CONCURRENCY,
    LimitConfig,
    load_service_settings,
    with_own_limits,
)
from llamaduo_gui.gui.models.bulk import bulk_read
from llamaduo_gui.gui.widgets.wording import NO_VALUE
from llamaduo_gui.providers.base import ProviderInfo
from llamaduo_gui.providers.pricing import Price, price_of
from llamaduo_gui.providers.registry import all_providers

if TYPE_CHECKING:
    from llamaduo_gui.store.project import Project

PROJECT_FILE = "pipeline.yaml"


@dataclass(frozen=True, slots=True)
class ServiceUse:
    """A service LLM of the open project, or one with own limits or an own price.

    Attributes:
        service: as `pipeline.yaml` has it; one that no project names has its defaults.
        limited: the same under the user's own limits.
        is_in_project: whether the open project asks it.
        price: None where it is not known.
    """

    service: ServiceConfig
    limited: ServiceConfig
    is_in_project: bool
    own_limits: LimitConfig | None = None
    own_price: PriceConfig | None = None
    price: Price | None = None

    @property
    def name(self) -> str:
        """`provider:model`."""
        return self.service.name


@dataclass(frozen=True, slots=True)
class ServicesView:
    """All of them, the project's first; `problem` says in a sentence what could not be read."""

    uses: tuple[ServiceUse, ...] = ()
    providers: tuple[ProviderInfo, ...] = ()
    problem: str = ""

    def find(self, name: str) -> ServiceUse | None:
        """The use of a service by its `provider:model`."""
        return next((use for use in self.uses if use.name == name), None)


def read_services(project: Project | None) -> ServicesView:
    """Read `pipeline.yaml`, `services.yaml` and the price list; takes a tenth of a second at first.

    Nothing is raised: a file that is not valid is told in `problem`, and the rest is shown.
    """
    infos = tuple(info for info in all_providers().values() if info.is_llm)
    problem = ""
    in_project: dict[str, ServiceConfig] = {}
    if project is not None:
        try:
            in_project = _services_of(project)
        except ConfigError as error:
            problem = str(error)
    llms = {info.name for info in infos}
    found = {name: service for name, service in in_project.items() if service.provider in llms}
    try:
        own = load_service_settings()
        for name in (*own.limits, *own.prices):
            provider, _, model = name.partition(":")
            found.setdefault(name, ServiceConfig(provider=provider, model=model))
        # The price list is made of so many objects that collecting them would stop the window.
        with bulk_read():
            uses = tuple(
                ServiceUse(
                    service,
                    with_own_limits(service),
                    name in in_project,
                    own.limits.get(name),
                    own.prices.get(name),
                    price_of(service),
                )
                for name, service in found.items()
            )
    except ConfigError as error:
        return ServicesView((), infos, str(error))
    return ServicesView(uses, infos, problem)


def limit_row(use: ServiceUse) -> tuple[str, ...]:
    """Service, requests and tokens a minute, requests at once, and where that is set."""
    now = use.limited
    return (
        use.name,
        _count(now.max_rpm),
        _count(now.max_tpm),
        f"{now.concurrency:,}",
        ", ".join(_limit_sources(use)) or "not set",
    )


def project_limits(use: ServiceUse) -> str:
    """The limits that `pipeline.yaml` sets, in words; empty where it sets none."""
    service = use.service
    parts = []
    if service.max_rpm is not None:
        parts.append(f"{service.max_rpm:,} requests a minute")
    if service.max_tpm is not None:
        parts.append(f"{service.max_tpm:,} tokens a minute")
    if service.concurrency != DEFAULT_CONCURRENCY:
        parts.append(f"{service.concurrency:,} at once")
    return ", ".join(parts)


def price_row(use: ServiceUse) -> tuple[str, ...]:
    """Service, dollars a million tokens of input, cached input and output, and their source."""
    price = use.price
    if price is None:
        return use.name, NO_VALUE, NO_VALUE, NO_VALUE, "not known"
    more = "+" if price.is_tiered else ""
    amounts = (price.input, price.cached_input, price.output)
    return (use.name, *(dollars(amount) + more for amount in amounts), _price_source(price))


def dollars(amount: float) -> str:
    """A price with at least two decimals and as many more as it has: `$1.25`, `$0.075`."""
    whole, _, decimals = f"{amount:,.6f}".partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _services_of(project: Project) -> dict[str, ServiceConfig]:
    config = project.config
    teacher = [config.teacher] if config.teacher is not None else []
    found: dict[str, ServiceConfig] = {}
    for service in (*teacher, *config.judges):
        found.setdefault(service.name, service)
    return found


def _count(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit:,}"


def _limit_sources(use: ServiceUse) -> list[str]:
    sources = [PROJECT_FILE] if project_limits(use) else []
    return [*sources, "your own"] if use.own_limits is not None else sources


def _price_source(price: Price) -> str:
    if price.origin == "list":
        return f"{price.source} ({price.as_of.isoformat()})" if price.as_of else price.source
    words = {"own": "your own", "project": PROJECT_FILE, "free": f"free: {price.source}"}
    return words[price.origin]
