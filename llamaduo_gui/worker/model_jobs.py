"""The job that downloads a base model: in a child, so that it can be stopped at any time."""

from __future__ import annotations

from typing import Any

from llamaduo_gui.core.events import Progress
from llamaduo_gui.core.hub_models import download_model
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.worker.protocol import JobSpec

DOWNLOAD = "download"
_UNIT = 10**6


def download_spec(model_id: str, revision: str = "main") -> JobSpec:
    """The job that downloads this model."""
    return JobSpec(DOWNLOAD, options={"model": model_id, "revision": revision})


def run_download(spec: JobSpec, context: JobContext) -> dict[str, Any]:
    """Download what `download_spec` names.

    Returns:
        The fields of `core.hub_models.Downloaded`.

    Raises:
        UserError: it cannot be downloaded.
        JobCancelledError: the user asked to stop; what came is kept.
    """
    told = -1

    def report(done: int, total: int) -> None:
        nonlocal told
        if done * 200 // max(1, total) != told:
            told = done * 200 // max(1, total)
            context.emit(Progress(run_id=0, done=done // _UNIT, total=total // _UNIT, units="MB"))

    found = download_model(
        str(spec.options["model"]),
        str(spec.options.get("revision") or "main"),
        on_progress=report,
        check_cancelled=context.check_cancelled,
    )
    return found.to_dict()
