"""A conversation with a GGUF file: streamed, stoppable, and without a process or window of its own.

The key-value cache keeps what earlier turns share with the next prompt, so that only new text is
run through the model.
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.core.types import Message
from llamaduo_gui.inference.chat_template import ChatTemplate
from llamaduo_gui.inference.llama_context import (
    DecodingStopped,
    Entry,
    Float32,
    LlamaContext,
)
from llamaduo_gui.inference.token_choice import choose_tokens
from llamaduo_gui.inference.writing import WritingClock, WritingProgress

ChatFinish = Literal["stop", "length", "context", "stopped"]
OnText = Callable[[str], None]

DEFAULT_CONTEXT = 4096
SHORT_HASH = 12
_BATCH_TOKENS = 256


@dataclass(frozen=True, slots=True)
class ChatInfo:
    """Which weights are answering.

    Attributes:
        sha256: the first twelve digits of the file's hash.
        quant: such as `Q4_K_M`.
        parameters: number of weights.
        context_length: tokens that prompt and answer of one turn may have together.
        base_model: as the file says, may be empty.
        kind: which of the four rows of a results table.
        engine: what runs it: `llama.cpp`, `transformers`, or a service's address or provider.
        base_sha256: of a tuned model that is an adapter: the base's hash; `sha256` is then that
            of both together, as no other pair of base and adapter has.
        note: what to know about it, a sentence or nothing.
    """

    path: Path
    name: str
    size_bytes: int
    sha256: str
    quant: str
    architecture: str
    parameters: int
    context_length: int
    base_model: str
    kind: str = "gguf"
    engine: str = "llama.cpp"
    base_sha256: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How answers are sampled; temperature 0 takes the likeliest token, a seed makes it repeat."""

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 0
    max_new_tokens: int = 512
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ChatReply:
    """An answer and its measures.

    Attributes:
        text: what was streamed, as one piece.
        finish_reason: `length` at the limit of new tokens, `context` when the model's context is
            full, `stopped` by the user.
        cached_tokens: tokens of the prompt that were in the cache already.
        first_token_s: seconds until the first token, None if there was none.
        seconds: for the whole answer.
        tokens_per_second: of writing, without the prompt; None for fewer than two tokens.
        context_used: tokens of the conversation now in the context.
        cost_usd: what a service took for it, estimated by its length; None if it is not known or
            nothing is taken.
    """

    text: str
    finish_reason: ChatFinish
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_s: float | None
    seconds: float
    tokens_per_second: float | None
    context_used: int
    context_length: int
    cost_usd: float | None = None


