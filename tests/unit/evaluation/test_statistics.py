"""The report's numbers: definitions, pairing, clustering, and what happens when data run out."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaduo_gui.evaluation import bootstrap
from llamaduo_gui.evaluation.statistics import (
    STATISTICS,
    Comparison,
    CoverageCurve,
    Estimate,
    GroupedPrompt,
    Summary,
    coverage_curve,
    difference,
    p_match,
    p_match_of_values,
    ratio,
    summarize,
)

Scores = dict[str, np.ndarray]

score = st.one_of(
    st.floats(min_value=1, max_value=100, allow_nan=False), st.integers(1, 100), st.just(math.nan)
)
scores_by_prompt = st.dictionaries(
    st.text(alphabet="abcdefgh", min_size=1, max_size=4),
    st.lists(score, max_size=4).map(lambda values: np.array(values, dtype=np.float64)),
    max_size=12,
)
scored_prompts = st.dictionaries(
    st.text(alphabet="abcdefgh", min_size=1, max_size=4),
    st.lists(st.integers(1, 100), min_size=1, max_size=4).map(
        lambda values: np.array(values, dtype=np.float64)
    ),
    min_size=2,
    max_size=12,
)


def draw_scores(seed: int, prompts: int, *, level: float = 75.0, samples: int = 4) -> Scores:
    """Scores that share a level within each prompt."""
    generator = np.random.default_rng(seed)
    levels = generator.normal(level, 10, size=prompts)
    return {
        f"p{i:03d}": np.clip(np.round(levels[i] + generator.normal(0, 6, samples)), 1, 100)
        for i in range(prompts)
    }


def numbers(item: Summary | Comparison) -> list[Estimate]:
    return [getattr(item, name) for name in STATISTICS]


def test_means_and_coverages_are_over_the_sampled_responses_not_the_prompts() -> None:
    scores = {"a": np.array([100.0, 40.0, 40.0, 40.0]), "b": np.array([60.0])}
    summary = summarize(scores)
    assert summary.mean.value == pytest.approx(280 / 5)
    assert summary.coverage_50.value == pytest.approx(40.0)
    assert summary.coverage_70.value == pytest.approx(20.0)
    assert (summary.n_prompts, summary.n_responses, summary.n_unscored) == (2, 5, 0)


def test_a_score_exactly_at_the_threshold_is_covered_even_after_averaging_thirds() -> None:
    third = (69 + 69 + 70) / 3
    pooled = (third + (140 - third)) / 2
    almost = np.array([pooled, np.nextafter(70, 0), 69.99])
    summary = summarize({"a": almost, "b": almost})
    assert summary.coverage_70.value == pytest.approx(200 / 3)


def test_unscored_responses_are_counted_and_change_no_other_number() -> None:
    clean = draw_scores(1, 20)
    holed = {prompt: np.append(values, np.nan) for prompt, values in clean.items()}
    before, after = summarize(clean), summarize(holed)
    assert numbers(before) == numbers(after)
    assert (after.n_responses, after.n_unscored) == (100, 20)


def test_a_prompt_without_any_score_stays_in_the_counts_and_out_of_the_resamples() -> None:
    clean = draw_scores(2, 15)
    holed = {**clean, "zz": np.array([np.nan, np.nan])}
    assert numbers(summarize(clean)) == numbers(summarize(holed))
    assert summarize(holed).n_prompts == 16
    assert summarize(holed).n_unscored == 2


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    scores = draw_scores(3, 30)
    assert summarize(scores, seed=5) == summarize(scores, seed=5)
    assert summarize(scores, seed=5).mean.low != summarize(scores, seed=6).mean.low


def test_repeating_every_response_of_a_prompt_does_not_narrow_the_interval() -> None:
    """What a bootstrap that is not clustered by prompt gets wrong."""
    scores = draw_scores(4, 25)
    tripled = {prompt: np.tile(values, 3) for prompt, values in scores.items()}
    assert numbers(summarize(scores)) == numbers(summarize(tripled))


def test_prompts_about_one_passage_are_drawn_together() -> None:
    """Copying a prompt into a group of four adds no information, so the interval stays."""
    rng = np.random.default_rng(3)
    alone = {f"p{n}": rng.integers(1, 101, 2).astype(float) for n in range(12)}
    grouped = {
        GroupedPrompt(f"{prompt}-{copy}", prompt): values
        for prompt, values in alone.items()
        for copy in range(4)
    }
    as_prompts = {str(prompt): values for prompt, values in grouped.items()}
    assert summarize(grouped).mean == summarize(alone).mean
    assert summarize(grouped).n_prompts == 48
    wide, narrow = summarize(grouped).mean, summarize(as_prompts).mean
    assert wide.high is not None
    assert wide.low is not None
    assert narrow.high is not None
    assert narrow.low is not None
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert ratio(grouped, grouped).n_prompts == 48
    worse = {prompt: values / 2 for prompt, values in grouped.items()}
    alone_worse = {prompt: values / 2 for prompt, values in alone.items()}
    assert ratio(worse, grouped).mean == ratio(alone_worse, alone).mean


def test_one_group_has_a_value_and_no_interval() -> None:
    scores = {GroupedPrompt(f"p{n}", "g"): np.array([60.0, 70.0]) for n in range(3)}
    found = summarize(scores).mean
    assert (found.value, found.low) == (65.0, None)
    assert "group" in found.reason


def test_the_interval_holds_the_true_mean_about_nineteen_times_in_twenty() -> None:
    hits = 0
    for seed in range(200):
        found = summarize(draw_scores(seed, 40, level=60.0), resamples=600, seed=seed).mean
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 60.0 <= found.high
    # 95 % nominal; the percentile bootstrap with 40 clusters is a little short of it.
    assert 180 <= hits <= 198


def test_a_model_compared_with_itself_has_ratio_one_without_uncertainty() -> None:
    """Only a paired bootstrap gives a zero-width interval here."""
    scores = draw_scores(5, 30)
    same = ratio(scores, scores)
    assert [(e.value, e.low, e.high) for e in numbers(same)] == [(1.0, 1.0, 1.0)] * 3
    assert [e.value for e in numbers(difference(scores, scores))] == [0.0] * 3


def test_the_paired_interval_of_correlated_models_is_narrower_than_the_unpaired_one() -> None:
    teacher = draw_scores(6, 40)
    generator = np.random.default_rng(0)
    student = {
        p: np.clip(v - 5 + generator.normal(0, 1, len(v)), 1, 100) for p, v in teacher.items()
    }
    renamed = {f"x{prompt}": values for prompt, values in student.items()}

    def width(found: Comparison) -> float:
        assert found.mean.low is not None
        assert found.mean.high is not None
        return found.mean.high - found.mean.low

    assert width(ratio(student, teacher)) < 0.4 * width(ratio(renamed, teacher))


def test_p_match_of_one_pair_is_a_hundred_times_the_ratio() -> None:
    student, teacher = draw_scores(7, 20, level=60), draw_scores(8, 20, level=80)
    matched, divided = p_match([student], [teacher]), ratio(student, teacher)
    for percent, fraction in zip(numbers(matched), numbers(divided), strict=True):
        assert fraction.value is not None
        assert percent.value == pytest.approx(100 * fraction.value)
        assert percent.low == pytest.approx(
            100 * (math.nan if fraction.low is None else fraction.low)
        )


def test_p_match_takes_each_best_independently() -> None:
    high_mean = {"a": np.array([100.0, 49.0]), "b": np.array([100.0, 49.0])}
    high_coverage = {"a": np.array([55.0, 55.0]), "b": np.array([55.0, 55.0])}
    service = {"a": np.array([80.0, 80.0]), "b": np.array([80.0, 80.0])}
    found = p_match([high_mean, high_coverage], [service, high_coverage])
    assert found.mean.value == pytest.approx(100 * 74.5 / 80)
    assert found.coverage_50.value == pytest.approx(100.0)
    assert found.coverage_70.value == pytest.approx(50.0)


def test_p_match_is_the_ratio_of_the_numbers_in_the_table_when_some_are_unscored() -> None:
    student, teacher = draw_scores(9, 12), draw_scores(10, 12)
    student["p000"][:] = np.nan
    top, bottom = summarize(student).mean.value, summarize(teacher).mean.value
    assert top is not None
    assert bottom is not None
    assert p_match([student], [teacher]).mean.value == pytest.approx(100 * top / bottom)


def test_nothing_scored_has_a_reason_and_no_number() -> None:
    unscored = summarize({"a": np.array([np.nan]), "b": np.array([np.nan, np.nan])})
    assert unscored.mean == Estimate(None, reason="none of the 3 responses was scored")
    assert unscored.n_unscored == 3
    assert summarize({}).coverage_50 == Estimate(None, reason="no responses")
    against = ratio(draw_scores(1, 5), {"p000": np.array([np.nan])})
    assert against.mean == Estimate(None, reason="the teacher has no scored response")
    assert coverage_curve({}, [50]).reason == "no scored response"


def test_one_prompt_has_a_value_and_no_interval() -> None:
    only = {"a": np.array([80.0, 60.0])}
    for found in (*numbers(summarize(only)), *numbers(ratio(only, only))):
        assert found.value is not None
        assert (found.low, found.high) == (None, None)
        assert "one scored prompt" in found.reason
    assert coverage_curve(only, [50]).low == ()


def test_scores_that_are_all_equal_give_a_zero_width_interval_that_says_so() -> None:
    found = summarize({f"p{i}": np.array([80.1, 80.1, 80.1]) for i in range(7)}).mean
    assert found.value == found.low == found.high == 80.1
    assert found.reason == "every resample gives the same value"


def test_a_teacher_whose_coverage_is_zero_makes_no_ratio() -> None:
    weak = {"a": np.array([20.0, 30.0]), "b": np.array([20.0, 30.0])}
    found = ratio(draw_scores(1, 2), weak)
    assert found.mean.value is not None
    assert found.coverage_50 == Estimate(None, reason="the teacher's value is 0")


def test_a_coverage_that_is_often_zero_in_resamples_gets_no_interval() -> None:
    rare = {f"p{i}": np.array([95.0 if i == 0 else 20.0]) for i in range(10)}
    found = ratio(rare, rare).coverage_70
    assert found.value == 1.0
    assert (found.low, found.high) == (None, None)
    assert "of the resamples" in found.reason


def test_p_match_of_published_values_divides_the_best_by_the_best() -> None:
    assert p_match_of_values([36.0, 30.0], [41.0, 40.0]) == pytest.approx(87.80, abs=0.005)
    assert p_match_of_values([], [41.0]) is None
    assert p_match_of_values([1.0], [0.0]) is None


def test_the_coverage_curve_passes_through_the_table_and_never_rises() -> None:
    scores = draw_scores(11, 30)
    curve = coverage_curve(scores, range(1, 101))
    summary = summarize(scores)
    assert curve.values[49] == summary.coverage_50.value
    assert curve.values[69] == summary.coverage_70.value
    assert (curve.low[69], curve.high[69]) == (summary.coverage_70.low, summary.coverage_70.high)
    assert curve.values[0] == 100.0
    assert all(a >= b for a, b in zip(curve.values, curve.values[1:], strict=False))
    assert curve.n_responses == 120


def test_large_problems_are_resampled_in_blocks_with_the_same_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = draw_scores(12, 50)
    whole = summarize(scores, resamples=300)
    monkeypatch.setattr(bootstrap, "_CELLS_PER_BLOCK", 50 * 64)
    assert summarize(scores, resamples=300) == whole


@given(scores_by_prompt)
@settings(max_examples=60)
def test_no_input_puts_nan_or_infinity_into_the_json(scores: Scores) -> None:
    items: list[Summary | Comparison | CoverageCurve] = [
        summarize(scores, resamples=200),
        ratio(scores, scores, resamples=200),
        difference(scores, scores, resamples=200),
        coverage_curve(scores, [50, 70], resamples=200),
    ]
    for item in items:
        json.dumps(item.to_dict(), allow_nan=False)


@given(scores_by_prompt)
@settings(max_examples=60)
def test_the_mean_and_counts_are_those_of_all_responses_in_one_heap(scores: Scores) -> None:
    summary = summarize(scores, resamples=200)
    heap = np.concatenate([np.empty(0), *scores.values()])
    assert summary.n_responses == len(heap)
    assert summary.n_unscored == int(np.isnan(heap).sum())
    valid = heap[~np.isnan(heap)]
    if len(valid):
        assert summary.mean.value == pytest.approx(valid.mean())
        assert summary.coverage_50.value == pytest.approx(100 * np.mean(valid >= 50 - 1e-9))
    else:
        assert summary.mean.value is None


@given(scored_prompts, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_of_prompts_and_responses_does_not_matter(scores: Scores, random: object) -> None:
    prompts = list(scores)
    random.shuffle(prompts)  # type: ignore[attr-defined]
    shuffled: Mapping[str, np.ndarray] = {p: scores[p][::-1] for p in prompts}
    assert summarize(scores, resamples=200) == summarize(shuffled, resamples=200)


@given(scored_prompts)
@settings(max_examples=40)
def test_intervals_stay_within_the_scores_and_bounds_are_ordered(scores: Scores) -> None:
    heap = np.concatenate(list(scores.values()))
    found = summarize(scores, resamples=200)
    assert found.mean.low is not None
    assert found.mean.high is not None
    assert heap.min() - 1e-6 <= found.mean.low <= found.mean.high <= heap.max() + 1e-6
    for share in (found.coverage_50, found.coverage_70):
        assert 0 <= (share.low or 0) <= (share.high or 0) <= 100
    assert (found.coverage_50.value or 0) >= (found.coverage_70.value or 0)


@given(scored_prompts, st.floats(min_value=0.1, max_value=1.0))
@settings(max_examples=40)
def test_scaling_the_student_scales_the_ratio_of_means(scores: Scores, factor: float) -> None:
    scaled = {prompt: values * factor for prompt, values in scores.items()}
    found = ratio(scaled, scores, resamples=200).mean
    for bound in (found.value, found.low, found.high):
        assert bound == pytest.approx(factor, abs=1e-8)


def test_statistics_imports_nothing_heavy() -> None:
    code = (
        "import sys, llamaduo_gui.evaluation.statistics as s;"
        "print([m for m in ('pydantic','sqlalchemy','torch','openai','scipy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
