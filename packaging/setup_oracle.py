"""Fetches llama.cpp's own converter, which the tests compare the export with.

It is in the source distribution of llama-cpp-python and not in its wheel. pip gets it, so that its
index, proxy and cache settings apply: 5 s from pip's cache, where building llama.cpp left it, or
77 MB of download where a ready-made wheel was installed. Only the converter is kept (2 MB).
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from setup_machine import say

if TYPE_CHECKING:
    from setup_steps import Setup

VARIABLE = "LLAMADUO_LLAMA_CPP"
SCRIPT = "convert_hf_to_gguf.py"
_CHECKOUT = ("vendor", "llama.cpp")
_KEPT = ((SCRIPT,), ("LICENSE",), ("conversion",), ("gguf-py", "gguf"), ("models", "templates"))


def offer_converter(setup: Setup) -> None:
    """Tell the tests where a converter is; without one, those that need it are skipped.

    A checkout that the user names in LLAMADUO_LLAMA_CPP is left alone.
    """
    if os.environ.get(VARIABLE):
        return
    folder = fetch_converter(setup)
    if folder is None:
        say(f"llama.cpp's converter could not be fetched; its tests are skipped (see {setup.log}).")
    else:
        os.environ[VARIABLE] = str(folder)


def fetch_converter(setup: Setup) -> Path | None:
    """Folder with the converter of the installed llama-cpp-python, fetched once; None without."""
    probe = "import importlib.metadata as m; print(m.version('llama-cpp-python'))"
    found = setup.system.run([str(setup.python), "-c", probe])
    version = found.text.strip()
    if not found.is_ok or not version:
        return None
    folder = setup.venv / f"llama.cpp-{version}"
    if (folder / SCRIPT).is_file():
        return folder
    downloads = setup.venv / "llama-source"
    try:
        setup.download_source(f"llama-cpp-python=={version}", downloads)
        archive = next(downloads.glob("*.tar.gz"), None)
        if archive is None:
            return None
        partial = folder.with_name(folder.name + ".part")
        shutil.rmtree(str(partial), ignore_errors=True)
        extract_converter(archive, partial)
        partial.rename(folder)
        return folder
    except (OSError, tarfile.TarError):
        return None
    finally:
        shutil.rmtree(str(downloads), ignore_errors=True)


def extract_converter(archive: Path, folder: Path) -> None:
    """Write the converter's files from a source distribution to `folder`.

    Raises:
        OSError: the archive has no converter, or the folder cannot be written.
        tarfile.TarError: the archive is damaged.
    """
    with tarfile.open(str(archive)) as source:
        for member in source:
            path = _place(member.name)
            if path is None or not member.isfile():
                continue
            content = source.extractfile(member)
            if content is not None:
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
    if not (folder / SCRIPT).is_file():
        raise OSError(f"{archive.name} has no {SCRIPT}")


def _place(name: str) -> Path | None:
    """Where a member of the archive goes, below the checkout; None if it is not kept."""
    parts = PurePosixPath(name).parts[1:]
    inner = parts[len(_CHECKOUT) :]
    if parts[: len(_CHECKOUT)] != _CHECKOUT or ".." in inner:
        return None
    return Path(*inner) if any(inner[: len(kept)] == kept for kept in _KEPT) else None
