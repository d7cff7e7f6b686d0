"""A conversation with a model in the Hugging Face format: the base, or the tuned student."""

from __future__ import annotations

import gc
import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from llamaduo_gui.core.causal_lm import load_causal_lm, load_tokenizer
from llamaduo_gui.core.chat_templates import tokenizer_has_system_role
from llamaduo_gui.core.conversation import fit_turns
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import detect_family, stop_token_ids
from llamaduo_gui.core.types import Message, ModelKind
from llamaduo_gui.core.weights_hash import hash_weights
from llamaduo_gui.inference.chat import (
    DEFAULT_CONTEXT,
    SHORT_HASH,
    ChatFinish,
    ChatInfo,
    ChatReply,
    ChatSettings,
    OnText,
)
from llamaduo_gui.inference.sampling import pick_tokens
from llamaduo_gui.inference.writing import WritingClock, WritingProgress

_BROKEN = "\ufffd"


class TransformersChat:
    """Loads a base model, with an adapter kept apart from its weights if one is given.

    Args:
        base: folder of the model.
        adapter: folder of a LoRA adapter, None for the model as it is.
        name: how the model is called.
        kind: BASE or TUNED.

    Raises:
        UserError: a file is missing or damaged, or memory does not suffice.
    """

    def __init__(self, base: Path, adapter: Path | None, *, name: str, kind: ModelKind) -> None:
        is_cuda = torch.cuda.is_available()
        self._tokenizer = load_tokenizer(base, adapter)
        family = detect_family(base)
        model = load_causal_lm(base, dtype=_choose_dtype(is_cuda=is_cuda))
        note = ""
        if adapter is not None:
            model, note = _add_adapter(model, adapter)
        self._model = model.to("cuda" if is_cuda else "cpu").eval()
        self._arguments = family.template_arguments
        self._has_system_role = tokenizer_has_system_role(self._tokenizer, self._arguments)
        declared = getattr(model.generation_config, "eos_token_id", None)
        self._stop_ids = frozenset(stop_token_ids(self._tokenizer, family, declared))
        length = min(int(model.config.max_position_embeddings), DEFAULT_CONTEXT)
        self.info = _describe(base, adapter, name, kind, model, length, note)
        self._clock = WritingClock()

    @property
    def progress(self) -> WritingProgress:
        """How far the answer being written is, or the last one was."""
        return self._clock.progress()

    @torch.inference_mode()
    def answer(
        self,
        conversation: Sequence[Message],
        settings: ChatSettings,
        on_text: OnText,
        stop: threading.Event | None = None,
    ) -> ChatReply:
        """Answer a conversation that ends with the user's turn; see `ChatSession.answer`.

        Raises:
            UserError: it does not end so, or does not fit the context.
        """
        prompt = self._encode(conversation)
        clock = self._clock = WritingClock()
        text = _TextStream(self._tokenizer, on_text)
        finish = self._write(prompt, settings, text, stop or threading.Event())
        seconds, measures = clock.seconds, clock.progress()
        return ChatReply(
            text=text.finish(),
            finish_reason=finish,
            prompt_tokens=len(prompt),
            cached_tokens=0,
            completion_tokens=clock.count,
            first_token_s=measures.first_token_s,
            seconds=seconds,
            tokens_per_second=measures.tokens_per_second,
            context_used=len(prompt) + clock.count,
            context_length=self.info.context_length,
        )

    def close(self) -> None:
        """Give the memory back."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _encode(self, conversation: Sequence[Message]) -> list[int]:
        if not conversation or conversation[-1].role != "user":
            raise UserError("There is nothing to answer: the last turn is not the user's.")
        turns = fit_turns(conversation, has_system_role=self._has_system_role)
        found: list[int] = self._tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=False, **self._arguments
        )
        length = self.info.context_length
        if len(found) >= length:
            raise UserError(
                f"The conversation has {len(found)} tokens and the model's context holds "
                f"{length}: start a new conversation or write less."
            )
        return list(found)

    def _write(
        self, prompt: list[int], settings: ChatSettings, text: _TextStream, stop: threading.Event
    ) -> ChatFinish:
        """Run the prompt and write the answer, one token at a time."""
        device = self._model.device
        random = torch.Generator(device)
        if settings.seed is None:
            random.seed()
        else:
            random.manual_seed(settings.seed)
        found = self._model(
            input_ids=torch.tensor([prompt], device=device), use_cache=True, logits_to_keep=1
        )
        position = len(prompt)
        while not stop.is_set():
            logits = found.logits[:, -1]
            # Padded rows of the embedding are no tokens.
            logits[:, len(self._tokenizer) :] = -torch.inf
            chosen = pick_tokens(
                _keep_top(logits, settings.top_k),
                [random],
                temperature=settings.temperature,
                top_p=settings.top_p,
            )
            token = int(chosen)
            self._clock.count_token()
            if token in self._stop_ids:
                return "stop"
            text.add(token)
            if self._clock.count >= settings.max_new_tokens:
                return "length"
            position += 1
            if position >= self.info.context_length:
                return "context"
            found = self._model(
                input_ids=chosen.unsqueeze(1),
                past_key_values=found.past_key_values,
                use_cache=True,
            )
        return "stopped"


class _TextStream:
    """Turns tokens into text as they come, holding back unfinished characters.

    Only the tokens since the last piece but one are decoded again: a tokeniser may write a token
    differently after another.
    """

    def __init__(self, tokenizer: Any, on_text: OnText) -> None:
        self._tokenizer = tokenizer
        self._on_text = on_text
        self._tokens: list[int] = []
        self._from = self._shown = 0
        self._parts: list[str] = []

    def add(self, token: int) -> None:
        """Pass on the whole characters a token completes."""
        self._tokens.append(token)
        self._pass_on(is_last=False)

    def finish(self) -> str:
        """Pass on what is left, and return the whole text."""
        self._pass_on(is_last=True)
        return "".join(self._parts)

    def _pass_on(self, *, is_last: bool) -> None:
        before = self._decode(self._tokens[self._from : self._shown])
        now = self._decode(self._tokens[self._from :])
        if len(now) <= len(before) or (now.endswith(_BROKEN) and not is_last):
            return
        self._from, self._shown = self._shown, len(self._tokens)
        self._parts.append(now[len(before) :])
        self._on_text(self._parts[-1])

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _choose_dtype(*, is_cuda: bool) -> torch.dtype:
    if not is_cuda:
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _keep_top(logits: torch.Tensor, top_k: int) -> torch.Tensor:
    if not 0 < top_k < logits.shape[-1]:
        return logits
    threshold = logits.topk(top_k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < threshold, -torch.inf)


def _add_adapter(model: Any, adapter: Path) -> tuple[Any, str]:
    """The model with the adapter, and a remark if the adapter changes nothing."""
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        tuned = PeftModel.from_pretrained(model, adapter)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"The adapter in {adapter} does not load on this base model ({reason}); "
            "fine-tune again."
        ) from error
    ups = [p for name, p in tuned.named_parameters() if "lora_B" in name or "embedding_B" in name]
    is_idle = bool(ups) and not any(bool(item.any()) for item in ups)
    note = "The adapter changes nothing: it answers as the base does." if is_idle else ""
    return tuned, note


def _describe(
    base: Path,
    adapter: Path | None,
    name: str,
    kind: ModelKind,
    model: Any,
    length: int,
    note: str,
) -> ChatInfo:
    base_hash = _hash(base)
    both = base_hash
    if adapter is not None:
        both = hashlib.sha256(f"{base_hash} {_hash(adapter)}".encode()).hexdigest()
    folders = [base] if adapter is None else [base, adapter]
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return ChatInfo(
        path=adapter or base,
        name=name,
        size_bytes=sum(path.stat().st_size for f in folders for path in f.glob("*.safetensors")),
        sha256=both[:SHORT_HASH],
        quant=dtype,
        architecture=str(model.config.model_type),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        context_length=length,
        base_model=base.name,
        kind=kind.value,
        engine="transformers",
        base_sha256="" if adapter is None else base_hash[:SHORT_HASH],
        note=note,
    )


def _hash(folder: Path) -> str:
    try:
        return hash_weights(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"The weights in {folder} cannot be read ({error}).") from error
