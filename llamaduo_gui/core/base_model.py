"""Finds the folder of a base model: shipped, named by its path, or from the Hugging Face Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.paths import resources_dir

BUILTIN_PREFIX = "builtin:"

# Weights in safetensors only: other formats are pickles, which run code when they are read.
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
# Sub-folders hold other formats (original/, onnx/), consolidated files the same weights again.
HUB_LEFT_OUT = ("*/*", "consolidated*")


def resolve_base_model(reference: str, revision: str = "main") -> Path:
    """The folder that holds a base model's configuration, tokeniser and safetensors weights.

    Args:
        reference: `builtin:NAME`, a folder, or a Hub id (`organisation/name`); a Hub model is
            downloaded once and then taken from the local cache. HF_HUB_OFFLINE and HF_TOKEN are
            honoured; no code of a repository is run.
        revision: branch, tag or commit of a Hub id; ignored for the others.

    Raises:
        UserError: there is no such model, or the folder does not hold one.
    """
    if reference.startswith(BUILTIN_PREFIX):
        return _checked(_find_builtin(reference), reference)
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return _checked(folder.resolve(), reference)
    if folder.is_file():
        raise UserError(f"The base model {reference} is a file; name the folder it lies in.")
    if _looks_like_path(reference):
        raise UserError(
            f"The base model folder {reference} does not exist; check student.base_model."
        )
    return _checked(_download(reference, revision), reference)


def read_model_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder.

    Raises:
        UserError: it is missing or not a JSON object.
    """
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not a model folder: it has no config.json.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); get the model again.") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} is not a JSON object; get the model again.")
    return data


def _find_builtin(reference: str) -> Path:
    models = resources_dir() / "models"
    name = reference.removeprefix(BUILTIN_PREFIX)
    available = sorted(item.name for item in models.iterdir() if item.is_dir())
    if name not in available:
        shown = ", ".join(BUILTIN_PREFIX + item for item in available)
        raise UserError(f"There is no base model {reference}; the shipped ones are: {shown}.")
    return models / name


def _looks_like_path(reference: str) -> bool:
    return (
        reference.startswith((".", "~", "/", "\\"))
        or "\\" in reference
        or reference.count("/") > 1
        or Path(reference).is_absolute()
    )


def _checked(folder: Path, reference: str) -> Path:
    read_model_config(folder)
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"The base model {reference} has no safetensors weights in {folder}; "
            "choose a model that has them."
        )
    if not (folder / "tokenizer.json").is_file() and not any(folder.glob("tokenizer*")):
        raise UserError(f"The base model {reference} has no tokeniser in {folder}.")
    return folder


def _download(reference: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = snapshot_download(
            reference,
            revision=revision,
            allow_patterns=list(HUB_FILES),
            ignore_patterns=list(HUB_LEFT_OUT),
        )
    except GatedRepoError as error:
        raise UserError(
            f"The base model {reference} asks for its licence to be accepted: accept it on "
            "huggingface.co, set HF_TOKEN, and start again."
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"The base model {reference} has no revision {revision}.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"The base model {reference} is neither a folder nor a model on huggingface.co; "
            "check student.base_model (a private model needs HF_TOKEN)."
        ) from error
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"The base model {reference} is not on this machine and huggingface.co cannot be "
            "reached; connect to the network, unset HF_HUB_OFFLINE, or name a folder."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"The base model {reference} could not be downloaded ({type(error).__name__}); "
            "check the network and the free disk space, then start again."
        ) from error
    return Path(found)
