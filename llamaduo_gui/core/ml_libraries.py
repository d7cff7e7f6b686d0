"""Settings every process that trains or generates makes once, before the heavy libraries load."""

from __future__ import annotations

import logging
import os

_LOGGERS = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "huggingface_hub",
    "peft",
    "torch",
    "transformers",
    "trl",
)

_CHOSEN_HERE = "LLAMADUO_CHOSE_GPU"
"""Set when the one visible GPU was chosen here and not by the user."""


def prepare_ml_libraries() -> None:
    """Keep libraries quiet, off the network for telemetry, and on one GPU.

    Standard output of the child process is the event channel, so nothing else may write there:
    progress bars are off, loggers say warnings only, on standard error. Call it before torch,
    transformers or huggingface_hub is imported; calling it again changes nothing.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # OpenMP threads spin while they wait for each other. With the window, or anything else, on the
    # same cores that was measured to make a tiny model 20 times slower; asleep they cost nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The application has one GPU slot, and TRL refuses to train when it sees several cards.
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = "0"
        os.environ[_CHOSEN_HERE] = "1"
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)


def visible_gpus() -> list[str]:
    """NVIDIA GPUs that a training with several processes may use, as CUDA_VISIBLE_DEVICES has them.

    All of the machine's where the user chose none.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and _CHOSEN_HERE not in os.environ:
        return [item for item in (part.strip() for part in chosen.split(",")) if item]
    from llamaduo_gui.core.machine import read_gpus

    return [str(gpu.index) for gpu in read_gpus()]
