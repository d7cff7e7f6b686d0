"""The match rule on every metric, and the words of the verdict."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llamaduo_gui.core.config import DecisionConfig, JudgeConfig, PipelineConfig, ServiceConfig
from llamaduo_gui.core.types import Metric
from llamaduo_gui.evaluation.statistics import Comparison, Estimate, Summary
from llamaduo_gui.evaluation.verdict import (
    Evidence,
    caveats,
    format_estimate,
    gather,
    judge_match,
)

NOTHING = Estimate(None)


def measured(
    metric: Metric,
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    mean: float | None = 80.0,
    reason: str = "",
) -> Evidence:
    """Evidence with the given ratio to the teacher."""
    summary = Summary(Estimate(mean, mean, mean), NOTHING, NOTHING, 100, 400, 0)
    ratio = Comparison(Estimate(value, low, high, reason), NOTHING, NOTHING, 100)
    return Evidence(metric, summary, summary, ratio)


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u2013", "-")


def test_a_match_needs_both_lower_bounds() -> None:
    verdict = judge_match(
        [
            measured(Metric.PRECISION, 0.937, 0.921, 0.952),
            measured(Metric.SIMILARITY, 0.924, 0.908, 0.941),
        ],
        DecisionConfig(),
        subject="the exported GGUF",
    )
    assert verdict.is_matched is True
    assert plain(verdict.sentence) == (
        "Matched: The exported GGUF keeps 93.7 % (92.1-95.2) of the teacher's precision and "
        "92.4 % (90.8-94.1) of its similarity. Both lower bounds clear the 90 % set before the run."
    )


def test_one_metric_below_the_margin_is_not_a_match_and_is_named() -> None:
    verdict = judge_match(
        [
            measured(Metric.PRECISION, 0.937, 0.921, 0.952),
            measured(Metric.SIMILARITY, 0.872, 0.833, 0.908),
        ],
        DecisionConfig(),
    )
    assert verdict.is_matched is False
    assert plain(verdict.ground) == "The lower bound for similarity, 83.3 %, is below 90 %."


def test_a_point_estimate_above_the_margin_is_not_enough() -> None:
    verdict = judge_match([measured(Metric.PRECISION, 0.95, 0.833, 1.02)], DecisionConfig())
    assert verdict.is_matched is False
    assert plain(verdict.ground) == "The lower bound, 83.3 %, is below 90 %."


def test_both_metrics_below_are_both_named() -> None:
    evidence = [
        measured(Metric.PRECISION, 0.85, 0.80, 0.9),
        measured(Metric.SIMILARITY, 0.8, 0.75, 0.85),
    ]
    verdict = judge_match(evidence, DecisionConfig(margin=0.125))
    assert plain(verdict.ground) == (
        "The lower bounds, 80.0 % for precision and 75.0 % for similarity, are below 87.5 %."
    )


def test_a_bound_just_short_of_the_threshold_is_not_printed_as_the_threshold() -> None:
    verdict = judge_match([measured(Metric.PRECISION, 0.95, 0.89996, 1.0)], DecisionConfig())
    assert plain(verdict.ground) == "The lower bound, 89.996 %, is below 90 %."


def test_a_bound_exactly_on_the_threshold_clears_it() -> None:
    verdict = judge_match([measured(Metric.PRECISION, 0.95, 0.9, 1.0)], DecisionConfig())
    assert verdict.is_matched is True


def test_without_a_judged_teacher_it_is_undecided_and_says_so() -> None:
    summary = measured(Metric.PRECISION, 1, 1, 1).student
    verdict = judge_match([Evidence(Metric.PRECISION, summary)], DecisionConfig())
    assert verdict.is_matched is None
    assert verdict.sentence == "Undecided: The teacher's answers have not been judged."


def test_an_interval_that_cannot_be_told_is_undecided_unless_the_other_metric_fails() -> None:
    unknown = measured(Metric.PRECISION, 0.95, None, None, reason="one scored prompt")
    good = measured(Metric.SIMILARITY, 0.95, 0.93, 0.97)
    bad = measured(Metric.SIMILARITY, 0.5, 0.4, 0.6)
    undecided = judge_match([unknown, good], DecisionConfig())
    assert undecided.is_matched is None
    assert undecided.ground == "One scored prompt."
    assert judge_match([unknown, bad], DecisionConfig()).is_matched is False
    assert judge_match([], DecisionConfig()).is_matched is None


def test_the_absolute_rule_looks_at_the_means_and_needs_no_teacher() -> None:
    rule = DecisionConfig(rule="absolute", absolute_precision=90, absolute_similarity=85.5)
    high = measured(Metric.PRECISION, None, None, None, mean=90.0).student
    low = measured(Metric.SIMILARITY, None, None, None, mean=84.0).student
    verdict = judge_match(
        [Evidence(Metric.PRECISION, high), Evidence(Metric.SIMILARITY, low)], rule
    )
    assert verdict.is_matched is False
    assert [item.is_matched for item in verdict.metrics] == [True, False]
    assert verdict.ground == "The mean similarity, 84.0, is below 85.5."
    assert "has a mean precision of 90.0" in verdict.claim


def test_the_p_match_rule_looks_at_the_point_estimate() -> None:
    rule = DecisionConfig(rule="p_match", p_match_target=90)
    evidence = [measured(Metric.PRECISION, 0.91, 0.7, 1.1)]
    assert judge_match(evidence, rule).is_matched is True
    failed = judge_match([measured(Metric.PRECISION, 0.89, 0.7, 1.1)], rule)
    assert plain(failed.ground) == "The P-Match, 89.0 %, is below 90 %."


def test_gathered_evidence_pairs_student_and_teacher_by_prompt() -> None:
    scores = {f"p{i}": np.array([60.0 + i, 70.0 + i]) for i in range(20)}
    (evidence,) = gather(
        {Metric.PRECISION: scores}, {Metric.PRECISION: scores}, resamples=300, seed=1
    )
    assert evidence.ratio is not None
    assert (evidence.ratio.mean.low, evidence.ratio.mean.high) == (1.0, 1.0)
    (alone,) = gather({Metric.PRECISION: scores}, None, resamples=300, seed=1)
    assert alone.ratio is None
    verdict = judge_match([evidence], DecisionConfig(resamples=300))
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_the_report_says_who_judged_whom() -> None:
    offline = ServiceConfig(provider="offline", model="tutor")
    remote = ServiceConfig(provider="openai_compatible", model="big")
    demo = PipelineConfig(teacher=offline, judges=(JudgeConfig(provider="offline", model="tutor"),))
    assert len(caveats(demo)) == 2
    assert all("not an LLM" in line.replace("not an LLM's", "not an LLM") for line in caveats(demo))
    own = PipelineConfig(
        teacher=remote, judges=(JudgeConfig(provider="openai_compatible", model="big"),)
    )
    assert caveats(own) == [
        "openai_compatible:big is teacher and judge: models tend to prefer their own answers."
    ]
    fair = PipelineConfig(
        teacher=remote, judges=(JudgeConfig(provider="openai_compatible", model="other"),)
    )
    assert caveats(fair) == []
    on_test = fair.model_copy(update={"decision": DecisionConfig(split="test")})
    assert "inflates P-Match" in caveats(on_test)[0]


def test_contaminated_pairs_accepted_by_hand_are_a_caveat() -> None:
    config = PipelineConfig()
    assert caveats(config, 0) == []
    assert "1 synthetic pair too close" in caveats(config, 1)[0]
    assert "1,200 synthetic pairs too close" in caveats(config, 1200)[0]


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.937, 0.921, 0.952), "93.7 % (92.1-95.2)"),
        (Estimate(0.937, reason="one scored prompt"), "93.7 %"),
        (Estimate(None), "-"),
    ],
)
def test_estimates_are_written_with_their_interval(estimate: Estimate, text: str) -> None:
    assert plain(format_estimate(estimate, scale=100, unit="%")) == text
