"""Base models of the Hugging Face Hub: search, download with resume, disk use, deletion."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llamaduo_gui.core.base_model import HUB_FILES, HUB_LEFT_OUT
from llamaduo_gui.core.errors import UserError

_SEARCH_LIMIT = 30
# Room beside the files themselves: checkpoints and exports need far more, but later.
_SPARE_BYTES = 200e6
_RESUMED_BYTES = 10_000_000
_SHA256_LENGTH = 64

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class HubModel:
    """One model of a search.

    Attributes:
        gated: its licence has to be accepted on the Hub first.
        parameters: as its safetensors files say, or None.
    """

    id: str
    downloads: int = 0
    gated: bool = False
    parameters: int | None = None

    @property
    def link(self) -> str:
        """Its page."""
        return model_link(self.id)


@dataclass(frozen=True, slots=True)
class CachedModel:
    """One model in the Hub's cache.

    Attributes:
        revision: commit of its newest revision there.
        is_complete: it has weights; an interrupted download has not all of them.
        used_at: seconds since 1970.
    """

    id: str
    revision: str
    size_bytes: int
    used_at: float
    is_complete: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished download: `revision` is the commit to pin."""

    id: str
    revision: str
    folder: str
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    found = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return found.strip().lower() in {"1", "on", "yes", "true"}


def model_link(model_id: str) -> str:
    """The page of a model."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return f"{endpoint.rstrip('/')}/{model_id}"


def search_models(text: str, limit: int = _SEARCH_LIMIT) -> list[HubModel]:
    """Text models with safetensors weights whose id has `text`, most downloaded first.

    Raises:
        UserError: the Hub cannot be asked.
    """
    from huggingface_hub import HfApi

    with _explained(text, "main"):
        found = HfApi().list_models(
            search=text,
            filter=["text-generation", "safetensors"],
            sort="downloads",
            limit=limit,
            expand=["downloads", "gated", "safetensors"],
        )
        return [_hub_model(item) for item in found]


def cached_models() -> list[CachedModel]:
    """Models in the Hub's cache by id; empty where there is no cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = []
    for repo in repos:
        if repo.repo_type != "model" or not repo.revisions:
            continue
        newest = max(repo.revisions, key=lambda item: item.last_modified)
        names = {file.file_name for file in newest.files}
        found.append(
            CachedModel(
                id=repo.repo_id,
                revision=newest.commit_hash,
                size_bytes=repo.size_on_disk,
                used_at=repo.last_accessed,
                is_complete=_has_weights(newest.snapshot_path, names),
            )
        )
    return sorted(found, key=lambda model: model.id.lower())


def delete_model(model_id: str) -> int:
    """Delete all revisions of a model from the Hub's cache; returns the bytes that are freed.

    Raises:
        UserError: it is not there.
    """
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        cache = None
    repos = [item for item in cache.repos if item.repo_id == model_id] if cache else []
    models = [item for item in repos if item.repo_type == "model"]
    if cache is None or not models:
        raise UserError(f"{model_id} is not among the downloaded models.")
    hashes = [revision.commit_hash for item in models for revision in item.revisions]
    plan = cache.delete_revisions(*hashes)
    freed = int(plan.expected_freed_size)
    plan.execute()
    return freed


def download_model(
    model_id: str,
    revision: str = "main",
    *,
    on_progress: OnProgress | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> Downloaded:
    """Download a model's configuration, tokeniser and safetensors weights into the Hub's cache.

    What is there already is not fetched again, and a file that was cut off goes on where it
    stopped. All files are of the one commit that `revision` named at the start.

    Args:
        model_id: `organisation/name`.
        revision: branch, tag or commit.
        on_progress: called with bytes done and in all.
        check_cancelled: called often; what it raises ends the download.

    Raises:
        UserError: there is no such model, its licence is not accepted, it has no safetensors
            weights, the disk is too small, or the Hub cannot be reached.
    """
    # Parts of files are kept in a form that plain HTTP can go on with.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    from huggingface_hub import HfApi, hf_hub_download

    with _explained(model_id, revision):
        info = HfApi().model_info(model_id, revision=revision, files_metadata=True)
        files = _wanted_files(info.siblings or [])
        commit = str(info.sha)
        if not any(name.endswith(".safetensors") for name, _ in files):
            raise UserError(
                f"{model_id} has no safetensors weights; other formats can run code when they "
                "are read. Choose a model that has them."
            )
        total = sum(size for _, size in files)
        meter = _Meter(total, on_progress, check_cancelled)
        _check_room(
            model_id, [size for name, size in files if not _is_here(model_id, name, commit)]
        )
        path = ""
        for name, size in files:
            meter.begin_file()
            if size >= _RESUMED_BYTES:
                _fetch_blob(model_id, name, commit, _bar_class(meter))
            path = hf_hub_download(model_id, name, revision=commit, tqdm_class=_bar_class(meter))
            meter.end_file(size)
    return Downloaded(model_id, commit, str(Path(path).parent), total)


def _fetch_blob(model_id: str, name: str, commit: str, bar: Any) -> None:
    """Put a large file among the cache's blobs, going on with a part that is there.

    WORKAROUND https://github.com/huggingface/huggingface_hub/pull/4228: since then
    hf_hub_download throws the part of an interrupted download away.
    """
    from filelock import FileLock
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(model_id, name, revision=commit)
    meta = get_hf_file_metadata(url)
    if not meta.etag or not meta.size:
        return
    folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=model_id, repo_type="model") / "blobs"
    blob, part = folder / meta.etag, folder / f"{meta.etag}.part"
    if blob.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    headers = build_hf_headers()
    if urlsplit(meta.location).netloc != urlsplit(url).netloc:
        # The token is for the Hub, not for the servers that hold the files.
        headers.pop("authorization", None)
    with FileLock(f"{part}.lock"):
        if blob.exists():
            return
        part.touch()
        with part.open("r+b") as stream:
            have = stream.seek(0, os.SEEK_END)
            if have > meta.size:
                stream.truncate(0)
                have = stream.seek(0)
            http_get(
                meta.location,
                stream,
                resume_size=have,
                headers=headers,
                expected_size=meta.size,
                tqdm_class=bar,
            )
        # The name of a large file's blob is its SHA-256.
        if len(meta.etag) == _SHA256_LENGTH and _sha256(part) != meta.etag:
            part.unlink()
            raise UserError(f"{name} of {model_id} arrived damaged; start the download again.")
        part.replace(blob)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Meter:
    """Adds the bytes of all files up."""

    def __init__(
        self,
        total: int,
        on_progress: OnProgress | None,
        check_cancelled: Callable[[], None] | None,
    ) -> None:
        self._total = total
        self._on_progress = on_progress
        self._check_cancelled = check_cancelled
        self._finished = 0
        self._current = 0

    def begin_file(self) -> None:
        """The next file."""
        self._current = 0
        self.advance(0)

    def advance(self, count: int) -> None:
        """So many more bytes of the file are here."""
        self._current += count
        if self._check_cancelled is not None:
            self._check_cancelled()
        if self._on_progress is not None:
            self._on_progress(min(self._total, self._finished + self._current), self._total)

    def end_file(self, size: int) -> None:
        """The file is complete, whether or not it had to be fetched."""
        self._finished += size
        self._current = 0
        self.advance(0)


