"""What every local model looks like to the batch job: prompts in, one generation a sample out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from llamaduo_gui.core.types import Message

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class PromptJob:
    """One response to generate.

    Attributes:
        record_id: row id of the record it answers.
        sample: 0..K-1.
        messages: the conversation so far, which ends with the user's turn.
        seed: of the sampling; the same seed gives the same response in any batch.
    """

    record_id: int
    sample: int
    messages: tuple[Message, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How responses are sampled; temperature 0 takes the likeliest token each time."""

    temperature: float = 0.8
    top_p: float = 1.0
    max_new_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Generation:
    """One response.

    Attributes:
        text: without the stop token and without white space around it.
        completion_tokens: generated tokens, the stop token included.
        finish_reason: `length` when `max_new_tokens` or the context ended it.
        seconds: from the start of its batch to its last token.
        error: why there is no response; then the text is empty.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason
    seconds: float
    error: str = ""


OnResult = Callable[[PromptJob, Generation], None]
OnNote = Callable[[str], None]


def ignore_note(_text: str) -> None:
    """For callers that do not want to hear what a backend has to say."""


class Backend(Protocol):
    """A loaded local model."""

    @property
    def name(self) -> str:
        """Its name in summaries: `transformers` or `llama_cpp`."""
        ...

    @property
    def note(self) -> str:
        """What computes, in words: device and number format, or the file's type."""
        ...

    def generate(
        self,
        prompts: Sequence[PromptJob],
        settings: GenerationSettings,
        on_result: OnResult,
        check_cancelled: Callable[[], None],
        on_note: OnNote = ignore_note,
    ) -> None:
        """Answer every prompt, in the order that is fastest.

        Args:
            prompts: any number; samples of one prompt share its work.
            settings: of all of them.
            on_result: called once a prompt, as soon as its response is complete. A prompt that
                cannot be answered gets a Generation with an error; the others go on.
            check_cancelled: called between tokens or responses; what it raises ends the call.
            on_note: told what the user should know, such as batches made smaller.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...
