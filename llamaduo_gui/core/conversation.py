"""Fits conversations to chat templates: a system turn goes into the user's where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from llamaduo_gui.core.types import Message

Turn = dict[str, str]
"""One turn as chat templates take it: `role` and `content`."""

_SEPARATOR = "\n\n"
_PROBE_SYSTEM = "systemprobe"
_PROBE = [{"role": "system", "content": _PROBE_SYSTEM}, {"role": "user", "content": "userprobe"}]

# Jinja that does what `fit_turns` does, for programs that run the GGUF without this one.
MERGING_PRELUDE = (
    "{% if messages[0]['role'] == 'system' and messages[1] is defined "
    "and messages[1]['role'] == 'user' %}"
    "{% set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' "
    "+ messages[1]['content']}] + messages[2:] %}"
    "{% endif %}"
)


def fit_turns(messages: Iterable[Message], *, has_system_role: bool) -> list[Turn]:
    """A conversation as a chat template takes it, the same in training, inference and chat.

    Gemma, for one, has no system role: its template refuses such a turn. The system turn is then
    put before the first user turn's text, with a blank line between them, as Gemma 3's own
    template does it. A template that drops the system turn without a word is treated alike.

    Args:
        messages: a system turn can only be the first.
        has_system_role: from `has_system_role` for the template.
    """
    turns = [message.to_dict() for message in messages]
    is_mergeable = len(turns) > 1 and turns[0]["role"] == "system" and turns[1]["role"] == "user"
    if has_system_role or not is_mergeable:
        return turns
    joined = turns[0]["content"] + _SEPARATOR + turns[1]["content"]
    return [{"role": "user", "content": joined}, *turns[2:]]


def has_system_role(render: Callable[[list[Turn]], str]) -> bool:
    """Whether a chat template shows a system turn: asked of the template itself.

    Args:
        render: turns to the prompt's text, up to where the answer begins.

    A template that takes no conversation at all counts as having one: its own complaint is what
    a person has to see.
    """
    from jinja2 import TemplateError

    try:
        return _PROBE_SYSTEM in render(_PROBE)
    except TemplateError:
        try:
            render(_PROBE[1:])
        except TemplateError:
            return True
        return False
