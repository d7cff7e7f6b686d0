"""Finds the folder of a base model that is on this machine already; downloads nothing."""

from __future__ import annotations

from pathlib import Path

from llamaduo_gui.core.base_model import BUILTIN_PREFIX
from llamaduo_gui.core.paths import resources_dir


def find_base_model(reference: str, revision: str = "main") -> Path | None:
    """The folder with the config.json of a base model, or None where it is not here.

    Args:
        reference: `builtin:NAME`, a folder, or a Hub id that is looked up in the Hub's cache.
        revision: branch, tag or commit of a Hub id.
    """
    if reference.startswith(BUILTIN_PREFIX):
        folder = resources_dir() / "models" / reference.removeprefix(BUILTIN_PREFIX)
    else:
        folder = Path(reference).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if reference.startswith(BUILTIN_PREFIX) or reference.count("/") != 1:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(reference, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None
