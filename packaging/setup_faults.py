"""Why a set-up cannot go on, in one sentence each: disk, network, compiler, permissions, Qt."""

from __future__ import annotations

import os
import re
from pathlib import Path

from setup_machine import Outcome, SetupError, System

QT_PACKAGES = {
    "libEGL": "libegl1",
    "libGL": "libgl1",
    "libGLX": "libglx0",
    "libOpenGL": "libopengl0",
    "libX11": "libx11-6",
    "libX11-xcb": "libx11-xcb1",
    "libdbus-1": "libdbus-1-3",
    "libfontconfig": "libfontconfig1",
    "libfreetype": "libfreetype6",
    "libglib-2.0": "libglib2.0-0",
    "libgthread-2.0": "libglib2.0-0",
    "libxcb": "libxcb1",
    "libxcb-cursor": "libxcb-cursor0",
    "libxcb-icccm": "libxcb-icccm4",
    "libxcb-image": "libxcb-image0",
    "libxcb-keysyms": "libxcb-keysyms1",
    "libxcb-randr": "libxcb-randr0",
    "libxcb-render": "libxcb-render0",
    "libxcb-render-util": "libxcb-render-util0",
    "libxcb-shape": "libxcb-shape0",
    "libxcb-shm": "libxcb-shm0",
    "libxcb-sync": "libxcb-sync1",
    "libxcb-util": "libxcb-util1",
    "libxcb-xfixes": "libxcb-xfixes0",
    "libxcb-xkb": "libxcb-xkb1",
    "libxkbcommon": "libxkbcommon0",
    "libxkbcommon-x11": "libxkbcommon-x11-0",
}
NO_DISK = re.compile(
    r"No space left on device|ENOSPC|There is not enough space on the disk", re.IGNORECASE
)
NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|"
    r"getaddrinfo failed|Network is unreachable|ConnectTimeoutError|Connection refused|"
    r"ProxyError|Max retries exceeded",
    re.IGNORECASE,
)
NO_COMPILER = re.compile(
    r"No CMAKE_C(XX)?_COMPILER|CMAKE_C(XX)?_COMPILER not set|compiler identification is unknown|"
    r"is not able to compile a simple test program",
    re.IGNORECASE,
)
NO_PERMISSION = re.compile(
    r"Read-only file system|Permission denied|Access is denied", re.IGNORECASE
)


def explain(outcome: Outcome, what: str, log: Path) -> str:
    """One sentence saying why `what` could not be installed, and what to do; `log` has it all."""
    text = outcome.text
    if NO_DISK.search(text):
        return f"The disk became full while installing {what}: free some space and run this again."
    if NO_COMPILER.search(text):
        return f"The C++ compiler does not work, so {what} cannot be built: see {log}."
    if NO_NETWORK.search(text):
        return (
            f"The package index cannot be reached, so {what} cannot be installed: check the "
            "network (or pip's index settings) and run this again; finished steps are kept."
        )
    if NO_PERMISSION.search(text):
        return f"A file cannot be written while installing {what}: see {log}."
    errors = [line.strip() for line in text.splitlines() if "error" in line.lower()]
    last = errors[-1][:200] if errors else f"exit status {outcome.returncode}"
    return f"Installing {what} failed ({last}): the whole story is in {log}."


def lacks_venv(version: str, executable: str) -> str:
    """The sentence for a Python that Debian ships without its venv module."""
    return (
        f"Python {version} at {executable} lacks its venv module: install it (on Debian or "
        f"Ubuntu: sudo apt-get install python{version}-venv) and run this again."
    )


def check_compiler(system: System, is_cuda: bool) -> None:
    """Refuse to start a build for which the tools are missing; raises SetupError."""
    if system.platform == "win32":
        programs = os.environ.get("PROGRAMFILES(X86)", r"C:\Program Files (x86)")
        finder = Path(programs) / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
        is_found = bool(system.which("cl")) or finder.exists()
        advice = 'install "Desktop development with C++" of the Visual Studio Build Tools'
    elif system.platform == "darwin":
        is_found = system.run(["xcode-select", "-p"]).is_ok
        advice = "run: xcode-select --install"
    else:
        compilers = [os.environ.get("CXX") or "", "c++", "g++", "clang++"]
        is_found = any(name and system.which(name) for name in compilers)
        advice = "install one (on Debian or Ubuntu: sudo apt-get install build-essential)"
    if not is_found:
        raise SetupError(
            f"llama.cpp has to be built and there is no C++ compiler: {advice}, or name an index "
            "of ready-made wheels with --llama-wheels URL."
        )
    toolkit = os.environ.get("CUDACXX") or os.environ.get("CUDA_PATH")
    if is_cuda and not (toolkit or system.which("nvcc")):
        raise SetupError(
            "--cuda needs nvcc of the CUDA toolkit on PATH: install the toolkit, or name an index "
            "of ready-made CUDA wheels with --llama-wheels URL."
        )


def check_display(system: System) -> None:
    """Refuse to open a window where there is nowhere to show it; raises SetupError."""
    places = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if system.platform == "linux" and not any(os.environ.get(name) for name in places):
        raise SetupError(
            "There is no display here to open a window on: use demo --no-gui, or start this from "
            "a desktop session."
        )


def missing_qt_libraries(system: System, python: Path, has_x11_window: bool) -> str | None:
    """The sentence naming the system packages that Qt lacks, or None when it has them.

    With `has_x11_window`, the plugin that opens windows on an X11 display must load as well; Qt
    itself only aborts the process when that one fails.
    """
    outcome = system.run([str(python), "-c", "from PySide6 import QtWidgets"])
    if outcome.is_ok and not has_x11_window:
        return None
    where = "import PySide6; print(list(PySide6.__path__)[0])"
    folder = Path(system.run([str(python), "-c", where]).text.strip())
    plugin = ["Qt/plugins/platforms/libqxcb.so"] if has_x11_window else []
    packages = set()
    for part in ["QtWidgets.abi3.so", *plugin]:
        for line in system.run(["ldd", str(folder / part)]).text.splitlines():
            library = line.strip().partition(".so")[0]
            if "not found" in line and library in QT_PACKAGES:
                packages.add(QT_PACKAGES[library])
    if packages:
        names = " ".join(sorted(packages))
        return f"Qt needs system libraries; on Debian or Ubuntu: sudo apt-get install {names}"
    if outcome.is_ok:
        return None
    return f"Qt does not load here: {outcome.text.strip().splitlines()[-1][:200]}"