def _bar_class(meter: _Meter) -> Any:
    """A progress bar for huggingface_hub that tells a meter and draws nothing."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            settings.pop("name", None)
            super().__init__(*arguments, **{**settings, "disable": True})  # type: ignore[no-untyped-call]
            meter.advance(int(settings.get("initial") or 0))

        def update(self, n: float | None = 1) -> bool:
            meter.advance(int(n or 0))
            return bool(super().update(n))

    return Bar


def _wanted_files(siblings: Sequence[Any]) -> list[tuple[str, int]]:
    """Names and sizes, the small ones first, so that a wrong model is noticed early."""
    found = [
        (str(item.rfilename), int(item.size or 0))
        for item in siblings
        if any(fnmatch.fnmatch(item.rfilename, pattern) for pattern in HUB_FILES)
        and not any(fnmatch.fnmatch(item.rfilename, pattern) for pattern in HUB_LEFT_OUT)
    ]
    return sorted(found, key=lambda item: item[1])


def _is_here(model_id: str, name: str, commit: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model_id, name, revision=commit), str)


def _check_room(model_id: str, sizes: Sequence[int]) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free, needed = shutil.disk_usage(place).free, sum(sizes)
    if sizes and needed + _SPARE_BYTES > free:
        raise UserError(
            f"{model_id} needs {needed / 1e9:.1f} GB on the disk of {place}, which has "
            f"{free / 1e9:.1f} GB free; make room or set HF_HOME to a folder on another disk."
        )


def _has_weights(folder: Path, names: set[str]) -> bool:
    """Whether config and all shards that an index names are there."""
    if "config.json" not in names:
        return False
    shards = {name for name in names if name.endswith(".safetensors")}
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return bool(shards) and not any("-of-" in name for name in shards)
    import json

    try:
        wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return wanted <= shards


def _hub_model(item: Any) -> HubModel:
    weights = getattr(item, "safetensors", None)
    total = getattr(weights, "total", None)
    return HubModel(
        id=str(item.id),
        downloads=int(item.downloads or 0),
        gated=bool(item.gated),
        parameters=int(total) if total else None,
    )


@contextlib.contextmanager
def _explained(model_id: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into sentences."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise UserError(
            f"{model_id} asks for its licence to be accepted: accept it on {model_link(model_id)}, "
            "set HF_TOKEN to a token of your account, and start again."
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{model_id} has no revision {revision}.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"There is no model {model_id} on the Hub, or it is private and HF_TOKEN is not set; "
            "check its name."
        ) from error
    except OfflineModeIsEnabled as error:
        raise UserError(
            "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it, or choose a model that is "
            "on this machine."
        ) from error
    except LocalEntryNotFoundError as error:
        raise UserError(f"{model_id} could not be downloaded; check the network.") from error
    except HfHubHTTPError as error:
        raise UserError(
            f"The Hub did not answer for {model_id} as it should; try again."
        ) from error
    except OSError as error:
        raise UserError(
            f"{model_id} could not be downloaded ({type(error).__name__}); check the network and "
            "start again: what came is kept."
        ) from error
    except Exception as error:
        # httpx's errors, whose package depends on the version of huggingface_hub.
        if type(error).__module__.partition(".")[0] not in {"httpx", "httpx2", "httpcore"}:
            raise
        raise UserError(
            f"The Hub cannot be reached ({type(error).__name__}); check the network and start "
            "again: what came is kept."
        ) from error
