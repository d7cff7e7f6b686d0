"""Answers prompts with a model in the Hugging Face format: base, base plus adapter, or full."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from llamaduo_gui.core.causal_lm import load_causal_lm, load_tokenizer
from llamaduo_gui.core.chat_templates import tokenizer_has_system_role
from llamaduo_gui.core.conversation import fit_turns
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.four_bit import round_linear_layers
from llamaduo_gui.core.generation_memory import BatchLimits, cache_bytes_per_token, fitting_batch
from llamaduo_gui.core.model_family import ModelFamily, detect_family, stop_token_ids
from llamaduo_gui.core.types import Message
from llamaduo_gui.inference.base import (
    Generation,
    GenerationSettings,
    OnNote,
    OnResult,
    PromptJob,
    ignore_note,
)
from llamaduo_gui.inference.batching import PromptGroup, plan_batches
from llamaduo_gui.inference.sampling import pick_tokens

# Beyond these a device gets no faster, and answers come late.
_MOST_ROWS = {"cpu": 64, "cuda": 512}
_CPU_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")


@dataclass(slots=True)
class _Row:
    """One response in the making, with its own random stream."""

    group: PromptGroup
    job: PromptJob
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)
    is_done: bool = False


@dataclass(slots=True)
class _BatchState:
    """Where the generation of a batch stands.

    Attributes:
        logits: of the next token (rows, vocabulary).
        cache: keys and values.
        mask: 1 for real tokens (rows, tokens so far); prompts are padded on the left.
        positions: of the last token (rows,).
    """

    rows: list[_Row]
    logits: torch.Tensor
    cache: Any
    mask: torch.Tensor
    positions: torch.Tensor

    def select(self, indices: torch.Tensor) -> None:
        """Take these rows of the tensors, in this order; an index may come several times."""
        self.cache.batch_select_indices(indices)
        self.logits = self.logits[indices]
        self.mask = self.mask[indices]
        self.positions = self.positions[indices]

    def keep(self, indices: torch.Tensor) -> None:
        """Drop all other rows."""
        self.select(indices)
        self.rows = [self.rows[index] for index in indices.tolist()]


class TransformersBackend:
    """A model loaded with transformers, and its batched generation.

    Every row draws from its own seed, so the text of a response does not depend on the batch it
    is in, nor on what was answered before an interruption. That holds exactly where the logits
    do: in fp32 they differ between batches in the seventh digit; in bf16 on a GPU a near-tie
    can fall the other way.

    Args:
        model: of transformers or peft, in evaluation mode.
        tokenizer: with a chat template.
        family: of the model.
        token_budget: tokens of one batch, prompts and answers; None to fit the free memory.
        max_rows: responses of one batch; None to fit the device.
    """

    name = "transformers"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        family: ModelFamily,
        *,
        token_budget: int | None = None,
        max_rows: int | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._family = family
        self._has_system_role = tokenizer_has_system_role(tokenizer, family.template_arguments)
        self._device = next(model.parameters()).device
        declared = getattr(model.generation_config, "eos_token_id", None)
        self._stop_ids = stop_token_ids(tokenizer, family, declared)
        self._context_length = int(model.config.get_text_config().max_position_embeddings)
        fitting = _fit_batch(model, self._device)
        self._max_rows = max_rows or fitting.rows
        self._token_budget = token_budget or fitting.tokens

    @classmethod
    def load(
        cls,
        base: Path,
        adapter: Path | None = None,
        *,
        token_budget: int | None = None,
        max_rows: int | None = None,
        dtype: str = "auto",
    ) -> TransformersBackend:
        """Load a model folder, with a LoRA adapter kept apart from its weights if one is given.

        Args:
            base: the model's folder.
            adapter: the adapter's folder.
            token_budget: see the class.
            max_rows: see the class.
            dtype: number format of the weights; auto chooses by device.

        Raises:
            UserError: a file is missing or damaged, or memory does not suffice.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        tokenizer = load_tokenizer(base, adapter)
        model = load_causal_lm(base, dtype=_choose_dtype(device, dtype))
        if adapter is not None:
            model = _add_adapter(model, adapter)
        try:
            model = model.to(device).eval()
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"The model in {base} does not fit into the GPU's memory; export it to GGUF and "
                "use the llama_cpp backend, or choose a smaller base model."
            ) from error
        return cls(
            model, tokenizer, detect_family(base), token_budget=token_budget, max_rows=max_rows
        )

    def generate(
        self,
        prompts: Sequence[PromptJob],
        settings: GenerationSettings,
        on_result: OnResult,
        check_cancelled: Callable[[], None],
        on_note: OnNote = ignore_note,
    ) -> None:
        """Answer every prompt; see `Backend.generate`."""
        groups = self._group(prompts, settings, on_result)
        while groups:
            done: set[tuple[int, int]] = set()

            def report(job: PromptJob, found: Generation, done: Any = done) -> None:
                done.add((job.record_id, job.sample))
                on_result(job, found)

            batch: list[PromptGroup] = []
            try:
                for batch in self._plan(groups):
                    self._answer(batch, settings, report, check_cancelled)
                return
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._shrink(batch, error, on_note)
            # Outside of the handler: the error holds the tensors of the batch until then.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            groups = _without(groups, done)

    def _plan(self, groups: Sequence[PromptGroup]) -> Iterable[list[PromptGroup]]:
        return plan_batches(groups, token_budget=self._token_budget, max_rows=self._max_rows)

    def _shrink(self, batch: Sequence[PromptGroup], error: Exception, on_note: OnNote) -> None:
        """Halve the token budget, for good, after a batch that did not fit.

        Raises:
            UserError: it was a single response.
        """
        rows = sum(len(group.jobs) for group in batch)
        length = max(len(group.input_ids) + group.limit for group in batch)
        if rows == 1:
            raise UserError(
                f"Memory does not suffice for a single response of {length} tokens; lower "
                "inference.max_new_tokens or set inference.backend to llama_cpp."
            ) from error
        self._token_budget = rows * length // 2
        on_note(
            f"A batch of {rows} responses of {length} tokens did not fit into memory: from now on "
            f"a batch has at most {self._token_budget:,} tokens."
        )

    def close(self) -> None:
        """Give the model's memory back."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def encode_prompt(self, messages: Iterable[Message]) -> list[int]:
        """Token ids of a conversation up to where the assistant's answer begins."""
        turns = fit_turns(messages, has_system_role=self._has_system_role)
        ids: list[int] = self._tokenizer.apply_chat_template(
            turns,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **self._family.template_arguments,
        )
        return list(ids)

    def encode_text(self, text: str, *, adds_ends: bool = False) -> list[int]:
        """Token ids of plain text, with what the tokeniser puts around it if `adds_ends`."""
        return list(self._tokenizer(text, add_special_tokens=adds_ends)["input_ids"])

    @property
    def note(self) -> str:
        """What computes, in words."""
        where = "CPU" if self._device.type == "cpu" else torch.cuda.get_device_name(self._device)
        return f"transformers on the {where} in {self.dtype_name}"

    def round_base_to_4_bits(self, dtype: str) -> None:
        """Compute with the base weights a QLoRA adapter was trained on (core/four_bit.py)."""
        round_linear_layers(self._model, dtype)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        return tuple(self._stop_ids)

    @property
    def dtype_name(self) -> str:
        """Number format of the weights, such as `float32`."""
        return str(next(self._model.parameters()).dtype).removeprefix("torch.")

    @property
    def context_length(self) -> int:
        """The longest sequence in tokens."""
        return self._context_length

    @torch.inference_mode()
    def next_token_logits(self, ids: Sequence[int], count: int) -> npt.NDArray[np.float32]:
        """Logits (count, tokens of the tokeniser) after each of the last `count` tokens."""
        inputs = torch.tensor([list(ids)], device=self._device)
        logits = self._model(input_ids=inputs, logits_to_keep=count).logits[0]
        found: npt.NDArray[np.float32] = logits[:, : len(self._tokenizer)].float().cpu().numpy()
        return found

    def _group(
        self, prompts: Sequence[PromptJob], settings: GenerationSettings, on_result: OnResult
    ) -> list[PromptGroup]:
        """Put samples of one prompt together; report prompts that fill the context as errors."""
        by_messages: dict[tuple[Message, ...], list[PromptJob]] = {}
        for job in prompts:
            by_messages.setdefault(job.messages, []).append(job)
        groups = []
        for messages, jobs in by_messages.items():
            ids = self.encode_prompt(messages)
            limit = min(settings.max_new_tokens, self._context_length - len(ids))
            if limit > 0:
                groups.append(PromptGroup(ids, tuple(jobs), limit))
                continue
            text = (
                f"The prompt has {len(ids)} tokens, the model's context {self._context_length}: "
                "there is no room for an answer."
            )
            for job in jobs:
                on_result(job, Generation("", len(ids), 0, "error", 0.0, text))
        return groups

    @torch.inference_mode()
    def _answer(
        self,
        groups: Sequence[PromptGroup],
        settings: GenerationSettings,
        on_result: OnResult,
        check_cancelled: Callable[[], None],
    ) -> None:
        """Generate one batch; finished rows are dropped when they are half of it."""
        started = time.monotonic()
        check_cancelled()
        state = self._prefill(groups)
        while True:
            state.logits[:, len(self._tokenizer) :] = -torch.inf
            chosen = pick_tokens(
                state.logits,
                [row.generator for row in state.rows],
                temperature=settings.temperature,
                top_p=settings.top_p,
            )
            for row, token in zip(state.rows, chosen.tolist(), strict=True):
                if row.is_done:
                    continue
                row.tokens.append(token)
                row.is_done = token in self._stop_ids or len(row.tokens) == row.group.limit
                if row.is_done:
                    on_result(row.job, self._finish(row, time.monotonic() - started))
            left = [index for index, row in enumerate(state.rows) if not row.is_done]
            if not left:
                return
            check_cancelled()
            if len(left) <= len(state.rows) // 2:
                kept = torch.tensor(left, device=self._device)
                state.keep(kept)
                chosen = chosen[kept]
            self._advance(state, chosen)

    def _advance(self, state: _BatchState, chosen: torch.Tensor) -> None:
        """Feed the chosen tokens and get the logits of the next."""
        state.mask = torch.cat([state.mask, state.mask.new_ones(len(state.rows), 1)], dim=1)
        state.positions = state.positions + 1
        found = self._model(
            input_ids=chosen.unsqueeze(1),
            attention_mask=state.mask,
            position_ids=state.positions.unsqueeze(1),
            past_key_values=state.cache,
            use_cache=True,
        )
        state.logits = found.logits[:, -1]

    def _prefill(self, groups: Sequence[PromptGroup]) -> _BatchState:
        """Run each prompt once and repeat the outcome for its samples."""
        longest = max(len(group.input_ids) for group in groups)
        padding = self._tokenizer.pad_token_id or 0
        ids = torch.full((len(groups), longest), padding, device=self._device)
        mask = torch.zeros_like(ids)
        for index, group in enumerate(groups):
            ids[index, longest - len(group.input_ids) :] = torch.tensor(group.input_ids)
            mask[index, longest - len(group.input_ids) :] = 1
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        found = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
        )
        rows = [
            _Row(group, job, torch.Generator(self._device).manual_seed(job.seed))
            for group in groups
            for job in group.jobs
        ]
        state = _BatchState(
            rows, found.logits[:, -1], found.past_key_values, mask, positions[:, -1]
        )
        repeats = [index for index, group in enumerate(groups) for _ in group.jobs]
        state.select(torch.tensor(repeats, device=self._device))
        return state

    def _finish(self, row: _Row, seconds: float) -> Generation:
        has_stopped = row.tokens[-1] in self._stop_ids
        tokens = row.tokens[:-1] if has_stopped else row.tokens
        return Generation(
            text=self._tokenizer.decode(tokens, skip_special_tokens=True).strip(),
            prompt_tokens=len(row.group.input_ids),
            completion_tokens=len(row.tokens),
            finish_reason="stop" if has_stopped else "length",
            seconds=seconds,
        )


