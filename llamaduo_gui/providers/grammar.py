"""The demo's ticket grammar: writes support tickets with their answers, and triages by rules."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


def expand(template: str, slots: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """Fill one template: `[a|b]` picks an alternative (nesting allowed), `{name}` a slot value.

    Slot values may contain choices and slots themselves. Raises KeyError for an unknown slot.
    """
    text = template
    while True:
        before = text
        text = _CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), text)
        text = _SLOT.sub(lambda m: rng.choice(slots[m.group(1)]), text)
        if text == before:
            return re.sub(r" {2,}", " ", text).strip()


@dataclass(frozen=True)
class Issue:
    """One kind of ticket: how customers put it, and the patterns that give it away."""

    team: str
    name: str
    says: tuple[str, ...]
    strong: tuple[re.Pattern[str], ...]
    cues: tuple[re.Pattern[str], ...]

    def score(self, ticket: str) -> int:
        """How much a lower-cased ticket looks like this issue: a strong cue counts two."""
        return 2 * _matches(self.strong, ticket) + _matches(self.cues, ticket)


@dataclass(frozen=True)
class Triage:
    """A ticket's answer; `order` is the number as written, or None where the ticket has none."""

    team: str
    issue: str
    urgency: str
    order: str | None


class TicketGrammar:
    """Support tickets of an online shop and their triage, from a grammar file; not an LLM."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        """Compile a parsed grammar file (see resources/demo/grammar.toml for the keys)."""
        self.instruction: str = data["instruction"]
        self._answer_format: str = data["answer"]
        self._no_order: str = data["no_order"]
        self._urgency: dict[str, Any] = data["urgency"]
        self._urgency_cues = {
            level: _compiled(entry.get("cues", [])) for level, entry in self._urgency.items()
        }
        self._order: dict[str, list[str]] = data["order"]
        self._ticket: dict[str, list[str]] = data["ticket"]
        self._slots: dict[str, list[str]] = data["slots"]
        self.issues: tuple[Issue, ...] = tuple(
            Issue(
                team=team,
                name=name,
                says=tuple(entry["says"]),
                strong=_compiled(entry["strong"]),
                cues=_compiled(entry["cues"]),
            )
            for team, issues in data["teams"].items()
            for name, entry in issues.items()
        )
        self._by_name = {issue.name: issue for issue in self.issues}

    @classmethod
    def load(cls, path: Path) -> TicketGrammar:
        """Read a grammar file (TOML). Raises OSError, TOMLDecodeError or KeyError."""
        return cls(tomllib.loads(path.read_text(encoding="utf-8")))

    @property
    def teams(self) -> tuple[str, ...]:
        """The teams in file order; a coverage record's category is one of them."""
        return tuple(dict.fromkeys(issue.team for issue in self.issues))

    def knows(self, instruction: str) -> bool:
        """Whether an instruction is of this task: it starts with the task's own first line."""
        return instruction.strip().casefold().startswith(self.instruction.casefold())

    def answer(self, instruction: str) -> str | None:
        """Triage a ticket by rules, with the mistakes rules make; None if it is another task."""
        if not self.knows(instruction):
            return None
        ticket = instruction.strip()[len(self.instruction) :].strip().lower()
        issue = max(self.issues, key=lambda issue: issue.score(ticket))
        order = re.search(r"(?<!\d)\d{5}(?!\d)", ticket)
        number = order.group() if order else None
        triage = Triage(issue.team, issue.name, self._urgency_of(ticket), number)
        return self.render(triage)

    def render(self, triage: Triage) -> str:
        """Write a triage in the answer format."""
        return self._answer_format.format(
            team=triage.team,
            issue=triage.issue,
            urgency=triage.urgency,
            order=triage.order or self._no_order,
        )

    def parse(self, response: str) -> Triage | None:
        """Read an answer back; None where it is not in the format or names an unknown issue."""
        fields = [field.strip() for field in response.split(",")]
        if len(fields) != 4 or fields[1] not in self._by_name or fields[2] not in self._urgency:
            return None
        if self._by_name[fields[1]].team != fields[0]:
            return None
        team, issue, urgency, order = fields
        return Triage(team, issue, urgency, None if order == self._no_order else order)

    def similar_pairs(
        self, seed_instruction: str, seed_response: str, count: int, rng: random.Random
    ) -> list[tuple[str, str]]:
        """Write `count` (instruction, response) pairs around a seed pair.

        About half are of the seed's issue, a quarter of its team, the rest of any. An empty list if
        the seed is of another task. Equal arguments and an equal `rng` state give equal pairs.
        """
        seed = self.parse(seed_response)
        if seed is None or not self.knows(seed_instruction):
            return []
        neighbours = [issue for issue in self.issues if issue.team == seed.team]
        pairs = []
        for _ in range(count):
            draw = rng.random()
            if draw < 0.5:
                issue = self._by_name[seed.issue]
            else:
                issue = rng.choice(neighbours if draw < 0.75 else self.issues)
            pairs.append(self.pair(issue, rng))
        return pairs

    def pair(self, issue: Issue, rng: random.Random) -> tuple[str, str]:
        """Write one ticket of an issue, as an instruction, with its right answer."""
        order = str(rng.randint(10_000, 99_999)) if rng.random() < 0.72 else None
        urgency = rng.choice(list(self._urgency))
        ticket = self._write_ticket(issue, urgency, order, rng)
        triage = Triage(issue.team, issue.name, urgency, order)
        return f"{self.instruction}\n\n{ticket}", self.render(triage)

    def _write_ticket(
        self, issue: Issue, urgency: str, order: str | None, rng: random.Random
    ) -> str:
        inline = [text.replace("{order}", order) for text in self._order["inline"]] if order else []
        slots = {**self._slots, "inline": inline or [""], "order": [order or ""]}
        body = expand(rng.choice(issue.says), slots, rng)
        sentences = [body, expand(rng.choice(self._urgency[urgency]["says"]), slots, rng)]
        sentences.append(expand(rng.choice(self._ticket["aside"]), slots, rng))
        if order and order not in body:
            sentences.append(expand(rng.choice(self._order["mentions"]), slots, rng))
        if rng.random() < 0.6:
            rest = sentences[1:]
            rng.shuffle(rest)
            sentences[1:] = rest
        else:
            rng.shuffle(sentences)
        hello = rng.choice(self._ticket["hello"])
        bye = expand(rng.choice(self._ticket["bye"]), slots, rng)
        ticket = " ".join(filter(None, [hello, *(_sentence(s) for s in sentences), bye]))
        return ticket.lower() if rng.random() < 0.12 else ticket

    def _urgency_of(self, ticket: str) -> str:
        high = _matches(self._urgency_cues["high"], ticket)
        low = _matches(self._urgency_cues["low"], ticket)
        if low and low >= high:
            return "low"
        return "high" if high else "normal"


def _compiled(patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


def _matches(patterns: Sequence[re.Pattern[str]], text: str) -> int:
    return sum(1 for pattern in patterns if pattern.search(text))


def _sentence(text: str) -> str:
    """Capitalise, drop a space before punctuation, and end with a mark unless one is there."""
    text = re.sub(r" +([,.?!])", r"\1", text.strip())
    if not text:
        return ""
    questions = ("how", "what", "where", "when", "which", "why", "can", "could", "do", "does")
    if text[-1] not in ".?!)" and not text[-1].isdigit():
        is_question = text.lower().startswith((*questions, "did", "is", "are", "will"))
        text += "?" if is_question else "."
    return text[0].upper() + text[1:]
