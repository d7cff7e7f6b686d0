"""A system turn reaches the model whatever its template, in training, inference and the GGUF."""

from __future__ import annotations

from typing import Any

import pytest

from llamaduo_gui.core.chat_templates import tokenizer_has_system_role
from llamaduo_gui.core.conversation import MERGING_PRELUDE, fit_turns
from llamaduo_gui.core.types import Message
from tests.tiny_models import CHAT_TEMPLATE, make_tokenizer

REFUSING = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}\n{% endfor %}"
)
DROPPING = (
    "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endif %}"
    "{% endfor %}"
)
SYSTEM = Message("system", "Be brief.")
TURNS = (Message("user", "Which?"), Message("assistant", "This."), Message("user", "Why?"))


def tokenizer_with(template: str) -> Any:
    tokenizer: Any = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHAT_TEMPLATE, True),
        (REFUSING, False),
        (DROPPING, False),
        ("{{ raise_exception('broken') }}", True),
    ],
    ids=["chatml", "refusing", "dropping", "broken"],
)
def test_the_template_itself_tells_whether_it_has_a_system_role(
    template: str, expected: bool
) -> None:
    assert tokenizer_has_system_role(tokenizer_with(template), {}) is expected


def test_a_system_turn_goes_before_the_first_user_turn_and_nothing_else_changes() -> None:
    turns = fit_turns([SYSTEM, *TURNS], has_system_role=False)
    assert turns[0] == {"role": "user", "content": "Be brief.\n\nWhich?"}
    assert turns[1:] == [message.to_dict() for message in TURNS[1:]]
    assert fit_turns(TURNS, has_system_role=False) == [item.to_dict() for item in TURNS]
    assert fit_turns([SYSTEM, *TURNS], has_system_role=True)[0] == SYSTEM.to_dict()


@pytest.mark.parametrize("messages", [(SYSTEM, *TURNS), TURNS, TURNS[:1], (SYSTEM, TURNS[0])])
def test_an_exported_template_merges_as_the_program_does(messages: tuple[Message, ...]) -> None:
    ours = fit_turns(messages, has_system_role=False)
    expected = tokenizer_with(REFUSING).apply_chat_template(ours, tokenize=False)
    exported = tokenizer_with(MERGING_PRELUDE + REFUSING)
    turns = [message.to_dict() for message in messages]
    assert exported.apply_chat_template(turns, tokenize=False) == expected
    assert tokenizer_has_system_role(exported, {})
