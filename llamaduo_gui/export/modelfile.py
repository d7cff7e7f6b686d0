"""Writes an Ollama Modelfile: the file, its template in Ollama's language, its stop tokens.

Ollama's templates are Go templates over `.Messages` (https://docs.ollama.com/modelfile). A chat
template that puts fixed texts around each turn can be said in them; which texts is found by
rendering conversations, and the result is checked against further ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError

from llamaduo_gui.core.conversation import Turn

Render = Callable[[list[Turn]], str]
_ROLES = ("system", "user", "assistant")
# Names of people: no template trims or changes them.
_MARKS = ("Alma", "Bodil", "Cato", "Ditte", "Edda")
_NOT_SAYABLE = ("{{", "}}", '"""')


@dataclass(frozen=True, slots=True)
class TurnTexts:
    """Fixed texts of a chat template.

    Attributes:
        around: what stands before and after the content of each role's turns.
        ending: what begins the answer, after the last turn.
    """

    around: dict[str, tuple[str, str]]
    ending: str

    def render(self, turns: Sequence[Turn]) -> str:
        """The conversation as these texts put it."""
        parts = []
        for turn in turns:
            before, after = self.around[turn["role"]]
            parts.append(before + turn["content"] + after)
        return "".join(parts) + self.ending

    def to_ollama(self) -> str:
        """The same as a Go template."""
        branches = [
            f'{{{{ {word} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}'
            for word, (role, (before, after)) in zip(
                ("if", "else if", "else if"), self.around.items(), strict=True
            )
        ]
        return (
            f"{{{{ range .Messages }}}}{''.join(branches)}{{{{ end }}}}{{{{ end }}}}{self.ending}"
        )


def find_turn_texts(render: Render) -> TurnTexts | None:
    """The fixed texts around turns, or None if the template does more than that.

    Args:
        render: turns to the prompt's text, up to where the answer begins, without a bos token.
    """
    try:
        return _find(render)
    except (TemplateError, ValueError):
        return None


def modelfile(gguf_name: str, texts: TurnTexts | None, stops: Sequence[str]) -> str:
    """The text of a Modelfile beside a GGUF.

    Args:
        gguf_name: name of the file in the same folder.
        texts: None leaves the template to what Ollama reads in the GGUF.
        stops: texts of the tokens that end an answer.
    """
    lines = [f"FROM ./{gguf_name}"]
    if texts is None:
        lines.append("# The chat template in the GGUF cannot be said in Ollama's language.")
    else:
        lines.append(f'TEMPLATE """{texts.to_ollama()}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in stops if '"' not in stop]
    return "\n".join(lines) + "\n"


def _find(render: Render) -> TurnTexts | None:
    system, first, answer, second, _ = _MARKS
    whole = render(
        _turns(("system", system), ("user", first), ("assistant", answer), ("user", second))
    )
    places = [whole.index(mark) for mark in (system, first, answer, second)]
    after = [place + len(mark) for place, mark in zip(places, _MARKS, strict=False)]
    between = [whole[end:start] for end, start in zip(after, places[1:], strict=False)]
    tail = whole[after[3] :]
    alone = render(_turns(("user", first)))
    before_user, user_tail = alone.split(first)
    if user_tail != tail or not between[0].endswith(before_user):
        return None
    after_system = between[0][: len(between[0]) - len(before_user)]
    # What follows a user's turn is the same before an answer as at the end: `ending` begins it.
    if not between[2].endswith(before_user):
        return None
    after_answer = between[2][: len(between[2]) - len(before_user)]
    common = _shared_beginning(between[1], tail)
    for cut in range(len(common), -1, -1):
        texts = TurnTexts(
            {
                "system": (whole[: places[0]], after_system),
                "user": (before_user, common[:cut]),
                "assistant": (between[1][cut:], after_answer),
            },
            tail[cut:],
        )
        if _is_right(texts, render):
            return texts
    return None


def _is_right(texts: TurnTexts, render: Render) -> bool:
    pieces = [texts.ending, *(part for pair in texts.around.values() for part in pair)]
    if any(bad in piece for bad in _NOT_SAYABLE for piece in pieces):
        return False
    a, b, c, d, e = _MARKS
    conversations = (
        _turns(("user", a)),
        _turns(("system", b), ("user", c)),
        _turns(("user", e), ("assistant", d), ("user", c), ("assistant", b), ("user", a)),
        _turns(("system", e), ("user", a), ("assistant", b), ("user", d)),
    )
    return all(texts.render(turns) == render(turns) for turns in conversations)


def _turns(*pairs: tuple[str, str]) -> list[Turn]:
    return [{"role": role, "content": content} for role, content in pairs]


def _shared_beginning(one: str, other: str) -> str:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return one[:count]
