"""Decides which synthetic pairs are kept: new, not too close to the seed, not contaminated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llamaduo_gui.core.config import SynthesisConfig
from llamaduo_gui.core.types import Record, RejectReason
from llamaduo_gui.data.boilerplate import learn_boilerplate
from llamaduo_gui.data.decontaminate import ContaminationGate
from llamaduo_gui.data.dedup import ExactIndex, NearDuplicateIndex
from llamaduo_gui.data.similarity import rouge_l
from llamaduo_gui.data.text import tokenise
from llamaduo_gui.synthesis.prompts import SeedPair


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a pair is not used."""

    reason: RejectReason
    detail: str


class PairFilter:
    """The tests of DESIGN section 3, in order: exact duplicate, near-duplicate, seed, evaluation.

    Wording shared by the training prompts (an instruction all of them begin with) is left out of
    every comparison but the exact one; it is learned from coverage training records alone.
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
        self._near = NearDuplicateIndex(settings.near_duplicate_jaccard, self._boilerplate)
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
        texts = [(record.prompt_id, record.instruction) for record in records]
        for prompt_id, text in texts:
            self._exact.add(prompt_id, text)
        self._near.add_many(texts)

    def keep(self, record: Record) -> None:
        """Take in one pair that is used."""
        self._exact.add(record.prompt_id, record.instruction)
        self._near.add(record.prompt_id, record.instruction)

    def check(self, record: Record, seed: SeedPair) -> Rejection | None:
        """Why a pair made from `seed` is not to be used, or None if it is."""
        text = record.instruction
        if (equal := self._exact.query(text)) is not None:
            return Rejection(RejectReason.EXACT_DUPLICATE, f"The same prompt as {equal}.")
        if (match := self._near.query(text)) is not None:
            return Rejection(
                RejectReason.NEAR_DUPLICATE,
                f"Jaccard {match.similarity:.2f} with the prompt of {match.name}.",
            )
        asked = next(turn.content for turn in record.messages if turn.role == "user")
        closeness = rouge_l(self._own_tokens(seed.instruction), self._own_tokens(asked))
        if closeness >= self._seed_limit:
            return Rejection(
                RejectReason.TOO_CLOSE_TO_SEED,
                f"ROUGE-L {closeness:.2f} with its seed {seed.record.prompt_id}.",
            )
        if (found := self._gate.check(text, record.target)) is not None:
            return Rejection(
                RejectReason.CONTAMINATED, f"Evaluation prompt {found.prompt_id}: {found.detail}."
            )
        return None

    def _own_tokens(self, text: str) -> list[str]:
        return self._boilerplate.strip(tokenise(text))
