"""A llama.cpp context: decodes batches of tokens of several sequences, each with its own cache."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from llamaduo_gui.core.errors import LlamaDuoError
from llamaduo_gui.core.llama_library import (
    LlamaModel,
    complaint,
    forget_complaints,
    usable_threads,
)

Float32 = npt.NDArray[np.float32]

_NO_ROOM = 1
_ABORTED = 2
_TYPE_F32 = 0
_NO_FLASH_ATTENTION = 0
_TO_THE_END = -1
# On the CPU, flash attention computes long and short batches in different ways (measured on a 3M
# model in F16: KL to the trainer 3e-6 with it, 9e-7 without, at the same speed), so an answer would
# depend on how its prompt was cut. Beyond this length the memory it saves matters more.
_PLAIN_ATTENTION_TOKENS = 4096
_UNUSED_TOKEN_TYPE = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One token to decode, its position in its sequence, and whether its logits are wanted."""

    token: int
    position: int
    sequence: int = 0
    wants_logits: bool = False


class DecodingStopped(Exception):  # noqa: N818 - asked for, not an error
    """A decode was stopped from outside; the cache may hold a part of its tokens."""


class LlamaContext:
    """The working memory of a model (its key-value cache) and the means to fill it.

    Attributes:
        handle: llama.cpp's pointer to the context.
        length: tokens each sequence can hold.
        sequences: how many can be decoded side by side.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        length: int,
        sequences: int = 1,
        batch_tokens: int = 512,
        is_exact: bool = False,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Make a context.

        Args:
            model: loaded with its weights; must outlive the context.
            length: tokens of each sequence.
            sequences: each has a cache of its own, so that none changes another's numbers.
            batch_tokens: most tokens of one batch.
            is_exact: keep the cache in float32, for comparing numbers with a trainer's.
            should_stop: asked often during a decode, from llama.cpp's thread; True ends it.

        Raises:
            LlamaDuoError: llama.cpp refuses, mostly because memory does not suffice.
        """
        self.library = library = model.library
        self.sequences = sequences
        self._vocab_size = model.vocab_size
        types = model.file.metadata.get("tokenizer.ggml.token_type", [])
        self._unused = np.flatnonzero(np.array(types) == _UNUSED_TOKEN_TYPE)
        self._batch_tokens = max(batch_tokens, sequences)
        params = library.llama_context_default_params()
        params.n_ctx = length * sequences
        params.n_seq_max = sequences
        params.n_batch = params.n_ubatch = self._batch_tokens
        params.n_threads = params.n_threads_batch = usable_threads(model.file.size_bytes)
        params.kv_unified = False
        params.no_perf = True
        if is_exact:
            params.type_k = params.type_v = _TYPE_F32
        if is_exact or (length <= _PLAIN_ATTENTION_TOKENS and not _has_gpu(library)):
            params.flash_attn_type = _NO_FLASH_ATTENTION
        forget_complaints()
        self.handle = library.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise LlamaDuoError(f"llama.cpp cannot make room to answer: {complaint()}")
        self.length: int = library.llama_n_ctx(self.handle) // sequences
        self._memory = library.llama_get_memory(self.handle)
        self._batch = library.llama_batch_init(self._batch_tokens, 0, 1)
        self._callback: Any = None
        if should_stop is not None:
            self._ask_before_each_step(should_stop)

    def decode(self, entries: Sequence[Entry]) -> Float32:
        """Run the model on one batch.

        Returns:
            Logits (entries that want them, vocabulary), valid until the next decode; -inf for
            tokens that only fill the vocabulary up.

        Raises:
            DecodingStopped: `should_stop` said so.
            LlamaDuoError: a cache is full, or llama.cpp failed.
        """
        batch = self._batch
        for index, entry in enumerate(entries):
            batch.token[index] = entry.token
            batch.pos[index] = entry.position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = entry.sequence
            batch.logits[index] = entry.wants_logits
        batch.n_tokens = len(entries)
        status = self.library.llama_decode(self.handle, batch)
        if status == _ABORTED:
            raise DecodingStopped
        if status == _NO_ROOM:
            raise LlamaDuoError("The model's context is full.")
        if status != 0:
            raise LlamaDuoError(f"llama.cpp failed to decode ({status}): {complaint()}")
        wanted = sum(entry.wants_logits for entry in entries)
        if not wanted:
            return np.empty((0, self._vocab_size), np.float32)
        pointer = self.library.llama_get_logits(self.handle)
        logits = np.ctypeslib.as_array(pointer, shape=(wanted, self._vocab_size))
        logits[:, self._unused] = -np.inf
        return logits

    def prefill(self, tokens: Sequence[int], *, start: int = 0, sequence: int = 0) -> Float32:
        """Run the model on a prompt from position `start` on, in as many batches as it takes.

        Returns:
            Logits after the last token (vocabulary,), a copy.
        """
        last = len(tokens) - 1
        logits = np.empty((0, self._vocab_size), np.float32)
        for first in range(0, len(tokens), self._batch_tokens):
            part = tokens[first : first + self._batch_tokens]
            logits = self.decode(
                [
                    Entry(token, start + first + index, sequence, first + index == last)
                    for index, token in enumerate(part)
                ]
            )
        return logits[0].copy()

    def forget(self, sequence: int, start: int = 0) -> None:
        """Drop a sequence's tokens from position `start` on."""
        self.library.llama_memory_seq_rm(self._memory, sequence, start, _TO_THE_END)

    def copy(self, source: int, target: int) -> None:
        """Give `target` the same tokens as `source`."""
        self.forget(target)
        self.library.llama_memory_seq_cp(self._memory, source, target, 0, _TO_THE_END)

    def cached_tokens(self, sequence: int = 0) -> int:
        """How many tokens of a sequence the cache holds."""
        return int(self.library.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def close(self) -> None:
        """Free the context; doing so twice is harmless."""
        if self.handle:
            self.library.llama_batch_free(self._batch)
            self.library.llama_free(self.handle)
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

    def _ask_before_each_step(self, should_stop: Callable[[], bool]) -> None:
        kind = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
        # Kept as long as the context: llama.cpp calls it during every decode.
        self._callback = kind(lambda _data: should_stop())
        self.library.llama_set_abort_callback(self.handle, self._callback, None)


def _has_gpu(library: Any) -> bool:
    return bool(library.llama_supports_gpu_offload())
