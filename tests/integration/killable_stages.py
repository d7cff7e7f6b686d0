"""Runs real stages in processes that a test may kill.

Each line of standard input is `STAGE<tab>PROJECT FOLDER`. The stage runs in a fork of this process,
which has imported everything already: a start takes milliseconds, not a second. Printed are the
fork's process id and, when it has ended, its exit status.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import openai  # noqa: F401 - imported before the forks, which then need not
from genai_prices.data_snapshot import get_snapshot

from llamaduo_gui.core.events import Event
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.evaluation.stage import run_judging
from llamaduo_gui.store.project import Project
from llamaduo_gui.synthesis.stage import run_synthesis

SYNTHESIS = "synthesize:r1"
ANSWERS = "infer:tuned:validation:r0"
JUDGING = "judge:tuned:validation:r0"


def ignore(_event: Event) -> None:
    """Nobody listens."""


def run_stage(name: str, folder: Path) -> None:
    """Run a stage from its start or from where it was stopped."""
    with Project.open(folder) as project:
        context = JobContext(emit=ignore)
        config = project.config
        if name == "synthesize":
            run = project.runs.find_or_create(SYNTHESIS, Stage.SYNTHESIZE, round_number=1)
            project.runs.start(run.id, {})
            summary = run_synthesis(project, run, context, round_number=1, config=config)
        else:
            run = project.runs.find_or_create(JUDGING, Stage.JUDGE)
            project.runs.start(run.id, {})
            answers = project.runs.by_key(ANSWERS)
            assert answers is not None
            summary = run_judging(project, run, context, candidate_run_id=answers.id, config=config)
        project.runs.finish(run.id, RunStatus.SUCCEEDED, summary=summary)


def main() -> None:
    """Fork for each line of standard input."""
    get_snapshot()
    for line in sys.stdin:
        name, folder = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                run_stage(name, Path(folder))
                status = 0
            except Exception:  # noqa: BLE001 - the test reads it from standard error
                traceback.print_exc()
            finally:
                os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
