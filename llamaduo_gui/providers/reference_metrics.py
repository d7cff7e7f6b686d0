"""Computed measures of how close a candidate is to its target: token F1 and ROUGE-L."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _scorer() -> Any:
    # Half a second (it brings nltk along), so only who scores pays for it.
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=False)


def tokens(text: str) -> list[str]:
    """Lower-case runs of ASCII letters and digits, as the rouge-score package splits text."""
    return [str(token) for token in _tokenizer().tokenize(text)]


def token_f1(target: str, candidate: str) -> float:
    """Harmonic mean of token precision and recall, each token counted as often as it occurs.

    0..1. The definition of SQuAD (arXiv 1606.05250, section 6.1) without dropping articles.
    Two texts without a token are compared as they are.
    """
    wanted, given = Counter(tokens(target)), Counter(tokens(candidate))
    if not wanted and not given:
        return float(target.strip() == candidate.strip())
    shared = (wanted & given).total()
    return 2 * shared / (wanted.total() + given.total())


def rouge_l(target: str, candidate: str) -> float:
    """F-measure of the longest common subsequence of tokens, 0..1 (Lin 2004, section 3.1).

    Two texts without a token are compared as they are.
    """
    if not tokens(target) and not tokens(candidate):
        return float(target.strip() == candidate.strip())
    return float(_scorer().score(target, candidate)["rougeL"].fmeasure)


def missing_and_extra(target: str, candidate: str) -> tuple[list[str], list[str]]:
    """Tokens the candidate lacks, and tokens it has too many of, in order of appearance."""
    wanted, given = Counter(tokens(target)), Counter(tokens(candidate))
    return list(wanted - given), list(given - wanted)


def as_score(value: float) -> int:
    """A measure of 0..1 on the judges' scale of 1..100."""
    return min(100, max(1, round(100 * value)))
