"""Finds the providers: every module of this package that has an `INFO` is one."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from functools import lru_cache

from llamaduo_gui import providers
from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.providers.base import Provider, ProviderInfo

NOT_AN_LLM = "not an LLM"


@lru_cache(maxsize=1)
def all_providers() -> Mapping[str, ProviderInfo]:
    """Every provider by name, alphabetically.

    Provider modules import their SDK only when a request is made, so that asking costs
    milliseconds and the window may do it.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(providers.__path__))
    modules = [importlib.import_module(f"{providers.__name__}.{name}") for name in names]
    infos = [module.INFO for module in modules if hasattr(module, "INFO")]
    return {info.name: info for info in infos}


def provider_info(name: str) -> ProviderInfo:
    """What is known about one provider.

    Raises:
        ConfigError: there is none of this name; the text names the nearest or all.
    """
    known = all_providers()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are {_listed(list(known))}."
    raise ConfigError(f"There is no provider called `{name}`. {hint}")


def make_provider(service: ServiceConfig, secrets: Mapping[str, str]) -> Provider:
    """The adapter for `service`; `secrets` holds API keys by provider name.

    Raises:
        ConfigError: no such provider, or its key or address is missing or not valid.
    """
    info = provider_info(service.provider)
    key = secrets.get(service.provider) or None
    if info.needs_key and key is None:
        raise ConfigError(
            f"{info.title} needs an API key: add one in Settings, "
            f"or run `llamaduo-gui keys set {info.name}`."
        )
    if info.needs_base_url and not service.base_url:
        raise ConfigError(
            f"{service.name} has no address: set base_url, for example http://localhost:11434/v1."
        )
    return info.make(service, key)


def service_label(name: str) -> str:
    """The name of a service as every table and report shows it.

    Args:
        name: `provider:model`, as in `ServiceConfig.name` and stored judgements.

    Returns:
        The name itself, with "(not an LLM)" behind it where the provider only computes.
    """
    info = all_providers().get(name.partition(":")[0])
    return name if info is None or info.is_llm else f"{name} ({NOT_AN_LLM})"


def _listed(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
