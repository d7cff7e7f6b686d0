"""Whether a student matches its teacher: the rule, both metrics, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llamaduo_gui.core.config import DecisionConfig, PipelineConfig
from llamaduo_gui.core.types import Metric
from llamaduo_gui.evaluation.statistics import (
    Comparison,
    Estimate,
    PromptScores,
    Summary,
    ratio,
    summarize,
)

MetricScores = Mapping[Metric, PromptScores]

_TOLERANCE = 1e-9
_NBSP = "\u00a0"
_EN_DASH = "\u2013"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one metric on one split; without a judged teacher there is no ratio."""

    metric: Metric
    student: Summary
    teacher: Summary | None = None
    ratio: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "metric": self.metric.value,
            "student": self.student.to_dict(),
            "teacher": self.teacher.to_dict() if self.teacher else None,
            "ratio": self.ratio.to_dict() if self.ratio else None,
        }


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One metric against its threshold; `is_matched` is None when it cannot be told.

    `tested` is the number compared with `threshold`, in the unit of the rule: a fraction for
    non_inferiority, per cent for p_match, points for absolute. `reason` says why it is None.
    """

    metric: Metric
    is_matched: bool | None
    tested: float | None
    threshold: float
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "metric": self.metric.value,
            "is_matched": self.is_matched,
            "tested": self.tested,
            "threshold": self.threshold,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """Matched, not matched, or (None) undecided, with the words for it.

    `claim` says what was measured, `ground` why that decides it; both are full sentences.
    """

    is_matched: bool | None
    rule: str
    claim: str
    ground: str
    metrics: tuple[MetricVerdict, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)

    @property
    def word(self) -> str:
        """The label of the pill."""
        return {True: "Matched", False: "Not matched", None: "Undecided"}[self.is_matched]

    @property
    def sentence(self) -> str:
        """The whole verdict as one line."""
        return " ".join(part for part in (f"{self.word}:", self.claim, self.ground) if part)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "is_matched": self.is_matched,
            "word": self.word,
            "rule": self.rule,
            "claim": self.claim,
            "ground": self.ground,
            "sentence": self.sentence,
            "metrics": [item.to_dict() for item in self.metrics],
            "evidence": [item.to_dict() for item in self.evidence],
        }


def gather(
    student: MetricScores, teacher: MetricScores | None, *, resamples: int, seed: int
) -> tuple[Evidence, ...]:
    """Summaries and paired ratios of every metric of the student."""
    found = []
    for metric, scores in student.items():
        own = summarize(scores, resamples=resamples, seed=seed)
        if teacher is None or metric not in teacher:
            found.append(Evidence(metric, own))
            continue
        other = teacher[metric]
        found.append(
            Evidence(
                metric,
                own,
                summarize(other, resamples=resamples, seed=seed),
                ratio(scores, other, resamples=resamples, seed=seed),
            )
        )
    return tuple(found)


def judge_match(
    evidence: Sequence[Evidence], config: DecisionConfig, *, subject: str = "the student"
) -> Verdict:
    """Apply the rule of `config` to every metric; all of them must clear it (DESIGN section 3).

    Args:
        evidence: one entry a metric, of the split the verdict is about.
        config: rule and thresholds.
        subject: who is judged, in the words of the claim ("the exported GGUF").
    """
    metrics = tuple(_check(item, config) for item in evidence)
    outcomes = [item.is_matched for item in metrics]
    if not outcomes or (None in outcomes and False not in outcomes):
        is_matched = None
    else:
        is_matched = all(outcomes)
    claim = _claim(evidence, config, subject)
    ground = _ground(metrics, config, is_matched)
    return Verdict(is_matched, config.rule, claim, ground, metrics, tuple(evidence))


def caveats(config: PipelineConfig, contaminated: int = 0) -> list[str]:
    """What a reader has to know before believing the scores, one sentence each.

    Args:
        config: the project's settings.
        contaminated: training pairs too close to validation or test, accepted by hand.
    """
    found = []
    if config.teacher and config.teacher.provider == "offline":
        found.append("The teacher is the built-in offline tutor: not an LLM.")
    for judge in config.judges:
        if judge.provider == "offline":
            found.append(
                "The judge is the built-in offline tutor: its scores are reference metrics "
                "(ROUGE-L and token F1) against the target, not an LLM's judgement."
            )
        elif config.teacher and judge.name == config.teacher.name:
            found.append(
                f"{judge.name} is teacher and judge: models tend to prefer their own answers."
            )
    if config.decision.split == "test":
        found.append("The loop decided on the test split, which inflates P-Match.")
    if contaminated:
        pairs = "1 synthetic pair" if contaminated == 1 else f"{contaminated:,} synthetic pairs"
        found.append(
            f"{pairs} too close to validation or test prompts may have been trained on: "
            "accepted by hand against the decontamination, which makes scores too good."
        )
    return list(dict.fromkeys(found))


def _check(item: Evidence, config: DecisionConfig) -> MetricVerdict:
    threshold = _threshold(item.metric, config)
    estimate = _decisive(item, config)
    if estimate is None:
        reason = "the teacher's answers have not been judged"
        return MetricVerdict(item.metric, None, None, threshold, reason)
    tested = estimate.low if config.rule == "non_inferiority" else estimate.value
    if tested is None:
        return MetricVerdict(item.metric, None, None, threshold, estimate.reason)
    if config.rule == "p_match":
        tested *= 100
    return MetricVerdict(item.metric, tested >= threshold - _TOLERANCE, tested, threshold)


def _threshold(metric: Metric, config: DecisionConfig) -> float:
    if config.rule == "non_inferiority":
        return 1 - config.margin
    if config.rule == "p_match":
        return config.p_match_target
    chosen = {
        Metric.PRECISION: config.absolute_precision,
        Metric.SIMILARITY: config.absolute_similarity,
    }
    return chosen[metric]


def _decisive(item: Evidence, config: DecisionConfig) -> Estimate | None:
    """The estimate the rule looks at; None without a baseline."""
    if config.rule == "absolute":
        return item.student.mean
    return item.ratio.mean if item.ratio else None


def _claim(evidence: Sequence[Evidence], config: DecisionConfig, subject: str) -> str:
    owner = "the teacher's"
    parts = []
    for item in evidence:
        estimate = _decisive(item, config)
        if estimate is None or estimate.value is None:
            continue
        if config.rule == "absolute":
            parts.append(f"a mean {item.metric.value} of {format_estimate(estimate)}")
        else:
            parts.append(
                f"{format_estimate(estimate, scale=100, unit='%')} of {owner} {item.metric}"
            )
            owner = "its"
    if not parts:
        return ""
    verb = "has" if config.rule == "absolute" else "keeps"
    return f"{subject[:1].upper()}{subject[1:]} {verb} {' and '.join(parts)}."


def _ground(
    metrics: Sequence[MetricVerdict], config: DecisionConfig, is_matched: bool | None
) -> str:
    if is_matched is None:
        reasons = dict.fromkeys(item.reason for item in metrics if item.is_matched is None)
        text = "; ".join(reasons) or "nothing has been judged"
        return f"{text[:1].upper()}{text[1:]}."
    if is_matched:
        return _ground_of_match(metrics, config)
    failed = [item for item in metrics if item.is_matched is False]
    if config.rule == "absolute":
        parts = [
            f"the mean {item.metric.value}, {_distinct(item, 1, '')}, is below {item.threshold:g}"
            for item in failed
        ]
        text = " and ".join(parts)
        return f"{text[:1].upper()}{text[1:]}."
    name = "lower bound" if config.rule == "non_inferiority" else "P-Match"
    scale = 100 if config.rule == "non_inferiority" else 1
    limit = _plain_percent(failed[0].threshold * scale)
    if len(failed) == 1:
        place = f" for {failed[0].metric.value}" if len(metrics) > 1 else ""
        return f"The {name}{place}, {_distinct(failed[0], scale, '%')}, is below {limit}."
    listed = " and ".join(
        f"{_distinct(item, scale, '%')} for {item.metric.value}" for item in failed
    )
    plural = "lower bounds" if config.rule == "non_inferiority" else "P-Match values"
    return f"The {plural}, {listed}, are below {limit}."


def _ground_of_match(metrics: Sequence[MetricVerdict], config: DecisionConfig) -> str:
    many = len(metrics) > 1
    if config.rule == "absolute":
        limits = " and ".join(f"{item.threshold:g}" for item in metrics)
        return f"{'Both means reach' if many else 'The mean reaches'} {limits}, set before the run."
    if config.rule == "p_match":
        limit = _plain_percent(config.p_match_target)
        return f"{'Both reach' if many else 'It reaches'} the {limit} set before the run."
    limit = _plain_percent(100 * (1 - config.margin))
    bounds = "Both lower bounds clear" if many else "The lower bound clears"
    return f"{bounds} the {limit} set before the run."


def format_estimate(estimate: Estimate, *, scale: float = 1, unit: str = "") -> str:
    """`93.7 % (92.1-95.2)`, set with an en dash and a no-break space; a dash if there is none."""
    if estimate.value is None:
        return _EN_DASH
    text = f"{estimate.value * scale:.1f}" + (f"{_NBSP}{unit}" if unit else "")
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({estimate.low * scale:.1f}{_EN_DASH}{estimate.high * scale:.1f})"


def _distinct(item: MetricVerdict, scale: float, unit: str) -> str:
    """The tested number with as many digits as it takes to see that it misses the threshold."""
    tested, threshold = (item.tested or 0.0) * scale, item.threshold * scale
    digits = 1
    while f"{tested:.{digits}f}" == f"{threshold:.{digits}f}" and digits < 9:
        digits += 1
    return f"{tested:.{digits}f}" + (f"{_NBSP}{unit}" if unit else "")


def _plain_percent(value: float) -> str:
    return f"{round(value, 6):g}{_NBSP}%"
