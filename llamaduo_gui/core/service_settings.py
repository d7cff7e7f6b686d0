"""The user's own prices and limits of services (`services.yaml`), for every project; never keys."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Any

import yaml
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llamaduo_gui.core.config import PriceConfig, ServiceConfig, describe_problem
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.paths import user_state_dir

FILE_NAME = "services.yaml"
LOCK_TIMEOUT_S = 10.0
# pipeline.yaml is written with it, so that this number there is nobody's choice.
DEFAULT_CONCURRENCY: int = ServiceConfig.model_fields["concurrency"].default

_HEADER = "# Own prices (US dollars a million tokens) and limits by provider:model; never keys.\n"


class LimitConfig(BaseModel):
    """How hard one service may be used, wherever `pipeline.yaml` says nothing of it.

    Requests and tokens a minute, and requests under way at once; None is no own limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_rpm: Annotated[int | None, Field(gt=0)] = None
    max_tpm: Annotated[int | None, Field(gt=0)] = None
    concurrency: Annotated[int | None, Field(ge=1, le=512)] = None


class ServiceSettings(BaseModel):
    """Everything in `services.yaml`: prices and limits by `provider:model`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prices: dict[str, PriceConfig] = Field(default_factory=dict)
    limits: dict[str, LimitConfig] = Field(default_factory=dict)

    @field_validator("prices", "limits")
    @classmethod
    def _named_by_provider_and_model(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            provider, colon, model = name.partition(":")
            if not (provider and colon and model):
                raise ValueError(f"`{name}` is no service; write provider:model, as openai:gpt-5")
        return value


_cache_lock = threading.Lock()
_cache: dict[Path, tuple[tuple[int, int] | None, ServiceSettings]] = {}


def service_settings_path() -> Path:
    """Where the file lies; it need not exist."""
    return user_state_dir() / FILE_NAME


def load_service_settings() -> ServiceSettings:
    """The user's prices and limits; read again only when the file has changed.

    Raises:
        ConfigError: the file is not valid; the text names it and the place.
    """
    path = service_settings_path()
    stamp = _stamp(path)
    with _cache_lock:
        known = _cache.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    settings = _read(path)
    with _cache_lock:
        _cache[path] = (stamp, settings)
    return settings


def last_valid_service_settings() -> ServiceSettings:
    """The settings as they were last valid: a slip in the file must not cost a paid reply."""
    try:
        return load_service_settings()
    except ConfigError:
        with _cache_lock:
            known = _cache.get(service_settings_path())
        return known[1] if known is not None else ServiceSettings()


def set_own_price(name: str, price: PriceConfig | None) -> ServiceSettings:
    """Store the user's price of a service (`provider:model`); None removes it.

    Raises:
        ConfigError: the file or the name is not valid, or the file cannot be written.
    """
    return _change("prices", name, price)


def set_own_limits(name: str, limits: LimitConfig | None) -> ServiceSettings:
    """Store the user's limits of a service (`provider:model`); None removes them.

    Raises:
        ConfigError: as `set_own_price`.
    """
    return _change("limits", name, limits)


def with_own_limits(service: ServiceConfig) -> ServiceConfig:
    """The service under the user's own limits, where `pipeline.yaml` sets none.

    Raises:
        ConfigError: the file is not valid; going on could exceed a limit it has.
    """
    own = load_service_settings().limits.get(service.name)
    if own is None:
        return service
    found: dict[str, int | None] = {}
    if service.max_rpm is None:
        found["max_rpm"] = own.max_rpm
    if service.max_tpm is None:
        found["max_tpm"] = own.max_tpm
    if service.concurrency == DEFAULT_CONCURRENCY and own.concurrency is not None:
        found["concurrency"] = own.concurrency
    return service.model_copy(update=found)


def _change(section: str, name: str, value: PriceConfig | LimitConfig | None) -> ServiceSettings:
    path = service_settings_path()
    # Two windows may save at once: the file is read again under the lock, so neither loses a line.
    with FileLock(path.with_suffix(".lock"), timeout=LOCK_TIMEOUT_S):
        data = _read(path).model_dump(mode="json", exclude_none=True)
        if value is None:
            data[section].pop(name, None)
        else:
            data[section][name] = value.model_dump(mode="json", exclude_none=True)
        settings = _validate(data, path)
        filled = {key: items for key, items in data.items() if items}
        _write(path, _HEADER + yaml.safe_dump(filled, sort_keys=False, allow_unicode=True))
    return settings


def _write(path: Path, text: str) -> None:
    """Replace the file at once, so that no reader finds half of it."""
    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=".services-")
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error}); check its folder.") from error


def _read(path: Path) -> ServiceSettings:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ServiceSettings()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text ({error}).") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML; correct it there.") from error
    if data is None:
        return ServiceSettings()
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected `prices:` and `limits:`.")
    return _validate(data, path)


def _validate(data: dict[str, Any], path: Path) -> ServiceSettings:
    try:
        return ServiceSettings.model_validate(data)
    except ValidationError as error:
        problems = [describe_problem(ServiceSettings, item) for item in error.errors()]
        text = f"{path}: " + "; ".join(problems)
        raise ConfigError(text if text.endswith("?") else text + ".") from error


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
