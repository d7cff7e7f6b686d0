"""Tests of what a judged round says to the synthesis of the next one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import Split
from llamaduo_gui.pipeline.feedback import seed_weights
from llamaduo_gui.store.project import Project
from tests.gui.projects import make_judged_project


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[Project]:
    """Rounds 0 and 1 are judged, and the strategy is failure-driven."""
    with make_judged_project(tmp_path / "project", prompts=12) as project:
        yield project


def with_strategy(project: Project, strategy: str) -> PipelineConfig:
    config = project.config
    synthesis = config.synthesis.model_copy(update={"strategy": strategy})
    return config.model_copy(update={"synthesis": synthesis})


def test_every_training_record_has_a_weight_from_the_round_before(judged: Project) -> None:
    weights = seed_weights(judged, judged.config, 1)
    train = {row.record.prompt_id for row in judged.records.by_split(Split.TRAIN)}
    assert weights is not None
    assert set(weights) == train
    assert len(set(weights.values())) > 1
    later = seed_weights(judged, judged.config, 2)
    assert later is not None
    assert sum(later.values()) < sum(weights.values()), "round 1 scores better than round 0"


def test_a_round_keeps_the_weights_it_began_with(judged: Project) -> None:
    before = seed_weights(judged, judged.config, 1)
    with judged._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE judgements SET precision = 1, similarity = 1")
    assert seed_weights(judged, judged.config, 1) == before
    fresh = seed_weights(judged, judged.config, 2)
    assert fresh is not None
    assert set(fresh.values()) == {100.0}


@pytest.mark.parametrize("strategy", ["uniform", "breadth"])
def test_the_other_strategies_take_nothing_from_validation(judged: Project, strategy: str) -> None:
    assert seed_weights(judged, with_strategy(judged, strategy), 1) is None


def test_a_round_after_one_that_was_not_judged_has_no_weights(judged: Project) -> None:
    assert seed_weights(judged, judged.config, 3) is None
