"""The steps of the loop that are still to come, those that may not come included."""

from __future__ import annotations

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import RunStatus, Split
from llamaduo_gui.pipeline.feedback import read_decisions
from llamaduo_gui.pipeline.plan import Step, final_steps, plan, round_steps
from llamaduo_gui.store.project import Project


def open_steps(project: Project, config: PipelineConfig) -> list[tuple[Step, bool]]:
    """Steps that are not finished, with whether they are certain to come."""
    done = {run.key for run in project.runs.all() if run.status is RunStatus.SUCCEEDED}
    decisions = read_decisions(project)
    last = config.decision.max_rounds
    steps = [(step, True) for step in plan(config, decisions, last)]
    present = max((step.round for step, _ in steps if step.round is not None), default=0)
    if present not in decisions:
        split = Split(config.decision.split)
        for number in range(present + 1, last + 1):
            steps += [(step, False) for step in round_steps(number, split)]
        ceiling = config.decision.noise_ceiling
        final = final_steps(present, config.export.quant, with_ceiling=ceiling)
        steps += [(step, True) for step in final]
    known: dict[str, tuple[Step, bool]] = {}
    for step, is_certain in steps:
        known.setdefault(step.key, (step, is_certain))
    return [entry for key, entry in known.items() if key not in done]