class ChatSession:
    """A loaded GGUF and one conversation with it. One turn at a time; any thread may ask it.

    Args:
        path: the GGUF file.
        system: system prompt, empty for none.
        context_length: tokens of the conversation at most, None for what the model was trained
            for but not more than DEFAULT_CONTEXT.

    Raises:
        UserError: the file cannot be used, or has no chat template.
    """

    def __init__(self, path: Path, *, system: str = "", context_length: int | None = None) -> None:
        self._model = LlamaModel(path)
        try:
            self._template = ChatTemplate(self._model)
            trained = self._model.file.context_length or DEFAULT_CONTEXT
            length = min(context_length or DEFAULT_CONTEXT, trained)
            self._stop = threading.Event()
            self._context = LlamaContext(
                self._model,
                length=length,
                batch_tokens=_BATCH_TOKENS,
                should_stop=self._should_stop,
            )
        except BaseException:
            self._model.close()
            raise
        # llama.cpp rounds its cache up; positions beyond training are not used all the same.
        self._length = min(length, self._context.length)
        self._system = system
        self._turns: list[Message] = []
        self._cached: list[int] = []
        self._hash = ""
        self._writer: _Writer | None = None

    @property
    def info(self) -> ChatInfo:
        """Which weights are answering; the file is hashed the first time this is asked."""
        file = self._model.file
        if not self._hash:
            with file.path.open("rb") as stream:
                self._hash = hashlib.file_digest(stream, "sha256").hexdigest()[:SHORT_HASH]
        return ChatInfo(
            path=file.path,
            name=str(file.metadata.get("general.name", file.path.stem)),
            size_bytes=file.size_bytes,
            sha256=self._hash,
            quant=file.quant,
            architecture=file.architecture,
            parameters=file.parameters,
            context_length=self._length,
            base_model=str(file.metadata.get("general.base_model.0.name", "")),
        )

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, the system prompt first if there is one."""
        system = (Message("system", self._system),) if self._system else ()
        return (*system, *self._turns)

    @property
    def progress(self) -> WritingProgress:
        """How far the answer being written is, or the last one was."""
        return self._writer.progress() if self._writer else WritingProgress()

    def set_system(self, text: str) -> None:
        """Change the system prompt; the conversation goes on under it."""
        self._system = text

    def reset(self) -> None:
        """Begin a new conversation under the same system prompt."""
        self._turns.clear()

    def ask(
        self,
        text: str,
        settings: ChatSettings,
        on_text: OnText,
        stop: threading.Event | None = None,
    ) -> ChatReply:
        """Answer the user's next turn.

        Args:
            text: what the user says.
            settings: of the sampling.
            on_text: called with each piece of the answer, always whole characters.
            stop: ends the answer when set, within one step of the model. What was written so far
                stays in the conversation; if that is nothing, the question does not either.

        Raises:
            UserError: the conversation no longer fits the context, or the template refuses it;
                the conversation is as before.
        """
        return self._answer([*self._turns, Message("user", text)], settings, on_text, stop)

    def regenerate(
        self, settings: ChatSettings, on_text: OnText, stop: threading.Event | None = None
    ) -> ChatReply:
        """Answer the last turn again, in place of the answer it has; see `ask`.

        Raises:
            UserError: there is nothing to answer yet.
        """
        turns = list(self._turns)
        if turns and turns[-1].role == "assistant":
            turns.pop()
        if not turns:
            raise UserError("There is nothing to answer again yet; ask something first.")
        return self._answer(turns, settings, on_text, stop)

    def answer(
        self,
        conversation: Sequence[Message],
        settings: ChatSettings,
        on_text: OnText,
        stop: threading.Event | None = None,
    ) -> ChatReply:
        """Answer a conversation that the caller keeps; it takes the place of this session's own.

        Raises:
            UserError: the conversation does not end with the user's turn; otherwise see `ask`.
        """
        turns = list(conversation)
        system = turns.pop(0).content if turns and turns[0].role == "system" else ""
        if not turns or turns[-1].role != "user":
            raise UserError("There is nothing to answer: the last turn is not the user's.")
        self._system = system
        return self._answer(turns, settings, on_text, stop)

    def close(self) -> None:
        """Give the memory back; doing so twice is harmless."""
        self._context.close()
        self._model.close()

    def _answer(
        self,
        turns: list[Message],
        settings: ChatSettings,
        on_text: OnText,
        stop: threading.Event | None,
    ) -> ChatReply:
        system = [Message("system", self._system)] if self._system else []
        prompt = self._model.tokenize(self._template.render([*system, *turns]))
        if len(prompt) >= self._length:
            raise UserError(
                f"The conversation has {len(prompt)} tokens and the model's context holds "
                f"{self._length}: start a new conversation or write less."
            )
        self._stop = stop or threading.Event()
        writer = self._writer = _Writer(self._model, on_text)
        shared = self._reuse_cache(prompt)
        finish = self._write(prompt, shared, settings, writer)
        seconds, measures = writer.seconds, writer.progress()
        text = writer.finish()
        if text or finish != "stopped":
            self._turns = [*turns, Message("assistant", text)]
        return ChatReply(
            text=text,
            finish_reason=finish,
            prompt_tokens=len(prompt),
            cached_tokens=shared,
            completion_tokens=writer.count,
            first_token_s=measures.first_token_s,
            seconds=seconds,
            tokens_per_second=measures.tokens_per_second,
            context_used=len(prompt) + writer.count,
            context_length=self._length,
        )

    def _should_stop(self) -> bool:
        return self._stop.is_set()

    def _reuse_cache(self, prompt: list[int]) -> int:
        """Keep what the cache shares with the prompt; at least one token is left to run."""
        pairs = zip(self._cached, prompt[:-1], strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        self._context.forget(0, shared)
        self._cached = self._cached[:shared]
        return shared

    def _write(
        self, prompt: list[int], shared: int, settings: ChatSettings, writer: _Writer
    ) -> ChatFinish:
        """Run the rest of the prompt and write the answer."""
        random = np.random.default_rng(settings.seed)
        try:
            logits = self._context.prefill(prompt[shared:], start=shared)[None]
            self._cached = list(prompt)
            while True:
                if self._stop.is_set():
                    return "stopped"
                token = _choose(logits, random, settings)
                if self._model.ends_answer(token):
                    writer.count_token()
                    return "stop"
                writer.write(token)
                if writer.count >= settings.max_new_tokens:
                    return "length"
                position = len(self._cached)
                if position + 1 >= self._length:
                    return "context"
                logits = self._context.decode([Entry(token, position, wants_logits=True)])
                self._cached.append(token)
        except DecodingStopped:
            # What the cache holds after a stopped decode is not certain.
            self._context.forget(0)
            self._cached = []
            return "stopped"
        except LlamaDuoError:
            self._context.forget(0)
            self._cached = []
            raise


class _Writer(WritingClock):
    """Turns tokens into text as they come, holding back the bytes of unfinished characters."""

    def __init__(self, model: LlamaModel, on_text: OnText) -> None:
        super().__init__()
        self._model = model
        self._on_text = on_text
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._parts: list[str] = []

    def write(self, token: int) -> None:
        """Pass on the whole characters the token completes."""
        self.count_token()
        self._pass_on(self._decoder.decode(self._model.piece(token)))

    def finish(self) -> str:
        """Pass on what is left of a broken character, and return the whole text."""
        self._pass_on(self._decoder.decode(b"", final=True))
        return "".join(self._parts)

    def _pass_on(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._on_text(text)


def _choose(logits: Float32, random: np.random.Generator, settings: ChatSettings) -> int:
    (token,) = choose_tokens(
        logits,
        [random],
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
    )
    return token
