"""Datasets of the Hugging Face Hub, and local dataset folders, through the `datasets` library.

A source reads `hub:ID@REVISION#CONFIG/SPLIT`; all but the identifier may be left out. HF_HOME,
HF_TOKEN and HF_HUB_OFFLINE count as the libraries define them. Rows are streamed; offline they
come from the local cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.ml_libraries import prepare_ml_libraries
from llamaduo_gui.data.formats.base import RawRow, RemoteInfo

_FORM = re.compile(
    r"(?P<id>[^@#]+)(?:@(?P<revision>[^@#]+))?(?:#(?:(?P<config>[^/#]+)/)?(?P<split>[^/#]+))?"
)
_MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti", "Mesh")
_SPLITS = ("train", "train_sft")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class HubDataset:
    """Which rows are meant: a dataset (or folder), its revision, configuration and split."""

    identifier: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder on this computer."""
        return Path(self.identifier).expanduser().is_dir()


def parse_name(text: str) -> HubDataset:
    """Read `ID@REVISION#CONFIG/SPLIT`.

    Raises:
        DataError: it is not of this form.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise DataError(
            f"`hub:{text[:80]}` does not name a dataset; write hub:OWNER/NAME@REVISION, and "
            "#SPLIT or #CONFIG/SPLIT behind it where there are several."
        )
    return HubDataset(match["id"], match["revision"], match["config"], match["split"])


def _rows(text: str) -> Iterator[RawRow]:
    name = parse_name(text)
    prepare_ml_libraries()
    # 0.7 s and its progress bars: only in the command line's and the worker's process.
    import datasets
    from huggingface_hub import errors

    datasets.disable_progress_bars()
    # The HTTP library's own root, which changed its package from one version to the next.
    http_error: type[Exception] = getattr(errors, "HTTPError", OSError)
    failures = (datasets.exceptions.DatasetsError, OSError, ValueError, http_error)
    try:
        rows = _choose_split(_load(datasets, name), name)
        for number, row in enumerate(rows, start=1):
            yield RawRow(number, row)
    except DataError:
        raise
    except failures as error:
        raise DataError(_explain(error, name)) from error


def _load(datasets: Any, name: HubDataset) -> Any:
    if name.is_folder:
        folder = Path(name.identifier).expanduser()
        if any((folder / mark).is_file() for mark in ("dataset_dict.json", "state.json")):
            return datasets.load_from_disk(str(folder))
        return datasets.load_dataset(str(folder), name.config, streaming=True)
    return datasets.load_dataset(
        name.identifier,
        name.config,
        revision=name.revision,
        # What is in the cache already can be read without a network, but not streamed.
        streaming=not datasets.config.HF_HUB_OFFLINE,
    )


def _choose_split(loaded: Any, name: HubDataset) -> Any:
    """The rows of the split that is named, or of the only one, or of the training split."""
    if isinstance(loaded, Mapping):
        wanted = [name.split] if name.split else [s for s in _SPLITS if s in loaded]
        if not wanted and len(loaded) == 1:
            wanted = list(loaded)
        if not wanted or wanted[0] not in loaded:
            problem = f"no split `{name.split}`" if name.split else "several splits"
            listed = ", ".join(list(loaded)[:_SHOWN])
            raise DataError(
                f"{name.identifier} has {problem}; name one of {listed} as "
                f"hub:{name.identifier}#SPLIT."
            )
        loaded = loaded[wanted[0]]
    features = loaded.features or {}
    media = [key for key, kind in features.items() if type(kind).__name__ in _MEDIA]
    return loaded.remove_columns(media) if media else loaded


def _explain(error: Exception, name: HubDataset) -> str:
    """One sentence for what went wrong; never holds the token."""
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    chain = _causes(error)
    text = " ".join(str(item) for item in chain)
    shown = name.identifier + (f"@{name.revision}" if name.revision else "")
    has_token = bool(os.environ.get("HF_TOKEN"))
    if any(isinstance(item, GatedRepoError) for item in chain) or "gated" in text.lower():
        step = "ask for access on its page" + ("" if has_token else " and set HF_TOKEN")
        return f"{shown} is gated: {step}."
    if any(isinstance(item, RevisionNotFoundError) for item in chain):
        return f"{name.identifier} has no revision `{name.revision}`; check it on its page."
    if any(type(item).__name__ == "OfflineModeIsEnabled" for item in chain) or _is_offline():
        return (
            f"{shown} is not in the cache and HF_HUB_OFFLINE forbids the network; unset it, or "
            "fetch the dataset first."
        )
    if any(type(item).__name__ == "DataFilesNotFoundError" for item in chain):
        return f"{shown} holds no data files that can be read."
    if any(type(item).__name__ == "DatasetNotFoundError" for item in chain):
        step = "check the name" if has_token else "check the name, or set HF_TOKEN if it is private"
        return f"{shown} does not exist on the Hub; {step}."
    if any("Connect" in type(item).__name__ or "Timeout" in type(item).__name__ for item in chain):
        return f"The Hub cannot be reached for {shown}; check the network and try again."
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    token = os.environ.get("HF_TOKEN") or "\0"
    return f"{shown} cannot be read ({first.replace(token, '[token]')[:300]})."


def _is_offline() -> bool:
    from datasets import config

    return bool(config.HF_HUB_OFFLINE)


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    item: BaseException | None = error
    while item is not None and item not in found:
        found.append(item)
        item = item.__cause__ or item.__context__
    return found


def _note(text: str) -> str:
    name = parse_name(text)
    if name.revision or name.is_folder:
        return ""
    return f"{name.identifier} was named without a revision: a later import may give other rows."


INFO = RemoteInfo("hub", "Hugging Face dataset", "hub:", _rows, _note)
