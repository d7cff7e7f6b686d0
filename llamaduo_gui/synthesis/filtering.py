"""Decides which synthetic pairs are kept: new, not too close to the seed, not contaminated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llamaduo_gui.core.config import SynthesisConfig
from llamaduo_gui.core.types import Record, RejectReason, render_prompt
from llamaduo_gui.data.boilerplate import learn_boilerplate
from llamaduo_gui.data.decontaminate import ContaminationGate
from llamaduo_gui.data.dedup import ExactIndex, NearDuplicateIndex
from llamaduo_gui.data.similarity import rouge_l
from llamaduo_gui.data.text import text_key, tokenise
from llamaduo_gui.synthesis.prompts import SeedPair, last_question_place


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a pair is not used. `against` is the prompt_id of the record it is too close to."""

    reason: RejectReason
    detail: str
    against: str


class _OwnText(NamedTuple):
    """What is new in a prompt: its last turn, and the conversation that turn belongs to.

    A prompt without earlier turns belongs to none and is new as a whole.
    """

    conversation: str
    text: str


class PairFilter:
    """The tests of DESIGN section 3, in order: exact duplicate, near-duplicate, seed, evaluation.

    Wording shared by the training prompts (an instruction all of them begin with) is left out of
    every comparison but the exact one; it is learned from coverage training records alone.

    Pairs that end one conversation all begin with the same turns, so near-duplicates are looked
    for among their last turns, conversation by conversation: the same question after other turns
    is another prompt.
    """

    def __init__(
        self, train: Sequence[Record], evaluation: Iterable[Record], settings: SynthesisConfig
    ) -> None:
        """Index the coverage data.

        Args:
            train: coverage training records.
            evaluation: validation and test records.
            settings: thresholds.
        """
        self._seed_limit = settings.seed_rouge_l
        prompts = [record.instruction for record in train]
        categories = [record.category for record in train]
        self._boilerplate = learn_boilerplate(prompts, categories)
        self._exact = ExactIndex()
        self._jaccard = settings.near_duplicate_jaccard
        self._near: dict[str, NearDuplicateIndex] = {}
        self._gate = ContaminationGate(
            evaluation,
            prompt_boilerplate=self._boilerplate,
            response_boilerplate=learn_boilerplate([record.target for record in train], categories),
            ngram=settings.contamination_ngram,
            jaccard=settings.near_duplicate_jaccard,
        )
        self.remember(train)

    def remember(self, records: Iterable[Record]) -> None:
        """Take records as they are: later pairs must differ from them."""
        texts: dict[str, list[tuple[str, str]]] = {}
        for record in records:
            self._exact.add(record.prompt_id, record.instruction)
            own = _own_text(record)
            texts.setdefault(own.conversation, []).append((record.prompt_id, own.text))
        for conversation, items in texts.items():
            self._index_of(conversation).add_many(items)

    def keep(self, record: Record) -> None:
        """Take in one pair that is used."""
        self._exact.add(record.prompt_id, record.instruction)
        own = _own_text(record)
        self._index_of(own.conversation).add(record.prompt_id, own.text)

    def check(self, record: Record, seed: SeedPair) -> Rejection | None:
        """Why a pair made from `seed` is not to be used, or None if it is."""
        return (
            self._check_duplicate(record)
            or self._check_seed(record, seed)
            or self.check_evaluation(record)
        )

    def check_evaluation(self, record: Record) -> Rejection | None:
        """Why a pair is too close to validation or test, or None if it is not."""
        own = _own_text(record)
        found = self._gate.check(own.text, record.target)
        if found is None and own.conversation:
            # Turns copied from a training record say nothing; the prompt as a whole may.
            whole = self._gate.check(record.instruction, "")
            found = whole if whole and whole.test in ("exact", "near_duplicate") else None
        if found is None:
            return None
        detail = f"Evaluation prompt {found.prompt_id}: {found.detail}."
        return Rejection(RejectReason.CONTAMINATED, detail, found.prompt_id)

    def _check_duplicate(self, record: Record) -> Rejection | None:
        if (equal := self._exact.query(record.instruction)) is not None:
            detail = f"The same prompt as {equal}."
            return Rejection(RejectReason.EXACT_DUPLICATE, detail, equal)
        own = _own_text(record)
        index = self._near.get(own.conversation)
        if index is not None and (match := index.query(own.text)) is not None:
            detail = f"Jaccard {match.similarity:.2f} with the prompt of {match.name}."
            return Rejection(RejectReason.NEAR_DUPLICATE, detail, match.name)
        return None

    def _check_seed(self, record: Record, seed: SeedPair) -> Rejection | None:
        asked = record.messages[last_question_place(record.messages)].content
        closeness = rouge_l(self._own_tokens(seed.instruction), self._own_tokens(asked))
        if closeness < self._seed_limit:
            return None
        name = seed.record.prompt_id
        detail = f"ROUGE-L {closeness:.2f} with its seed {name}."
        return Rejection(RejectReason.TOO_CLOSE_TO_SEED, detail, name)

    def _index_of(self, conversation: str) -> NearDuplicateIndex:
        if conversation not in self._near:
            self._near[conversation] = NearDuplicateIndex(self._jaccard, self._boilerplate)
        return self._near[conversation]

    def _own_tokens(self, text: str) -> list[str]:
        return self._boilerplate.strip(tokenise(text))


def _own_text(record: Record) -> _OwnText:
    messages = record.messages
    asked = last_question_place(messages)
    before = messages[:asked]
    if not any(turn.role == "user" for turn in before):
        return _OwnText("", record.instruction)
    return _OwnText(text_key(render_prompt(before)), messages[asked].content)
