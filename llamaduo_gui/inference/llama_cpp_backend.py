"""Answers prompts with a GGUF file through llama.cpp, several at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llamaduo_gui.core.errors import LlamaDuoError
from llamaduo_gui.core.generation_memory import CACHE_SHARE, cache_bytes_per_token
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.core.types import Message
from llamaduo_gui.inference.base import (
    Generation,
    GenerationSettings,
    OnNote,
    OnResult,
    PromptJob,
    ignore_note,
)
from llamaduo_gui.inference.chat_template import ChatTemplate
from llamaduo_gui.inference.llama_context import Entry, Float32, LlamaContext
from llamaduo_gui.inference.token_choice import choose_tokens

SLOTS = 8
# Context lengths are rounded up, so that nearly every call can use the context of the one before.
_LENGTH_STEP = 256


# eq=False: two prompts are the same only if they are one object.
@dataclass(slots=True, eq=False)
class _Prompt:
    """A prompt, the most tokens an answer may have, and the logits after it once it was run."""

    tokens: list[int]
    limit: int
    logits: Float32 | None = None


@dataclass(slots=True)
class _Answer:
    """A response in the making."""

    job: PromptJob
    prompt: _Prompt
    generator: np.random.Generator
    started: float
    tokens: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Slot:
    """A sequence of the context: the prompt its cache begins with, and what it answers now."""

    index: int
    prompt: _Prompt | None = None
    answer: _Answer | None = None

    def entry(self) -> Entry:
        """What the sequence decodes next; a dummy behind its prompt if it is idle."""
        start = len(self.prompt.tokens) if self.prompt else 0
        if self.answer is None:
            return Entry(0, start, self.index, wants_logits=True)
        written = self.answer.tokens
        return Entry(written[-1], start + len(written) - 1, self.index, wants_logits=True)


class LlamaCppBackend:
    """A GGUF file and its batched generation.

    Every batch has the same number of rows, idle ones filled with a dummy token, and each sequence
    has a cache of its own: on the CPU a row's logits then are the same to the last bit whatever
    its neighbours are (measured for F32, F16, BF16, Q8_0 and Q4_K_M), and with its own seed so is
    a response, in any batch and after any interruption.

    Args:
        path: the GGUF file.
        slots: how many responses are written side by side.

    Raises:
        UserError: the file cannot be used, or has no chat template.
    """

    name = "llama_cpp"

    def __init__(self, path: Path, *, slots: int = SLOTS) -> None:
        self._model = LlamaModel(path)
        try:
            self._template = ChatTemplate(self._model)
        except BaseException:
            self._model.close()
            raise
        self._slots = slots
        self._context: LlamaContext | None = None

    @property
    def note(self) -> str:
        """What computes, in words."""
        where = "GPU" if self._model.library.llama_supports_gpu_offload() else "CPU"
        return f"llama.cpp on the {where}, {self._model.file.quant}, {self._slots} side by side"

    def generate(
        self,
        prompts: Sequence[PromptJob],
        settings: GenerationSettings,
        on_result: OnResult,
        check_cancelled: Callable[[], None],
        on_note: OnNote = ignore_note,
    ) -> None:
        """Answer every prompt; see `Backend.generate`."""
        waiting = self._plan(prompts, settings, on_result)
        if not waiting:
            return
        longest = max(len(prompt.tokens) + prompt.limit for prompt, _ in waiting)
        context = self._context_for(longest)
        if context.sequences < self._slots:
            on_note(
                f"Memory suffices for {context.sequences} responses of {longest} tokens side by "
                f"side instead of {self._slots}."
            )
        slots = [_Slot(index) for index in range(context.sequences)]
        try:
            while waiting or any(slot.answer for slot in slots):
                for slot in slots:
                    while slot.answer is None and waiting:
                        check_cancelled()
                        logits = self._begin(context, slots, slot, *waiting.popleft())
                        self._continue([slot], logits, settings, on_result)
                check_cancelled()
                self._step(context, slots, settings, on_result)
        finally:
            for slot in slots:
                context.forget(slot.index)

    def encode_prompt(self, messages: Iterable[Message]) -> list[int]:
        """Token ids of a conversation up to where the assistant's answer begins."""
        return self._model.tokenize(self._template.render(messages))

    def close(self) -> None:
        """Give the memory back."""
        if self._context is not None:
            self._context.close()
            self._context = None
        self._model.close()

    def _plan(
        self, prompts: Sequence[PromptJob], settings: GenerationSettings, on_result: OnResult
    ) -> deque[tuple[_Prompt, PromptJob]]:
        """Jobs with their prompts, samples of one prompt together, longest prompts first."""
        by_messages: dict[tuple[Message, ...], list[PromptJob]] = {}
        for job in prompts:
            by_messages.setdefault(job.messages, []).append(job)
        context_length = self._model.file.context_length
        planned = []
        for messages, jobs in by_messages.items():
            tokens = self.encode_prompt(messages)
            limit = min(settings.max_new_tokens, context_length - len(tokens))
            if limit > 0:
                planned.append((_Prompt(tokens, limit), jobs))
                continue
            text = (
                f"The prompt has {len(tokens)} tokens, the model's context {context_length}: "
                "there is no room for an answer."
            )
            for job in jobs:
                on_result(job, Generation("", len(tokens), 0, "error", 0.0, text))
        planned.sort(key=lambda item: -len(item[0].tokens))
        return deque((prompt, job) for prompt, jobs in planned for job in jobs)

    def _context_for(self, length: int) -> LlamaContext:
        """A context whose sequences hold `length` tokens; the last one if it is long enough."""
        if self._context is not None:
            if self._context.length >= length:
                return self._context
            self._context.close()
            self._context = None
        rounded = -(-length // _LENGTH_STEP) * _LENGTH_STEP
        slots = max(1, min(self._slots, self._slots_that_fit(rounded)))
        while True:
            try:
                self._context = LlamaContext(self._model, length=rounded, sequences=slots)
                return self._context
            except LlamaDuoError:
                # A GPU's memory is not asked about beforehand.
                if slots == 1:
                    raise
                slots //= 2

    def _slots_that_fit(self, length: int) -> int:
        """Sequences whose caches fit into a share of the free memory."""
        import psutil

        metadata, prefix = self._model.file.metadata, self._model.file.architecture
        heads = metadata[f"{prefix}.attention.head_count"]
        kv_heads = metadata.get(f"{prefix}.attention.head_count_kv", heads)
        width = metadata.get(
            f"{prefix}.attention.key_length", metadata[f"{prefix}.embedding_length"] // heads
        )
        per_token = cache_bytes_per_token(metadata[f"{prefix}.block_count"], kv_heads * width)
        return int(psutil.virtual_memory().available * CACHE_SHARE / (per_token * length))

    def _begin(
        self,
        context: LlamaContext,
        slots: Sequence[_Slot],
        slot: _Slot,
        prompt: _Prompt,
        job: PromptJob,
    ) -> Float32:
        """Give a free slot a job; a prompt that some slot's cache holds is not run again.

        Returns:
            Logits of the answer's first token (1, vocabulary).
        """
        generator = np.random.default_rng(job.seed)
        slot.answer = _Answer(job, prompt, generator, started=time.monotonic())
        source = next((item for item in slots if item.prompt is prompt), None)
        if source is None or prompt.logits is None:
            context.forget(slot.index)
            prompt.logits = context.prefill(prompt.tokens, sequence=slot.index)
        elif source is not slot:
            context.copy(source.index, slot.index)
        context.forget(slot.index, len(prompt.tokens))
        slot.prompt = prompt
        return prompt.logits[None]

    def _step(
        self,
        context: LlamaContext,
        slots: Sequence[_Slot],
        settings: GenerationSettings,
        on_result: OnResult,
    ) -> None:
        """Write one more token of every response."""
        busy = [slot for slot in slots if slot.answer is not None]
        if not busy:
            return
        for slot in slots:
            if slot.answer is None:
                # The prompt stays in an idle sequence: a later job may share it.
                context.forget(slot.index, slot.entry().position)
        logits = context.decode([slot.entry() for slot in slots])
        self._continue(busy, logits[[slot.index for slot in busy]], settings, on_result)

    def _continue(
        self,
        slots: Sequence[_Slot],
        logits: Float32,
        settings: GenerationSettings,
        on_result: OnResult,
    ) -> None:
        """Append the next token of each slot's answer, and report the answers it completes."""
        answers = [slot.answer for slot in slots if slot.answer is not None]
        tokens = choose_tokens(
            logits,
            [answer.generator for answer in answers],
            temperature=settings.temperature,
            top_p=settings.top_p,
        )
        for slot, answer, token in zip(slots, answers, tokens, strict=True):
            answer.tokens.append(token)
            has_stopped = self._model.ends_answer(token)
            if has_stopped or len(answer.tokens) == answer.prompt.limit:
                slot.answer = None
                on_result(answer.job, self._finish(answer, has_stopped=has_stopped))

    def _finish(self, answer: _Answer, *, has_stopped: bool) -> Generation:
        written = answer.tokens[:-1] if has_stopped else answer.tokens
        text = b"".join(self._model.piece(token) for token in written)
        return Generation(
            text=text.decode("utf-8", errors="replace").strip(),
            prompt_tokens=len(answer.prompt.tokens),
            completion_tokens=len(answer.tokens),
            finish_reason="stop" if has_stopped else "length",
            seconds=time.monotonic() - answer.started,
        )
