"""Puts the project's budget in force for a job, and says when a run was stopped by it."""

from __future__ import annotations

from collections.abc import Collection

from llamaduo_gui.core.budget import Budget
from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Stage
from llamaduo_gui.providers.budget import require_prices
from llamaduo_gui.store.project import Project

PAID_STAGES = frozenset({Stage.SYNTHESIZE, Stage.INFER, Stage.JUDGE})


def put_budget_in_force(
    project: Project, context: JobContext, config: PipelineConfig, stages: Collection[Stage]
) -> None:
    """Limit what a job may spend to `budget.usd`; without one, to nothing.

    Args:
        project: whose spending counts.
        context: the job's; its engines look the budget up here.
        config: the settings the job runs with.
        stages: the stages it may come to; only their services need a price.

    Raises:
        ConfigError: a budget is set and a service has no known price.
    """
    limit_usd = config.budget.usd
    if limit_usd is None:
        context.budget = None
        return
    require_prices(limit_usd, services_of(config, stages))
    context.budget = Budget(limit_usd, project.costs.spent_usd)


def services_of(config: PipelineConfig, stages: Collection[Stage]) -> list[ServiceConfig]:
    """The services that some stages ask, each once."""
    found: dict[str, ServiceConfig] = {}
    if config.teacher is not None and {Stage.SYNTHESIZE, Stage.INFER} & set(stages):
        found[config.teacher.name] = config.teacher
    if Stage.JUDGE in stages:
        for judge in config.judges:
            found.setdefault(judge.name, judge)
    return list(found.values())
