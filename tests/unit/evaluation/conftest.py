"""Fixtures: a project with coverage records of two categories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.config import DecisionConfig, PipelineConfig, SplitConfig
from llamaduo_gui.core.types import Split
from llamaduo_gui.store.project import Project
from tests.unit.evaluation.judged_project import JUDGE, TEACHER, make_record


@pytest.fixture
def config() -> PipelineConfig:
    return PipelineConfig(
        task="sorting",
        teacher=TEACHER,
        judges=(JUDGE,),
        splits=SplitConfig(seed=7),
        decision=DecisionConfig(resamples=200),
    )


@pytest.fixture
def project(tmp_path: Path, config: PipelineConfig) -> Iterator[Project]:
    """Eight validation and eight test records in two categories, four for training."""
    with Project.create(tmp_path / "project <1>", config) as made:
        items = []
        for number in range(20):
            split = Split.VALIDATION if number < 8 else Split.TEST if number < 16 else Split.TRAIN
            record = make_record(number, "sorting" if number % 2 else "search")
            items.append((record, split, f"coverage.jsonl:{number + 1}"))
        made.records.add_coverage(items)
        yield made
