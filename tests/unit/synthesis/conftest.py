"""Fixtures of the synthesis tests: a small project, and a round asked of a scripted teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Stage
from llamaduo_gui.store.project import Project
from llamaduo_gui.synthesis.stage import run_synthesis
from tests.unit.synthesis.scripted import ScriptedTeacher, make_config, make_context, make_project

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with make_project(tmp_path / "project", make_config()) as made:
        yield made


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run one round with a scripted teacher."""

    def run(
        project: Project,
        teacher: ScriptedTeacher,
        *,
        round_number: int = 1,
        config: PipelineConfig | None = None,
        context: JobContext | None = None,
        weights: dict[str, float] | None = None,
    ) -> dict[str, Any]:
        monkeypatch.setattr("llamaduo_gui.synthesis.stage.make_provider", lambda *_: teacher)
        row = project.runs.find_or_create(
            f"synthesize:r{round_number}", Stage.SYNTHESIZE, round_number=round_number
        )
        return run_synthesis(
            project,
            row,
            context or make_context(),
            round_number=round_number,
            config=config or make_config(),
            seed_weights=weights,
        )

    return run
