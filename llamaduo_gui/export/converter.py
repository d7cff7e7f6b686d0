"""Exports models of unknown families through the converter of a llama.cpp checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llamaduo_gui.core.causal_lm import load_causal_lm
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import ModelFamily

CHECKOUT_VARIABLE = "LLAMADUO_LLAMA_CPP"
_SCRIPT = "convert_hf_to_gguf.py"
_POLL_S = 0.1
_SHOWN_CHARACTERS = 300
# The folder's own tokeniser files are kept: saving a loaded tokeniser rewrites them.
_COPIED = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt")


def find_converter(family: ModelFamily) -> Path:
    """The converter script of the llama.cpp checkout the user names.

    Raises:
        UserError: none is named, or it has no converter; the text says what to do.
    """
    named = os.environ.get(CHECKOUT_VARIABLE, "")
    if not named:
        raise UserError(
            f"Models of the type {family.name} cannot be exported to GGUF by this program itself; "
            f"set {CHECKOUT_VARIABLE} to the folder of a llama.cpp checkout (git clone "
            "https://github.com/ggml-org/llama.cpp), whose converter is then used, and export "
            "again."
        )
    script = Path(named).expanduser() / _SCRIPT
    if not script.is_file():
        raise UserError(
            f"{CHECKOUT_VARIABLE} names {named}, which has no {_SCRIPT}; name the top folder of a "
            "llama.cpp checkout."
        )
    return script


def convert_student(
    script: Path,
    base: Path,
    adapter: Path | None,
    target: Path,
    *,
    kind: str,
    chat_template: str,
    check_cancelled: Callable[[], None],
) -> None:
    """Merge the adapter into a copy of the base model and hand that to llama.cpp's converter.

    The copy lies beside `target` while it is needed: the converter reads whole model folders.

    Args:
        script: the converter.
        base: folder of the base model (or of a fully fine-tuned one).
        adapter: folder of a LoRA adapter; None for a whole model.
        target: the GGUF to write.
        kind: `F32`, `F16`, `BF16` or `Q8_0`.
        chat_template: Jinja text for the file.
        check_cancelled: raises to stop.

    Raises:
        UserError: the model cannot be merged or converted; the text carries the converter's words.
    """
    with tempfile.TemporaryDirectory(prefix=".merged-", dir=target.parent) as name:
        folder = Path(name)
        _write_merged(base, adapter, folder, chat_template)
        check_cancelled()
        _run(script, folder, target, kind, check_cancelled)


def _write_merged(base: Path, adapter: Path | None, folder: Path, chat_template: str) -> None:
    model = load_causal_lm(base, dtype="auto")
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    model.save_pretrained(folder)
    del model
    for pattern in _COPIED:
        for item in base.glob(pattern):
            if item.is_file():
                shutil.copyfile(item, folder / item.name)
    (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    _drop_template(folder / "tokenizer_config.json")


def _drop_template(path: Path) -> None:
    """Leave the template of chat_template.jinja the only one."""
    if path.is_file():
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config.pop("chat_template", None)
        path.write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")


def _run(
    script: Path, folder: Path, target: Path, kind: str, check_cancelled: Callable[[], None]
) -> None:
    """Run the converter with this Python, or the system's when the program is frozen."""
    python = shutil.which("python3") if getattr(sys, "frozen", False) else sys.executable
    if not python:
        raise UserError("llama.cpp's converter needs Python; install Python 3 and export again.")
    command = [python, str(script), str(folder), "--outfile", str(target), "--outtype"]
    log = folder / "converter.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, kind.lower()],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                check_cancelled()
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    if process.returncode != 0 or not target.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1][-_SHOWN_CHARACTERS:] if lines else "it gave no reason"
        raise UserError(f"llama.cpp's converter could not convert this model: {reason}")
