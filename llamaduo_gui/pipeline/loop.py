"""The LlamaDuo loop: step after step until the student matches or the rounds are used up."""

from __future__ import annotations

from typing import Any

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.pipeline.execute import Executor
from llamaduo_gui.pipeline.feedback import read_decisions
from llamaduo_gui.pipeline.plan import UNTIL_STAGES, Step, next_step
from llamaduo_gui.pipeline.spending import PAID_STAGES, put_budget_in_force
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RunRow

PIPELINE_KEY = "pipeline"
REPORT_STEP = Step("report", Stage.REPORT)


def run_pipeline(
    project: Project,
    context: JobContext,
    *,
    last_round: int | None = None,
    until: str | None = None,
) -> dict[str, Any]:
    """Run the loop from wherever it stands; finished steps are not repeated.

    Args:
        project: an open project whose lock is held.
        context: reports and cancellation.
        last_round: number of the last round that may happen; None takes the configured one.
        until: name of a stage; the loop stops after the next step of that stage.

    Returns:
        The report's summary when the loop came to its end, else what is done so far.

    Raises:
        UserError: the settings do not allow a run, or a step failed in a way the user can mend.
    """
    config = project.config
    config.require_services()
    put_budget_in_force(project, context, config, PAID_STAGES)
    last = config.decision.max_rounds if last_round is None else last_round
    stop_after = _stage(until)
    parent = project.runs.find_or_create(
        PIPELINE_KEY, Stage.PIPELINE, config=config.model_dump(mode="json"), seed=config.seed
    )
    executor = Executor(project, context, config, last, parent.id)
    result: dict[str, Any] = {}

    def work() -> dict[str, Any]:
        nonlocal result
        result = _loop(executor, stop_after)
        return {"is_complete": result.get("is_complete", False)}

    executor.record(parent, work)
    return result


def _loop(executor: Executor, stop_after: Stage | None) -> dict[str, Any]:
    project, config = executor.project, executor.config
    did_anything = False
    while True:
        finished = {r.key for r in project.runs.all() if r.status is RunStatus.SUCCEEDED}
        decisions = read_decisions(project)
        step = next_step(config, finished, decisions, executor.last_round)
        if step is None:
            break
        run = executor.run(step)
        did_anything = True
        if stop_after is step.stage or executor.context.pause_requested.is_set():
            executor.context.log("loop", f"Paused after {run.key}.")
            return {"is_complete": False, "stopped_after": run.key, "summary": run.summary}
    report = project.runs.by_key(REPORT_STEP.key)
    if report is not None and report.status is RunStatus.SUCCEEDED and not did_anything:
        executor.context.log("loop", "Nothing left to do; the report is up to date.")
        return {"is_complete": True, **report.summary}
    return {"is_complete": True, **write_report(executor).summary}


def write_report(executor: Executor) -> RunRow:
    """Write the report anew from what the database holds."""
    from llamaduo_gui.evaluation.stage_report import run_report

    row = executor.project.runs.find_or_create(
        REPORT_STEP.key,
        REPORT_STEP.stage,
        config=executor.config.model_dump(mode="json"),
        seed=executor.config.seed,
        parent_id=executor.parent_id,
    )
    return executor.record(row, lambda: run_report(executor.project, row, executor.context))


def _stage(name: str | None) -> Stage | None:
    if name is None:
        return None
    valid = [stage.value for stage in UNTIL_STAGES]
    if name not in valid:
        raise UserError(f"There is no stage {name!r}; choose one of {', '.join(valid)}.")
    return Stage(name)
