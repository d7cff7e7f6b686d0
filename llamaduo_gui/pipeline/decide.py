"""The decision after a round: matched, go on, or give up. A pure function of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llamaduo_gui.core.config import DecisionConfig
from llamaduo_gui.evaluation.verdict import Evidence, Verdict, judge_match

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens after round `round`, and why.

    Attributes:
        is_matched: None when it cannot be told (no judged teacher, nothing scored).
        should_continue: whether another round is worth its price.
        reason: the verdict and what follows from it, in sentences.
        best_round: the round with the best score so far; the one to export.
        round_score: mean of the student's means over the metrics, what rounds are compared by.
    """

    round: int
    is_matched: bool | None
    should_continue: bool
    reason: str
    best_round: int
    round_score: float | None
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """JSON form, the summary of the `decide` run."""
        return {
            "round": self.round,
            "is_matched": self.is_matched,
            "should_continue": self.should_continue,
            "reason": self.reason,
            "best_round": self.best_round,
            "round_score": self.round_score,
            "verdict": self.verdict.to_dict(),
        }


def decide(
    evidence: Sequence[Evidence],
    config: DecisionConfig,
    *,
    earlier_scores: Sequence[float | None] = (),
    subject: str = "the tuned model",
) -> Decision:
    """Decide after a round.

    The loop ends when the student matches on every metric, when `max_rounds` is reached, when
    `plateau_rounds` rounds in a row brought no better score, and when nothing can be told: then
    another round would cost money and answer nothing.

    Args:
        evidence: one entry a metric, measured on the deciding split.
        config: rule, margin and limits.
        earlier_scores: `round_score` of the rounds before this one, from round 0.
        subject: who is judged, in the words of the reason.
    """
    number = len(earlier_scores)
    verdict = judge_match(evidence, config, subject=subject)
    score = round_score(evidence)
    scores = [*earlier_scores, score]
    best = _best_round(scores)
    if verdict.is_matched:
        return Decision(number, True, False, verdict.sentence, number, score, verdict)
    stop = _stop_reason(verdict, scores, config)
    follows = stop or f"Round {number + 1} follows."
    return Decision(
        round=number,
        is_matched=verdict.is_matched,
        should_continue=not stop,
        reason=f"{verdict.sentence} {follows}",
        best_round=best,
        round_score=score,
        verdict=verdict,
    )


def round_score(evidence: Sequence[Evidence]) -> float | None:
    """Mean of the student's means over the metrics, 1..100; None if one of them is missing."""
    means = [item.student.mean.value for item in evidence]
    known = [value for value in means if value is not None]
    return sum(known) / len(known) if known and len(known) == len(means) else None


def is_plateau(scores: Sequence[float | None], rounds: int) -> bool:
    """Whether the last `rounds` rounds brought nothing better than the rounds before them."""
    if len(scores) <= rounds:
        return False
    before = [score for score in scores[:-rounds] if score is not None]
    latest = [score for score in scores[-rounds:] if score is not None]
    return bool(before) and max(latest, default=-1.0) <= max(before) + _TOLERANCE


def _best_round(scores: Sequence[float | None]) -> int:
    """The earliest round with the highest score; the latest round if none has a score."""
    known = [(score, -number) for number, score in enumerate(scores) if score is not None]
    return -max(known)[1] if known else len(scores) - 1


def _stop_reason(verdict: Verdict, scores: Sequence[float | None], config: DecisionConfig) -> str:
    if verdict.is_matched is None:
        return "The loop ends here: another round could not be decided either."
    if len(scores) - 1 >= config.max_rounds:
        return f"Round {len(scores) - 1} was the last one allowed."
    if is_plateau(scores, config.plateau_rounds):
        count = config.plateau_rounds
        rounds = "round" if count == 1 else f"{count} rounds"
        return f"The last {rounds} brought no better {config.split} mean, so the loop ends."
    return ""
