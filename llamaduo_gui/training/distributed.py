"""Trains with several processes (GPUs, machines) through `accelerate launch`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from llamaduo_gui.core.errors import ConfigError, LlamaDuoError, UserError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.ml_libraries import visible_gpus
from llamaduo_gui.training.dataset import EncodedSet, Example
from llamaduo_gui.training.reporting import TrainingSink, replay

SPEC = "launch.json"
STOP = "stop-requested"
_UNSUPPORTED = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TPU", "XLA")
_CANCEL_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Launch:
    """How `accelerate launch` is called.

    Attributes:
        processes: of all machines together.
        arguments: for `accelerate launch`, before the module.
        gpus: indices of this machine's GPUs, empty to leave the environment alone.
    """

    processes: int
    arguments: tuple[str, ...]
    gpus: tuple[str, ...] = ()


def plan_launch(config: str) -> Launch | None:
    """The launch that a config file of accelerate, or else the visible GPUs, ask for.

    Returns:
        None where one process is enough.

    Raises:
        ConfigError: the file cannot be read, or shards the model, which is not supported.
    """
    gpus = tuple(visible_gpus())
    if not config:
        if len(gpus) < 2:
            return None
        count = str(len(gpus))
        arguments = ("--multi_gpu", "--num_processes", count, "--num_machines", "1")
        return Launch(len(gpus), (*arguments, "--dynamo_backend", "no"), gpus)
    path = Path(config).expanduser()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        processes = int(data.get("num_processes", 1))
        kind = str(data.get("distributed_type", "NO")).upper()
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"The accelerate configuration {path} cannot be read; write one with "
            "`accelerate config`."
        ) from error
    if kind in _UNSUPPORTED:
        raise ConfigError(
            f"The accelerate configuration {path} has distributed_type {kind}, which splits the "
            "model; only MULTI_GPU, a whole model on each GPU, is supported: set that, and use "
            "the qlora recipe where memory is short."
        )
    if processes < 2:
        return None
    return Launch(processes, ("--config_file", str(path.resolve())), gpus)


def write_examples(path: Path, encoded: EncodedSet) -> None:
    """Write token ids and labels as flat arrays, for every process to read."""
    lengths = [len(example.input_ids) for example in encoded.examples]
    ids = [token for example in encoded.examples for token in example.input_ids]
    labels = [label for example in encoded.examples for label in example.labels]
    np.savez(
        path,
        lengths=np.asarray(lengths, np.int64),
        input_ids=np.asarray(ids, np.int64),
        labels=np.asarray(labels, np.int64),
    )


def read_examples(path: Path) -> EncodedSet:
    """Undo `write_examples`."""
    with np.load(path, allow_pickle=False) as data:
        ends = np.cumsum(data["lengths"])[:-1]
        pairs = zip(np.split(data["input_ids"], ends), np.split(data["labels"], ends), strict=True)
        found = [Example(ids.tolist(), labels.tolist()) for ids, labels in pairs]
    return EncodedSet(examples=[example for example in found if example.input_ids])


def run_launch(
    launch: Launch, spec: Mapping[str, Any], folder: Path, sink: TrainingSink, context: JobContext
) -> dict[str, Any]:
    """Train in processes of their own and wait for them.

    Args:
        launch: how to start them.
        spec: what `training.launch` needs, JSON-able, without secrets.
        folder: of the checkpoints; the spec is written there.
        sink: takes what the first process reports.
        context: a request to stop is passed on; the processes then save a checkpoint.

    Returns:
        What the first process says at the end.

    Raises:
        UserError: a process ran out of memory or found something the user can put right.
        LlamaDuoError: a process ended otherwise.
    """
    path = folder / SPEC
    path.write_text(json.dumps(spec), encoding="utf-8")
    (folder / STOP).unlink(missing_ok=True)
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch.arguments]
    command += ["--module", "llamaduo_gui.training.launch", str(path)]
    environment = dict(os.environ)
    if launch.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(launch.gpus)
    outcome: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
        ) as process,
        _stop_on_cancel(process, folder / STOP, context),
    ):
        for line in process.stdout or ():
            said = replay(line, sink)
            if said is not None and said["call"] == "outcome":
                outcome = said
            elif said is not None and said["call"] == "failure":
                failure = failure or said
    if failure is not None:
        raise _as_error(failure)
    if outcome is None:
        raise LlamaDuoError(
            f"The training processes ended with exit code {process.returncode}; the log has their "
            "messages. Resume goes on from the last complete checkpoint."
        )
    return outcome


@contextmanager
def _stop_on_cancel(
    process: subprocess.Popen[str], marker: Path, context: JobContext
) -> Iterator[None]:
    """Make `marker` when the user asks to stop; the processes look for it after each step."""

    def watch() -> None:
        while process.poll() is None:
            if context.cancel_requested.wait(_CANCEL_POLL_S):
                marker.touch()
                return

    thread = threading.Thread(target=watch, name="training-stop")
    thread.start()
    try:
        yield
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()
        thread.join()


def _as_error(failure: Mapping[str, Any]) -> LlamaDuoError:
    detail = dict(failure.get("detail") or {})
    if detail.get("kind") == "out_of_memory":
        from llamaduo_gui.training.out_of_memory import OutOfMemoryError

        return OutOfMemoryError(str(failure["text"]), detail)
    if failure.get("is_user_error"):
        return UserError(str(failure["text"]))
    return LlamaDuoError(f"A training process failed: {failure['text']}.")
