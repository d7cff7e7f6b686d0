"""The check job: tries a service LLM out, in a child because the SDKs are slow to load."""

from __future__ import annotations

import asyncio
from typing import Any

from llamaduo_gui.core.errors import JobCancelledError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.providers.check import ConnectionReport, check_service, service_to_check
from llamaduo_gui.worker.protocol import JobSpec

CHECK = "check"
_POLL_S = 0.05


def check_spec(provider: str, model: str = "", base_url: str | None = None) -> JobSpec:
    """The job that tries out this service; without a model only the connection and the list."""
    options = {"provider": provider, "model": model, "base_url": base_url}
    return JobSpec(CHECK, options=options, providers=(provider,))


def run_check(spec: JobSpec, context: JobContext) -> dict[str, Any]:
    """Try out what `check_spec` describes.

    Returns:
        The fields of ConnectionReport, whether or not it is ok.

    Raises:
        JobCancelledError: the parent cancelled, or is gone.
    """
    return asyncio.run(_watched(spec, context)).to_dict()


async def _watched(spec: JobSpec, context: JobContext) -> ConnectionReport:
    service = service_to_check(**spec.options)
    task = asyncio.create_task(check_service(service, context.secrets))
    while not task.done():
        await asyncio.wait({task}, timeout=_POLL_S)
        if context.cancel_requested.is_set() and not task.done():
            # asyncio.run cancels the task.
            raise JobCancelledError("Stopped.")
    return task.result()
