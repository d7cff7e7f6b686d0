"""Turns a seed record into the request that asks the teacher for new pairs like it."""

from __future__ import annotations

from dataclasses import dataclass

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.types import Message, Record
from llamaduo_gui.core.wire import delimit, load_prompt
from llamaduo_gui.providers.base import ChatRequest, ReplySchema

PROMPT = "synthesize"


@dataclass(frozen=True, slots=True)
class SeedPair:
    """The part of a training record that is shown to the teacher.

    Attributes:
        record: the record itself.
        system: its system turn; new pairs carry it too, the teacher does not see it.
        instruction: first user turn. Later turns lean on earlier ones, and a pair made from one
            alone would not make sense.
        response: the assistant's answer to it.
    """

    record: Record
    system: Message | None
    instruction: str
    response: str

    @classmethod
    def of(cls, record: Record) -> SeedPair:
        """The first exchange of a conversation."""
        messages = record.messages
        system = messages[0] if messages[0].role == "system" else None
        asked = next(place for place, turn in enumerate(messages) if turn.role == "user")
        answer = next(turn for turn in messages[asked:] if turn.role == "assistant")
        return cls(record, system, messages[asked].content, answer.content)

    def new_record(self, instruction: str, response: str, prompt_id: str, generator: str) -> Record:
        """A synthetic record made from this seed: its system turn and category, the new pair."""
        turns = (Message("user", instruction), Message("assistant", response))
        return Record(
            messages=(self.system, *turns) if self.system else turns,
            category=self.record.category,
            prompt_id=prompt_id,
            generator=generator,
            seed_prompt=self.record.prompt_id,
        )


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
            "seed_instruction": delimit("instruction", seed.instruction),
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
