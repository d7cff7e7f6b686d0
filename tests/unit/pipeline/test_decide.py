"""When the loop goes on and when it ends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaduo_gui.core.config import DecisionConfig
from llamaduo_gui.core.types import Metric
from llamaduo_gui.evaluation.statistics import Comparison, Estimate, Summary
from llamaduo_gui.evaluation.verdict import Evidence
from llamaduo_gui.pipeline.decide import decide, is_plateau, round_score

NOTHING = Estimate(None)


def measured(low: float | None, *, mean: float | None = 70.0) -> list[Evidence]:
    """Both metrics with this lower bound of the ratio and this mean."""
    summary = Summary(Estimate(mean), NOTHING, NOTHING, 50, 200, 0)
    ratio = Comparison(Estimate(low, low, low), NOTHING, NOTHING, 50)
    return [Evidence(metric, summary, summary, ratio) for metric in Metric]


def test_a_match_ends_the_loop_and_is_the_round_to_export() -> None:
    decision = decide(measured(0.95, mean=60.0), DecisionConfig(), earlier_scores=[61.0])
    assert decision.is_matched is True
    assert decision.should_continue is False
    assert (decision.round, decision.best_round) == (1, 1)
    assert decision.reason.startswith("Matched: ")


def test_no_match_is_followed_by_another_round() -> None:
    decision = decide(measured(0.5), DecisionConfig())
    assert decision.is_matched is False
    assert decision.should_continue is True
    assert decision.reason.endswith("Round 1 follows.")
    json.dumps(decision.to_dict(), allow_nan=False)


def test_the_last_allowed_round_ends_the_loop() -> None:
    config = DecisionConfig(max_rounds=2, plateau_rounds=9)
    assert decide(measured(0.5, mean=3), config, earlier_scores=[1.0]).should_continue is True
    last = decide(measured(0.5, mean=3), config, earlier_scores=[1.0, 2.0])
    assert last.should_continue is False
    assert last.reason.endswith("Round 2 was the last one allowed.")


def test_rounds_without_a_better_mean_end_the_loop_and_the_best_is_exported() -> None:
    config = DecisionConfig(max_rounds=9, plateau_rounds=2)
    assert decide(measured(0.5, mean=69), config, earlier_scores=[50.0, 70.0]).should_continue
    stopped = decide(measured(0.5, mean=70), config, earlier_scores=[50.0, 70.0, 65.0])
    assert stopped.should_continue is False
    assert stopped.best_round == 1
    assert "no better validation mean" in stopped.reason


def test_a_round_better_than_all_before_resets_the_plateau() -> None:
    config = DecisionConfig(max_rounds=9, plateau_rounds=2)
    assert decide(measured(0.5, mean=71), config, earlier_scores=[50.0, 70.0, 65.0]).should_continue


def test_an_undecidable_round_ends_the_loop_and_says_why() -> None:
    decision = decide(measured(None), DecisionConfig())
    assert decision.is_matched is None
    assert decision.should_continue is False
    assert decision.reason.startswith("Undecided: ")


def test_no_service_baseline_is_undecidable() -> None:
    alone = [Evidence(item.metric, item.student) for item in measured(0.95)]
    decision = decide(alone, DecisionConfig())
    assert decision.is_matched is None
    assert "have not been judged" in decision.reason


def test_a_round_score_needs_every_metric() -> None:
    assert round_score(measured(0.5, mean=70.0)) == pytest.approx(70.0)
    half = [measured(0.5, mean=70.0)[0], measured(0.5, mean=None)[1]]
    assert round_score(half) is None
    assert round_score([]) is None


scores = st.lists(st.one_of(st.none(), st.floats(1, 100)), max_size=8)


@given(scores, st.integers(1, 4), st.integers(0, 8))
def test_the_loop_always_ends(earlier: list[float | None], patience: int, last: int) -> None:
    config = DecisionConfig(max_rounds=last, plateau_rounds=patience)
    decision = decide(measured(0.5), config, earlier_scores=earlier)
    assert decision.should_continue <= (decision.round < last)
    assert 0 <= decision.best_round <= decision.round


@given(scores, st.integers(1, 4))
def test_a_new_best_is_never_a_plateau(earlier: list[float | None], patience: int) -> None:
    assert not is_plateau([*earlier, 101.0], patience)
