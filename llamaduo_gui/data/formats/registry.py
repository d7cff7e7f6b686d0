"""Finds the formats: every module of this package that has an `INFO` is one."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import lru_cache

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.data import formats
from llamaduo_gui.data.formats.base import ContainerInfo, RemoteInfo, ShapeInfo


@lru_cache(maxsize=1)
def _all() -> tuple[ShapeInfo | ContainerInfo | RemoteInfo, ...]:
    """Every format. Their libraries are imported when a file is read, so asking is cheap."""
    names = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    modules = [importlib.import_module(f"{formats.__name__}.{name}") for name in names]
    kinds = (ShapeInfo, ContainerInfo, RemoteInfo)
    found = (getattr(module, "INFO", None) for module in modules)
    return tuple(info for info in found if isinstance(info, kinds))


@lru_cache(maxsize=1)
def shapes() -> tuple[ShapeInfo, ...]:
    """Every layout of rows, in the order they are asked."""
    found = (info for info in _all() if isinstance(info, ShapeInfo))
    return tuple(sorted(found, key=lambda info: info.order))


@lru_cache(maxsize=1)
def containers() -> tuple[ContainerInfo, ...]:
    """Every kind of file, in the order they are asked."""
    found = (info for info in _all() if isinstance(info, ContainerInfo))
    return tuple(sorted(found, key=lambda info: info.order))


@lru_cache(maxsize=1)
def remotes() -> tuple[RemoteInfo, ...]:
    """Every place that is no file."""
    return tuple(info for info in _all() if isinstance(info, RemoteInfo))


def remote_of(source: str) -> RemoteInfo | None:
    """The remote place a source's text names, or None for a path."""
    return next((info for info in remotes() if source.startswith(info.prefix)), None)


def find_format(name: str) -> ShapeInfo | ContainerInfo:
    """The layout or kind of file of this name.

    Raises:
        DataError: there is none; the text names the nearest or all.
    """
    known: dict[str, ShapeInfo | ContainerInfo] = {info.name: info for info in shapes()}
    known |= {info.name: info for info in containers()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}."
    raise DataError(f"There is no data format called `{name[:40]}`; {hint}")
