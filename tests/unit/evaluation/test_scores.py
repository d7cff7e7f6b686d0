"""From judgements in the database to response scores."""

from __future__ import annotations

import numpy as np
import pytest

from llamaduo_gui.core.types import Metric
from llamaduo_gui.evaluation.scores import (
    POOLED,
    category_scores,
    load_scores,
)
from llamaduo_gui.evaluation.statistics import GroupedPrompt
from llamaduo_gui.store.project import PASSAGE_GROUPS, Project
from tests.unit.evaluation.judged_project import JUDGE, add_answers, add_judgements


def test_a_response_score_is_the_mean_of_its_valid_repeats(project: Project) -> None:
    answers = add_answers(project, "tuned:r0:validation")
    add_judgements(project, answers, lambda n, k: [(60, 50), (80, None), (None, None)])
    scores = load_scores(project, answers.id)
    precision = scores.by_prompt(Metric.PRECISION, JUDGE.name)
    assert set(precision) == {f"p{n:02d}" for n in range(8)}
    assert precision["p03"].tolist() == [70.0, 70.0]
    assert scores.by_prompt(Metric.SIMILARITY)["p03"].tolist() == [50.0, 50.0]


def test_a_response_whose_every_repeat_failed_is_unscored(project: Project) -> None:
    answers = add_answers(project, "tuned:r0:validation")
    add_judgements(project, answers, lambda n, k: [(None, None)] if n == 2 else [(90, 90)])
    scores = load_scores(project, answers.id)
    assert np.isnan(scores.by_prompt(Metric.PRECISION)["p02"]).all()
    (report,) = scores.reports
    assert (report.judgements, report.unscored, scores.n_unscored) == (16, 2, 2)
    assert report.repeat_sd[Metric.PRECISION] is None


def test_the_pool_is_the_mean_of_all_judges_and_needs_every_one(project: Project) -> None:
    answers = add_answers(project, "tuned:r0:validation")
    add_judgements(project, answers, lambda n, k: [(90, 90)], judge="a:1")
    add_judgements(
        project, answers, lambda n, k: [(None, None)] if n == 0 else [(50, 70)], judge="b:2"
    )
    scores = load_scores(project, answers.id, ["a:1", "b:2"])
    pooled = scores.by_prompt(Metric.PRECISION)
    assert pooled["p01"].tolist() == [70.0, 70.0]
    assert np.isnan(pooled["p00"]).all()
    assert scores.by_prompt(Metric.PRECISION, "a:1")["p00"].tolist() == [90.0, 90.0]


def test_responses_that_a_judge_has_not_reached_are_left_out_of_its_scores(
    project: Project,
) -> None:
    answers = add_answers(project, "tuned:r0:validation")
    add_judgements(project, answers, lambda n, k: [(90, 90)] if n < 3 and k == 0 else [])
    scores = load_scores(project, answers.id)
    found = scores.by_prompt(Metric.PRECISION)
    assert {prompt: len(values) for prompt, values in found.items()} == {
        "p00": 1,
        "p01": 1,
        "p02": 1,
    }
    assert POOLED not in scores.responses[-1].scores


def test_judges_that_are_not_configured_any_more_do_not_enter_the_pool(project: Project) -> None:
    answers = add_answers(project, "service:validation")
    add_judgements(project, answers, lambda n, k: [(90, 90)], judge="old:judge")
    assert load_scores(project, answers.id).metrics() == {metric: {} for metric in Metric}
    by_old = load_scores(project, answers.id, ["old:judge"])
    assert by_old.by_prompt(Metric.PRECISION)["p00"].tolist() == [90.0, 90.0]


def test_the_spread_of_repeats_is_measured(project: Project) -> None:
    answers = add_answers(project, "tuned:r0:validation")
    add_judgements(project, answers, lambda n, k: [(60, 80), (70, 80), (80, 80)])
    (report,) = load_scores(project, answers.id).reports
    assert report.repeat_sd[Metric.PRECISION] == pytest.approx(10.0)
    assert report.repeat_sd[Metric.SIMILARITY] == 0.0


def test_categories_are_ranked_from_the_weakest(project: Project) -> None:
    answers = add_answers(project, "tuned:r0:validation")
    add_judgements(project, answers, lambda n, k: [(30, 50)] if n % 2 else [(90, 100)])
    weakest, strongest = category_scores(load_scores(project, answers.id))
    assert (weakest.category, weakest.mean) == ("sorting", 40.0)
    assert (strongest.category, strongest.mean) == ("search", 95.0)
    assert (weakest.n_prompts, weakest.n_responses) == (4, 8)


def test_a_category_without_scores_comes_last_and_has_no_mean(project: Project) -> None:
    answers = add_answers(project, "tuned:r0:validation")
    add_judgements(project, answers, lambda n, k: [(None, None)] if n % 2 else [(90, 100)])
    found = category_scores(load_scores(project, answers.id))
    assert [(item.category, item.mean) for item in found] == [("search", 95.0), ("sorting", None)]


def test_prompts_that_share_a_passage_are_marked_as_a_group(project: Project) -> None:
    answers = add_answers(project, "tuned:r0:validation")
    add_judgements(project, answers, lambda n, k: [(90, 90)])
    project.set_setting(PASSAGE_GROUPS, {"p01": 7, "p04": 7})
    found = load_scores(project, answers.id).by_prompt(Metric.PRECISION)
    groups = {str(key): key.group for key in found if isinstance(key, GroupedPrompt)}
    assert groups == {"p01": "7", "p04": "7"}
    assert len(found) == 8
