"""Loads GGUF files through llama.cpp for their vocabulary and weights, and tames its log.

Built on the C functions: llama-cpp-python's `Llama` class silences the library by pointing the file
descriptors 1 and 2 at /dev/null for a while, and a child process's events go through descriptor 1.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.gguf_file import GgufFile, check_gguf
from llamaduo_gui.core.text_rules import TextRules

logger = logging.getLogger("llama.cpp")

# ggml_log_level
_ERROR = 4
_CONTINUES = 5
_BYTES_PER_EXTRA_THREAD = 32_000_000
_ALL_LAYERS = 999

_route: dict[str, Any] = {}
_errors: list[str] = []
_listeners: list[Callable[[str], None]] = []


def load_library() -> Any:
    """The `llama_cpp` package, with its log sent to Python's logging instead of to the terminal.

    All of it becomes debug lines. Errors too: those that matter are raised by whoever called, with
    `complaint` as the cause, and the others are what llama.cpp says when it is told to stop.

    Raises:
        UserError: the package is not installed or cannot be loaded.
    """
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            "llama-cpp-python is not installed or does not load here; run packaging/bootstrap.py "
            f"again ({error})."
        ) from error
    if not _route:
        # The callback object must outlive every call into the library: it is kept for good.
        _route["callback"] = llama_cpp.llama_log_callback(_receive)
        llama_cpp.llama_log_set(_route["callback"], ctypes.c_void_p(0))
    return llama_cpp


def forget_complaints() -> None:
    """Begin a new operation, whose failure `complaint` is to explain."""
    _errors.clear()


def complaint() -> str:
    """What llama.cpp gave as the cause of a failure: the first error it logged.

    Later ones only say which of its functions gave up. The function's name is left out.
    """
    return re.sub(r"^\w+: ", "", _errors[0]).rstrip(".") if _errors else "it gave no reason"


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Hand every line llama.cpp logs to `listener` as well; what it raises is lost in C."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def usable_threads(model_bytes: int | None = None) -> int:
    """How many threads llama.cpp should use: the physical cores this process may run on.

    Args:
        model_bytes: size of the model that is to answer. llama.cpp's threads wait for one another
            by spinning: for a model of a few megabytes that costs more than it gains (3 MB, two
            busy cores: 4,000 tokens/s with one thread, 50 with two).
    """
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = max(1, min(allowed or 1, psutil.cpu_count(logical=False) or 1))
    if model_bytes is None:
        return cores
    return min(cores, 1 + model_bytes // _BYTES_PER_EXTRA_THREAD)


def _receive(level: int, text: bytes, _data: object) -> None:
    if level == _CONTINUES:
        return
    line = text.decode("utf-8", errors="replace").strip()
    if level == _ERROR:
        _errors.append(line)
    for listener in tuple(_listeners):
        listener(line)
    logger.debug("%s", line)


class LlamaModel:
    """A GGUF file loaded by llama.cpp: its vocabulary and, unless `vocab_only`, its weights.

    Attributes:
        file: the header of the GGUF.
        handle: llama.cpp's pointer to the model.
        vocab: llama.cpp's pointer to the vocabulary.
    """

    def __init__(self, path: Path, *, vocab_only: bool = False) -> None:
        """Load the file; weights are mapped, not copied, and go to a GPU if the build has one.

        Raises:
            UserError: the file is not a whole GGUF, or llama.cpp cannot run it.
        """
        self.file: GgufFile = check_gguf(path)
        self.library = load_library()
        self.library.llama_backend_init()
        params = self.library.llama_model_default_params()
        params.vocab_only = vocab_only
        params.n_gpu_layers = _ALL_LAYERS if self.library.llama_supports_gpu_offload() else 0
        forget_complaints()
        self.handle = self.library.llama_model_load_from_file(os.fsencode(path), params)
        if not self.handle:
            raise UserError(f"llama.cpp cannot load {path.name}: {complaint()}.")
        self.vocab = self.library.llama_model_get_vocab(self.handle)
        self.vocab_size: int = self.library.llama_vocab_n_tokens(self.vocab)
        self._rules = TextRules(self.file.metadata)

    def tokenize(self, text: str, *, adds_ends: bool = False) -> list[int]:
        """Token ids of a text whose special tokens are spelled out.

        Args:
            text: nothing is added around it, unless
            adds_ends: bos and eos are put around it where the file says so, as other programs do.
        """
        prepared = self._rules.apply(text)
        return self._tokenize(prepared, adds_ends=adds_ends) if prepared else []

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; empty for control tokens. May be part of a character."""
        buffer = ctypes.create_string_buffer(64)
        length = self.library.llama_token_to_piece(self.vocab, token, buffer, 64, 0, False)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = self.library.llama_token_to_piece(self.vocab, token, buffer, -length, 0, False)
        return buffer.raw[:length]

    def ends_answer(self, token: int) -> bool:
        """Whether the token is one of those that end an answer."""
        return bool(self.library.llama_vocab_is_eog(self.vocab, token))

    def special_text(self, role: str) -> str:
        """Text of a special token (`bos`, `eos`), empty if the file names none."""
        index = self.file.metadata.get(f"tokenizer.ggml.{role}_token_id")
        tokens = self.file.metadata.get("tokenizer.ggml.tokens", [])
        return str(tokens[index]) if isinstance(index, int) and index < len(tokens) else ""

    def close(self) -> None:
        """Free the model; using it afterwards is an error."""
        if self.handle:
            self.library.llama_model_free(self.handle)
            self.handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _tokenize(self, text: str, *, adds_ends: bool) -> list[int]:
        data = text.encode("utf-8", errors="replace")
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        count = self.library.llama_tokenize(
            self.vocab, data, len(data), tokens, room, adds_ends, True
        )
        if count < 0:
            raise LlamaDuoError("llama.cpp made more tokens than the text has bytes.")
        return list(tokens[:count])
