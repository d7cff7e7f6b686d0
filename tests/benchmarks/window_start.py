"""How fast the window appears, beside an empty Qt window in the same run (ratio printed).

Run: python tests/benchmarks/window_start.py [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

OURS = """
import time
started = time.perf_counter()
from llamaduo_gui.gui.app import make_application
from llamaduo_gui.gui.main_window import MainWindow
from llamaduo_gui.gui.workspace import Workspace
app = make_application()
window = MainWindow(Workspace())
window.show()
app.processEvents()
print(time.perf_counter() - started, flush=True)
import os
os._exit(0)
"""

EMPTY = """
import time
started = time.perf_counter()
from PySide6.QtWidgets import QApplication, QMainWindow
app = QApplication([])
window = QMainWindow()
window.resize(1280, 800)
window.show()
app.processEvents()
print(time.perf_counter() - started, flush=True)
import os
os._exit(0)
"""


def measure(code: str, state: str) -> float:
    """Seconds from the first import to the painted window, in a fresh process."""
    environment = {**os.environ, "LLAMADUO_STATE_DIR": state}
    environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure both in turn, after one warm-up each, and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    ours, empty = [], []
    with tempfile.TemporaryDirectory() as state:
        for number in range(runs + 1):
            pair = (measure(OURS, state), measure(EMPTY, state))
            if number:
                ours.append(pair[0])
                empty.append(pair[1])
            time.sleep(0.1)
    first, second = statistics.median(ours), statistics.median(empty)
    print(f"window with the Home page   {first:.3f} s (median of {runs})")
    print(f"empty Qt window             {second:.3f} s")
    print(f"ratio                       {first / second:.1f}")


if __name__ == "__main__":
    main()
