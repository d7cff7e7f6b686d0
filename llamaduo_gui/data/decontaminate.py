"""The gate that keeps validation and test prompts out of the training data.

A pair is contaminated when its instruction, compared without the dataset's boilerplate,

- equals a validation or test prompt (case, spacing and compatibility forms folded), or
- is a near-duplicate of one (Jaccard of word 3-grams at the deduplication threshold), or
- shares a run of 13 tokens with a validation or test prompt or target response (the length of
  Brown et al. 2020, appendix C); the pair's response is checked for such runs too, or
- is one of the texts too short for 13-grams: the whole of an evaluation prompt of 5..12 tokens
  stands inside it, or the whole of it, 5..12 tokens, stands inside an evaluation prompt at most
  twice as long. Shorter texts ("top up") stand inside others by chance; for them only the first
  two tests count.

Boilerplate is learned from training prompts only (see `boilerplate`), so an instruction that all
prompts of a task share does not flag every pair, while wording that only evaluation prompts have
does. Responses of a few words (labels) are shared on purpose and are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from llamaduo_gui.core.types import Record
from llamaduo_gui.data.boilerplate import Boilerplate
from llamaduo_gui.data.dedup import ExactIndex, NearDuplicateIndex
from llamaduo_gui.data.text import HashArray, hash_ngrams, hash_tokens, tokenise

MIN_CONTAINED_TOKENS = 5

Finding = Literal["exact", "near_duplicate", "ngram", "contained"]


@dataclass(frozen=True, slots=True)
class Contamination:
    """Why a pair is contaminated.

    Attributes:
        test: which of the gate's tests found it.
        prompt_id: the evaluation record it is too close to.
        detail: one phrase for people, with the shared wording where there is one.
    """

    test: Finding
    prompt_id: str
    detail: str


@dataclass(slots=True)
class _RunIndex:
    """Which evaluation record holds a run of `size` tokens."""

    size: int
    hashes: HashArray = field(default_factory=lambda: np.empty(0, np.uint64))
    owners: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    @classmethod
    def build(cls, size: int, texts: Sequence[tuple[int, HashArray]]) -> _RunIndex:
        """Index the runs of (owner, token hashes) texts."""
        runs = [(owner, hash_ngrams(hashes, size)) for owner, hashes in texts]
        if not runs:
            return cls(size)
        hashes = np.concatenate([found for _, found in runs])
        owners = np.concatenate([np.full(len(found), owner, np.int32) for owner, found in runs])
        order = np.argsort(hashes, kind="stable")
        return cls(size, hashes[order], owners[order])

    def find(self, hashes: HashArray) -> tuple[int, int] | None:
        """(owner, first token) of the first indexed run in a text, or None."""
        runs = hash_ngrams(hashes, self.size)
        if not len(runs) or not len(self.hashes):
            return None
        places = np.minimum(np.searchsorted(self.hashes, runs), len(self.hashes) - 1)
        hits = np.flatnonzero(self.hashes[places] == runs)
        if not len(hits):
            return None
        return int(self.owners[places[hits[0]]]), int(hits[0])


class ContaminationGate:
    """Checks pairs against the evaluation records it was built from."""

    def __init__(
        self,
        evaluation: Iterable[Record],
        *,
        prompt_boilerplate: Boilerplate | None = None,
        response_boilerplate: Boilerplate | None = None,
        ngram: int = 13,
        jaccard: float = 0.8,
    ) -> None:
        """Index validation and test records.

        Args:
            evaluation: the records to keep out.
            prompt_boilerplate: wording shared by training prompts.
            response_boilerplate: wording shared by training responses.
            ngram: tokens of the shared run that contaminates.
            jaccard: threshold of the near-duplicate test.
        """
        self._prompt_boilerplate = prompt_boilerplate or Boilerplate.none()
        self._response_boilerplate = response_boilerplate or Boilerplate.none()
        self._ngram = ngram
        self._exact = ExactIndex()
        self._near = NearDuplicateIndex(jaccard, self._prompt_boilerplate)
        self._ids: list[str] = []
        self._prompts: list[HashArray] = []
        texts: list[tuple[int, HashArray]] = []
        for record in evaluation:
            owner = len(self._ids)
            self._ids.append(record.prompt_id)
            self._exact.add(record.prompt_id, record.instruction)
            self._near.add(record.prompt_id, record.instruction)
            prompt = self._prompt_boilerplate.strip_hashes(
                hash_tokens(tokenise(record.instruction))
            )
            target = self._response_boilerplate.strip_hashes(hash_tokens(tokenise(record.target)))
            self._prompts.append(prompt)
            texts += [(owner, prompt), (owner, target)]
        self._runs = _RunIndex.build(ngram, texts)
        self._whole = self._index_short_prompts()
        self._inside: dict[int, _RunIndex] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def check(self, instruction: str, response: str) -> Contamination | None:
        """The first test that finds the pair contaminated, or None."""
        if (equal := self._exact.query(instruction)) is not None:
            return Contamination("exact", equal, "the same prompt")
        if (match := self._near.query(instruction)) is not None:
            return Contamination(
                "near_duplicate", match.name, f"near-duplicate, Jaccard {match.similarity:.2f}"
            )
        tokens = self._prompt_boilerplate.strip(tokenise(instruction))
        answer = self._response_boilerplate.strip(tokenise(response))
        return (
            self._shared_run(tokens, "prompt")
            or self._shared_run(answer, "response")
            or self._contained(tokens)
        )

    def _shared_run(self, tokens: Sequence[str], part: str) -> Contamination | None:
        found = self._runs.find(hash_tokens(tokens))
        if found is None:
            return None
        owner, start = found
        words = " ".join(tokens[start : start + self._ngram])
        return Contamination(
            "ngram", self._ids[owner], f"{self._ngram} words in a row in the {part}: {words}"
        )

    def _contained(self, tokens: Sequence[str]) -> Contamination | None:
        hashes = hash_tokens(tokens)
        for index in self._whole:
            if (found := index.find(hashes)) is not None:
                owner, start = found
                words = " ".join(tokens[start : start + index.size])
                return Contamination("contained", self._ids[owner], f"holds the prompt: {words}")
        if not MIN_CONTAINED_TOKENS <= len(tokens) < self._ngram:
            return None
        found = self._inside_index(len(tokens)).find(hashes)
        if found is None:
            return None
        return Contamination(
            "contained", self._ids[found[0]], f"is part of the prompt: {' '.join(tokens)}"
        )

    def _index_short_prompts(self) -> list[_RunIndex]:
        by_length: dict[int, list[tuple[int, HashArray]]] = {}
        for owner, prompt in enumerate(self._prompts):
            if MIN_CONTAINED_TOKENS <= len(prompt) < self._ngram:
                by_length.setdefault(len(prompt), []).append((owner, prompt))
        return [_RunIndex.build(size, texts) for size, texts in sorted(by_length.items())]

    def _inside_index(self, size: int) -> _RunIndex:
        if size not in self._inside:
            texts = [
                (owner, prompt)
                for owner, prompt in enumerate(self._prompts)
                if size <= len(prompt) <= 2 * size
            ]
            self._inside[size] = _RunIndex.build(size, texts)
        return self._inside[size]
