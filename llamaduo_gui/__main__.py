"""`python -m llamaduo_gui`: the window, the headless commands, or (with --worker) a job's child."""

from __future__ import annotations

import sys


def main() -> int:
    """Dispatch on the first argument; returns the exit code."""
    if sys.argv[1:2] == ["--worker"]:
        from llamaduo_gui.worker.child import main as run_worker

        return run_worker()
    from llamaduo_gui.cli import main as run_command

    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
