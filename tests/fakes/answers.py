"""What the fake service LLM says: pairs from a pool, scores by overlap, answers by look-up."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamaduo_gui.core.wire import extract_tag, outside_tags

Pair = tuple[str, str]

_COUNT = re.compile(r"\b(\d+) (?:new )?pairs?\b")
_WORD = re.compile(r"\w+")


def read_pool(path: Path) -> list[Pair]:
    """(instruction, response) pairs of a JSONL file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    return [(row["instruction"], row["response"]) for row in rows]


def overlap(one: str, two: str) -> float:
    """F1 of the words of two texts, 0..1."""
    left, right = Counter(_WORD.findall(one.lower())), Counter(_WORD.findall(two.lower()))
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


@dataclass
class Answers:
    """Answers the wire contract's prompts.

    Attributes:
        pool: pairs handed out to synthesis prompts, each once until all are used.
        known: answers to plain prompts; others get the answer of the nearest pair of the pool.
    """

    pool: list[Pair] = field(default_factory=list)
    known: Mapping[str, str] = field(default_factory=dict)
    _next: int = 0
    _index: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for position, (instruction, _) in enumerate(self.pool):
            for word in set(_WORD.findall(instruction.lower())):
                self._index[word].append(position)

    def answer(self, prompt: str) -> str:
        """The text of the reply to the last user turn."""
        target = extract_tag("target_response", prompt)
        candidate = extract_tag("candidate_response", prompt)
        if target is not None and candidate is not None:
            return self.judge(target, candidate)
        if extract_tag("response", prompt) is not None and self.pool:
            found = _COUNT.search(outside_tags(prompt))
            return self.pairs(int(found.group(1)) if found else 1)
        return self.look_up(prompt)

    def judge(self, target: str, candidate: str) -> str:
        share = overlap(target, candidate)
        score = min(100, max(1, round(100 * share)))
        part = {"reason": f"{share:.0%} of the words agree.", "score": score}
        return json.dumps({"precision": part, "similarity": part})

    def pairs(self, count: int) -> str:
        chosen = [self.pool[(self._next + step) % len(self.pool)] for step in range(count)]
        self._next += count
        return json.dumps({"pairs": [{"instruction": a, "response": b} for a, b in chosen]})

    def look_up(self, prompt: str) -> str:
        if prompt in self.known:
            return self.known[prompt]
        votes: Counter[int] = Counter()
        for word in set(_WORD.findall(prompt.lower())):
            # Words of every instruction tell nothing apart and cost the most.
            if len(self._index[word]) <= max(8, len(self.pool) // 4):
                votes.update(self._index[word])
        if not votes:
            return f"You said: {prompt[:200]}"
        nearest = max(_best(votes), key=lambda position: overlap(prompt, self.pool[position][0]))
        return self.pool[nearest][1]


def _best(votes: Counter[int]) -> Iterable[int]:
    return [position for position, _ in votes.most_common(20)]
