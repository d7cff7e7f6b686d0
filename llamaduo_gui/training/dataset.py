"""Turns conversations into token ids and labels: only the answers are learnt, none is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llamaduo_gui.core.chat_templates import tokenizer_has_system_role
from llamaduo_gui.core.conversation import Turn, fit_turns
from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.core.types import Message
from llamaduo_gui.training.answer_spans import find_answers, tokenize_spans

IGNORED = -100
"""The label of a token that does not count in the loss (PyTorch's convention)."""


@dataclass(frozen=True, slots=True)
class Example:
    """One record as the trainer takes it; `labels` has IGNORED where nothing is learnt."""

    input_ids: list[int]
    labels: list[int]


@dataclass(slots=True)
class EncodedSet:
    """Examples that fit, and how many records did not.

    Attributes:
        examples: in the order of the records.
        too_long: records left out because they have more tokens than allowed.
        longest: tokens of the longest record, those left out included.
    """

    examples: list[Example] = field(default_factory=list)
    too_long: int = 0
    longest: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of all examples."""
        return sum(len(example.input_ids) for example in self.examples)

    @property
    def learnt_tokens(self) -> int:
        """Tokens that count in the loss."""
        return sum(label != IGNORED for example in self.examples for label in example.labels)


class ConversationEncoder:
    """Applies a model's chat template and marks the assistant's tokens.

    Which tokens are the assistant's is read off the template itself (answer_spans.py), the same
    way for every family: the answer and its stop token, and nothing of the turn's header. That
    needs no `{% generation %}` markers; TRL's marked versions of known templates mark the same
    answers, some with the line break before them.

    Args:
        tokenizer: of transformers, with a chat template.
        family: of the model; its template arguments are used in inference too.
        stop_ids: tokens that end an answer; one is always learnt at the end of an answer.
        is_assistant_only: False to learn the prompts as well.
    """

    def __init__(
        self,
        tokenizer: Any,
        family: ModelFamily,
        stop_ids: Sequence[int],
        *,
        is_assistant_only: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._arguments = family.template_arguments
        self._stop_ids = frozenset(stop_ids)
        self._stop_texts = [str(tokenizer.convert_ids_to_tokens(item)) for item in self._stop_ids]
        self._is_assistant_only = is_assistant_only
        self._has_system_role = tokenizer_has_system_role(tokenizer, self._arguments)

    def encode(self, messages: Sequence[Message]) -> Example:
        """Token ids and labels of a conversation that ends with the assistant.

        Raises:
            DataError: the chat template refuses the turns, or no answer is found in them.
        """
        turns = fit_turns(messages, has_system_role=self._has_system_role)
        text, spans = find_answers(self._render, turns, self._stop_texts)
        ids, is_learnt = tokenize_spans(self._tokenize, text, spans)
        self._end_at_stops(ids, is_learnt)
        if not self._is_assistant_only:
            return Example(ids, list(ids))
        if not any(is_learnt):
            raise DataError(
                "The chat template shows no answer in a conversation of "
                f"{len(messages)} turns; check that it ends with the assistant's turn."
            )
        pairs = zip(ids, is_learnt, strict=True)
        return Example(ids, [token if learnt else IGNORED for token, learnt in pairs])

    def _end_at_stops(self, ids: list[int], is_learnt: list[bool]) -> None:
        """Make each answer end with its stop token, and learn nothing after it in that turn.

        A model that never sees the end of an answer learns never to end one; and templates put
        a line break after the stop token, which is never generated.
        """
        has_stopped = False
        for index, token in enumerate(ids):
            continues = index > 0 and is_learnt[index - 1]
            if has_stopped:
                has_stopped = is_learnt[index]
                is_learnt[index] = False
            elif token in self._stop_ids and (is_learnt[index] or continues):
                is_learnt[index] = has_stopped = True
        end = self._tokenizer.eos_token_id
        if is_learnt and is_learnt[-1] and ids[-1] not in self._stop_ids and end is not None:
            ids.append(end)
            is_learnt.append(True)

    def _tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _render(self, turns: list[Turn], *, is_prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            found = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=is_prompt, **self._arguments
            )
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise DataError(
                f"The base model's chat template refuses a conversation of {roles} ({error}); "
                "remove such records or choose another base model."
            ) from error
        return str(found)


def encode_records(
    encoder: ConversationEncoder,
    conversations: Iterable[Sequence[Message]],
    *,
    max_length: int,
    check_cancelled: Callable[[], None],
) -> EncodedSet:
    """Encode conversations, leaving out those longer than `max_length` tokens.

    A cut answer would teach the model to stop in the middle, so a record is used whole or not
    at all; the count of those left out is part of the result.
    """
    found = EncodedSet()
    for messages in conversations:
        check_cancelled()
        example = encoder.encode(messages)
        found.longest = max(found.longest, len(example.input_ids))
        if len(example.input_ids) > max_length:
            found.too_long += 1
        else:
            found.examples.append(example)
    return found
