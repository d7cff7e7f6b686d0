"""The folder a training leaves: weights, tokeniser, chat template and how it was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamaduo_gui.core.base_model import read_model_config
from llamaduo_gui.core.chat_templates import TEMPLATE_FILE

NOTE = "training.json"
"""In the folder: the plan's fingerprint, the summary and the resolved recipe."""

# Copied as they are: saving a loaded tokeniser rewrites its files.
_TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "generation_config.json",
)


def write_trained(
    model: Any, base: Path, folder: Path, *, reference: str, lent_template: str = ""
) -> None:
    """Write the adapter or the whole model with its tokeniser to `folder`, made anew.

    Args:
        model: a PEFT model (its adapter is saved) or a whole model.
        base: folder of the base model, whose tokeniser and chat template are copied.
        folder: what `publish` then puts in its place.
        reference: how the user names the base model; written in place of this machine's path.
        lent_template: the chat template it was trained with, if the base model has none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if hasattr(model, "peft_config"):
        # The embeddings are never resized; peft would look for the base model to find that out.
        model.save_pretrained(folder, save_embedding_layers=False)
        _name_base(folder / "adapter_config.json", reference)
    else:
        _save_whole(model, base, folder)
    (folder / "README.md").unlink(missing_ok=True)
    for pattern in _TOKENIZER_FILES:
        for item in base.glob(pattern):
            if item.is_file():
                shutil.copyfile(item, folder / item.name)
    if lent_template:
        (folder / TEMPLATE_FILE).write_text(lent_template, encoding="utf-8")


def publish(folder: Path, target: Path, note: Mapping[str, Any]) -> None:
    """Add the note and put the folder in the place of `target`.

    A crash leaves either no `target` or a complete one.

    Args:
        folder: from `write_trained`, on the same disk.
        target: an older one is replaced.
        note: content of `training.json`.
    """
    text = json.dumps(note, indent=2, ensure_ascii=False)
    (folder / NOTE).write_text(text, encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    folder.replace(target)


def partial_folder(target: Path) -> Path:
    """Where the weights are written before they are complete."""
    return target.with_name(target.name + ".partial")


def read_note(target: Path) -> dict[str, Any] | None:
    """The note of a finished training, None if there is none."""
    try:
        data = json.loads((target / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _name_base(path: Path, reference: str) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = reference
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _save_whole(model: Any, base: Path, folder: Path) -> None:
    """Save in the number format of the base model: training held the weights in fp32."""
    import torch

    stored = read_model_config(base)
    name = str(stored.get("dtype") or stored.get("torch_dtype") or "float32")
    dtype = getattr(torch, name, torch.float32)
    if dtype != torch.float32:
        model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(folder)
