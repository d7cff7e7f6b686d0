"""Turns a seed record into the request that asks the teacher for new pairs like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.types import Message, Record
from llamaduo_gui.core.wire import PromptTemplate, delimit, fill, load_prompt
from llamaduo_gui.providers.base import ChatRequest, ReplySchema

PROMPT = "synthesize"


@dataclass(frozen=True, slots=True)
class SeedPair:
    """A training record as the teacher is shown it: its last exchange, and what stands before.

    A new pair is another last exchange: its record carries the seed's system turn and earlier
    turns word for word, and only the two new turns are the teacher's.

    Attributes:
        record: the record itself.
        system: its system turn.
        history: the turns between the system turn and the last user turn.
        instruction: last user turn.
        response: the assistant's answer to it, the record's target.
    """

    record: Record
    system: Message | None
    history: tuple[Message, ...]
    instruction: str
    response: str

    @classmethod
    def of(cls, record: Record) -> SeedPair:
        """The last exchange of a conversation."""
        messages = record.messages
        first = 1 if messages[0].role == "system" else 0
        asked = last_question_place(messages)
        return cls(
            record=record,
            system=messages[0] if first else None,
            history=messages[first:asked],
            instruction=messages[asked].content,
            response=record.target,
        )

    def new_record(self, instruction: str, response: str, prompt_id: str, generator: str) -> Record:
        """A synthetic record made from this seed: its category and beginning, the new pair."""
        turns = (*self.history, Message("user", instruction), Message("assistant", response))
        return Record(
            messages=(self.system, *turns) if self.system else turns,
            category=self.record.category,
            prompt_id=prompt_id,
            generator=generator,
            seed_prompt=self.record.prompt_id,
        )


def last_question_place(messages: Sequence[Message]) -> int:
    """Index of the last user turn, the one that the target responds to."""
    return max(place for place, turn in enumerate(messages) if turn.role == "user")


def build_request(
    teacher: ServiceConfig, seed: SeedPair, *, count: int, temperature: float, repeat: int
) -> ChatRequest:
    """The request for `count` pairs like `seed`.

    Args:
        teacher: where the request goes.
        seed: the example that is shown.
        count: pairs wanted.
        temperature: sampling temperature, unless the teacher's settings have one.
        repeat: sets apart requests with the same seed; part of the request's identity.
    """
    template = load_prompt(PROMPT)
    user = template.render(
        {
            "count": str(count),
            "seed_instruction": _with_context(template, seed),
            "seed_response": delimit("response", seed.response),
        }
    )
    return ChatRequest.for_service(
        teacher,
        (Message("system", template.system), Message("user", user)),
        "synthesize",
        temperature=temperature,
        reply_schema=ReplySchema(template.schema_name, template.schema),
        repeat=repeat,
    )


def _with_context(template: PromptTemplate, seed: SeedPair) -> str:
    """The delimited instruction, after the system turn and earlier turns where there are any."""
    parts = []
    if seed.system is not None:
        system = delimit("seed_system", seed.system.content)
        parts.append(fill(template.parts["system"], {"seed_system": system}))
    if seed.history:
        turns = "\n\n".join(f"[{turn.role}]\n{turn.content}" for turn in seed.history)
        history = delimit("seed_history", turns)
        parts.append(fill(template.parts["history"], {"seed_history": history}))
    return "\n\n".join([*parts, delimit("instruction", seed.instruction)])
