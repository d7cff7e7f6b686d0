"""Loads a language model and its tokeniser with transformers, and says plainly when it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llamaduo_gui.core.chat_templates import set_chat_template
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.ml_libraries import prepare_ml_libraries
from llamaduo_gui.core.model_family import detect_family

_SHOWN_KEYS = 3


def load_causal_lm(folder: Path, **settings: Any) -> Any:
    """The model in `folder`, without running any code the folder may hold.

    Args:
        folder: `config.json` and safetensors weights.
        settings: for `from_pretrained`, such as `dtype`, `quantization_config`, `device_map`.

    Raises:
        UserError: the files are damaged, incomplete or of an unknown kind, or memory does not
            suffice.
    """
    prepare_ml_libraries()
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, **settings
        )
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"The model in {folder} does not fit into the GPU's memory; choose a smaller base "
            "model (or the qlora recipe to train it)."
        ) from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(
            f"The model in {folder} cannot be loaded ({_first_line(error)})."
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills what is missing with random numbers and goes on.
        shown = ", ".join(missing[:_SHOWN_KEYS]) + (", ..." if len(missing) > _SHOWN_KEYS else "")
        raise UserError(f"The model in {folder} lacks weights ({shown}); get it again.")
    return model


def load_tokenizer(folder: Path, trained: Path | None = None) -> Any:
    """The tokeniser in `folder`, with a padding token and a chat template.

    A base model without a chat template gets a shipped one (core/chat_templates.py).

    Args:
        folder: of the base model.
        trained: folder of what was trained on it, whose template then counts.

    Raises:
        UserError: its files are damaged, or it has no token that ends an answer.
    """
    prepare_ml_libraries()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        text = f"The tokeniser in {folder} cannot be loaded ({_first_line(error)})."
        raise UserError(text) from error
    set_chat_template(tokenizer, detect_family(folder), trained)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
