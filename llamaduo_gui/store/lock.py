"""One working process at a time in a project: an operating-system lock on a file in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.store.project import Project


@contextmanager
def working_lock(project: Project) -> Iterator[None]:
    """Hold the project for one job; runs left behind by a dead process become interrupted.

    The system releases the lock when the process dies, however it dies.

    Raises:
        UserError: another process is working in the project.
    """
    lock = FileLock(project.folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"Another job is running in {project.name}; wait for it or stop it first."
        ) from error
    try:
        project.runs.mark_interrupted()
        yield
    finally:
        lock.release()


def find_interrupted(project: Project) -> bool:
    """Settle runs a dead process left behind; False if a live process is at work."""
    try:
        with working_lock(project):
            return True
    except UserError:
        return False
