"""One of several training processes, started by accelerate: `... training.launch SPEC.json`."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.ml_libraries import prepare_ml_libraries
from llamaduo_gui.training.reporting import LineSink


def main() -> int:
    """Train as one of the processes; the first one reports and writes the result."""
    # The report has standard output to itself; whatever libraries print goes to standard error.
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sink = LineSink(stream)
    prepare_ml_libraries()
    try:
        from llamaduo_gui.training.process import run_process

        run_process(Path(sys.argv[1]), sink)
    except LlamaDuoError as error:
        detail = dict(error.detail) if isinstance(error, UserError) else {}
        is_user_error = isinstance(error, UserError)
        sink.send("failure", text=str(error), is_user_error=is_user_error, detail=detail)
        return 1
    except Exception as error:  # noqa: BLE001
        # The one place where a bug becomes a message: the traceback goes to the log file.
        traceback.print_exc(file=sys.stderr)
        sink.send("failure", text=f"{type(error).__name__}: {error}"[:2000], is_user_error=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
