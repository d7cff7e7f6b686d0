"""Words for the job bar: what runs, in which round, how far, and how the last job ended."""

from __future__ import annotations

import time

from llamaduo_gui.core.budget import is_budget_stop
from llamaduo_gui.core.types import Stage
from llamaduo_gui.gui.session import ProjectSession
from llamaduo_gui.gui.widgets.job_bar import JobStatus
from llamaduo_gui.gui.widgets.progress import ProgressState

STAGE_VERBS: dict[str, str] = {
    Stage.SYNTHESIZE: "Synthesising",
    Stage.FINETUNE: "Fine-tuning",
    Stage.INFER: "Answering",
    Stage.JUDGE: "Judging",
    Stage.DECIDE: "Deciding",
    Stage.EXPORT: "Exporting",
    Stage.CERTIFY: "Certifying",
    Stage.REPORT: "Writing the report",
    Stage.PIPELINE: "Working",
    "pilot": "Trying calls",
}

MODEL_NAMES: dict[str, str] = {
    "service": "service LLM",
    "ceiling": "service LLM again",
    "base": "untuned base",
    "tuned": "tuned student",
    "gguf": "GGUF",
}


def describe_job(session: ProjectSession) -> JobStatus:
    """What the running job is doing."""
    if session.is_cancelling:
        return JobStatus("Stopping", "finishing what is in flight", "warn")
    run, progress = session.current_run, session.current_progress
    if run is None:
        return JobStatus("Starting", "loading the worker")
    verb = STAGE_VERBS.get(run.stage, run.stage)
    place = "For the forecast" if run.stage == "pilot" else "Baselines"
    parts = [f"Round {run.round}" if run.round is not None else place]
    if run.label:
        parts.append(MODEL_NAMES.get(run.label, run.label))
    if progress is None or progress.total <= 0:
        return JobStatus(verb, " · ".join(parts))
    parts.append(f"{progress.done:,} of {progress.total:,} {progress.units}".rstrip())
    is_full = progress.done >= progress.total
    state = ProgressState(
        progress.done,
        progress.total,
        progress.units,
        progress.eta_s,
        finishing=(progress.message or "saving") if is_full else "",
    )
    return JobStatus(verb, " · ".join(parts), progress=state)


def describe_idle(session: ProjectSession) -> str:
    """How the last job of this session, or of an earlier one, ended."""
    result = session.last_result
    if result is not None and result.status != "succeeded":
        return "Budget reached" if is_budget_stop(result.error) else f"Last job {result.status}"
    finished = [run.finished_at for run in session.project.runs.all() if run.finished_at]
    if not finished:
        return "Nothing has run yet"
    return f"Last run finished {time.strftime('%H:%M', time.localtime(max(finished)))}"