def _without(groups: Sequence[PromptGroup], done: set[tuple[int, int]]) -> list[PromptGroup]:
    left = []
    for group in groups:
        jobs = tuple(job for job in group.jobs if (job.record_id, job.sample) not in done)
        if jobs:
            left.append(PromptGroup(group.input_ids, jobs, group.limit))
    return left


def _add_adapter(model: Any, adapter: Path) -> Any:
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        return PeftModel.from_pretrained(model, adapter)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"The adapter in {adapter} does not load on this base model ({reason}); "
            "fine-tune again."
        ) from error


def _choose_dtype(device: str, wanted: str) -> torch.dtype:
    """The number format: 16 bits on a GPU, 32 on the CPU unless another is asked for.

    On the CPU bfloat16 is faster, but rounds so coarsely that a near-tie can fall the other way
    (1 of 80 sampled answers of the built-in model changed), in another batch too: it is for users
    to choose, and llama.cpp in F16 is faster still.
    """
    if wanted != "auto":
        chosen: torch.dtype = getattr(torch, wanted)
        return chosen
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _fit_batch(model: Any, device: torch.device) -> BatchLimits:
    """The batch whose keys, values and logits fit into a share of the free memory."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = next(model.parameters()).element_size()
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        import psutil

        free = psutil.virtual_memory().available
    return fitting_batch(
        free,
        cache_bytes_per_token(config.num_hidden_layers, heads * width, size),
        config.vocab_size,
        most_rows=_MOST_ROWS.get(device.type, 64),
    )


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(text in str(error) for text in _CPU_OUT_OF_MEMORY)
