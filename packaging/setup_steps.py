"""The steps of set-up: environment, PyTorch, llama.cpp, the project; each one done once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from setup_faults import NO_DISK, check_compiler, explain, lacks_venv, missing_qt_libraries
from setup_machine import Outcome, SetupError, System, say

PYTHONS = ("3.12", "3.13", "3.11")
TORCH = "torch>=2.6"
TORCH_CPU = "torch==2.13.0+cpu"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
LLAMA = "llama-cpp-python>=0.3.16"
# Disk space of each step, measured, with room for downloads and what pip unpacks on the way.
STEP_GB = {"torch-cpu": 1.5, "torch-cuda": 9.0, "llama": 1.5, "project": 3.0}
TEMPORARY_GB = 4.0


@dataclass(frozen=True)
class Options:
    """What the user asked of set-up; without a word an earlier choice stays."""

    cuda: bool = False
    cpu: bool = False
    llama_wheels: str | None = None


@dataclass(frozen=True)
class Wanted:
    """State to reach: one value for each step, which its stamp holds once the step is done."""

    torch: str
    llama: str
    project: str
    extras: list[str]

    def missing(self, stamp: dict[str, object]) -> list[str]:
        """Names of the steps still to do."""
        steps = {"torch": self.torch, "llama": self.llama, "project": self.project}
        due = [step for step, value in steps.items() if stamp.get(step) != value]
        if "project" not in due and stamp.get("extras") != self.extras:
            due.append("project")
        return due


@dataclass
class Setup:
    """One environment being brought to the wanted state.

    A stamp file in it remembers each finished step, so an interrupted set-up goes on where it
    stopped and a finished one costs nothing.
    """

    options: Options
    root: Path
    system: System = field(default_factory=System)

    def __post_init__(self) -> None:
        """Read the stamp."""
        self.venv = self.root / ".venv"
        self.log = self.venv / "setup.log"
        self.stamp = self._read_stamp()

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        is_windows = self.system.platform == "win32"
        return self.venv / ("Scripts/python.exe" if is_windows else "bin/python")

    def is_complete(self, extras: set[str]) -> bool:
        """Whether nothing is left to do for these extras; asks no process, so it is quick."""
        return bool(self.stamp) and not self._wanted(extras).missing(self.stamp)

    def has_usable_python(self) -> bool:
        """Whether the environment's interpreter runs, has pip and is of a supported version."""
        probe = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
        outcome = self.system.run([str(self.python), "-c", probe])
        return outcome.is_ok and outcome.text.strip() in PYTHONS

    def ensure(self, extras: set[str]) -> None:
        """Do what is left to do; raises SetupError saying why it cannot be done."""
        if self.is_complete(extras):
            return
        is_new = not self.has_usable_python()
        if is_new:
            self.stamp = {}
        wanted = self._wanted(extras)
        due = wanted.missing(self.stamp)
        self._check_disk(due, wanted.torch)
        if is_new:
            self._make_venv()
        if not self.stamp:
            self._pip("install", ["--upgrade", "pip"], "Updating pip")
        if "torch" in due:
            self._install_torch(wanted.torch)
            self._finish(torch=wanted.torch)
        if "llama" in due:
            self._install_llama(is_cuda=wanted.llama == "cuda")
            self._finish(llama=wanted.llama)
        if "project" in due:
            extra = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
            target = ["--editable", f"{self.root}{extra}"]
            self._require(self._pip("install", target, "Installing LlamaDuo"), "LlamaDuo")
            self._finish(project=wanted.project, extras=wanted.extras)

    def check_qt(self, is_required: bool, has_window: bool) -> None:
        """Name the system packages that Qt lacks; an error only when Qt is needed now."""
        if self.system.platform != "linux":
            return
        is_elsewhere = os.environ.get("QT_QPA_PLATFORM") or os.environ.get("WAYLAND_DISPLAY")
        has_x11_window = has_window and not is_elsewhere
        check = "qt-window" if has_x11_window else "qt"
        if self.stamp.get(check):
            return
        sentence = missing_qt_libraries(self.system, self.python, has_x11_window)
        if sentence is None:
            self._finish(**{check: True})
        elif is_required:
            raise SetupError(sentence)
        else:
            say(sentence)

    def download_source(self, requirement: str, folder: Path) -> Outcome:
        """Have pip download a source distribution; it also asks the package for its metadata."""
        package = requirement.partition("==")[0]
        arguments = ["--no-deps", "--no-binary", package, "--dest", str(folder), requirement]
        return self._pip("download", arguments, "Fetching llama.cpp's converter for its tests")

    def _read_stamp(self) -> dict[str, object]:
        """The finished steps, or none when the environment is gone, moved or not the same."""
        try:
            stamp = json.loads((self.venv / "llamaduo-setup.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        is_same = isinstance(stamp, dict) and stamp.get("environment") == self._environment()
        return stamp if is_same and self.python.exists() else {}

    def _environment(self) -> list[str]:
        """Identity of the environment: where it lies and which Python it runs."""
        try:
            text = (self.venv / "pyvenv.cfg").read_text(encoding="utf-8")
        except OSError:
            text = ""
        version = re.search(r"^version\w*\s*=\s*(\S+)", text, re.MULTILINE)
        return [str(self.root), version.group(1) if version else ""]

    def _finish(self, **steps: object) -> None:
        """Record finished steps, replacing the stamp in one move."""
        self.stamp.update(steps, environment=self._environment())
        partial = self.venv / "llamaduo-setup.json.part"
        partial.write_text(json.dumps(self.stamp, indent=1), encoding="utf-8")
        partial.replace(self.venv / "llamaduo-setup.json")

    def _wanted(self, extras: set[str]) -> Wanted:
        done = self.stamp.get("extras")
        kept = {str(extra) for extra in done} if isinstance(done, list) else set()
        is_cuda_llama = not self.options.cpu and self.stamp.get("llama") == "cuda"
        torch = self._torch_build()
        monitor = {"gpu"} if torch == "cuda" else set()
        return Wanted(
            torch=torch,
            llama="cuda" if self.options.cuda or is_cuda_llama else "cpu",
            project=hashlib.sha256((self.root / "pyproject.toml").read_bytes()).hexdigest(),
            extras=sorted(kept | extras | monitor),
        )

    def _torch_build(self) -> str:
        """Which torch to have: asked for, else already there, else what the hardware suggests."""
        if self.options.cuda or self.options.cpu:
            return "cuda" if self.options.cuda else "cpu"
        if self.stamp.get("torch"):
            return str(self.stamp["torch"])
        tool = self.system.which("nvidia-smi")
        has_gpu = tool is not None and "GPU 0" in self.system.run([tool, "-L"]).text
        return "cuda" if has_gpu else "cpu"

    def _check_disk(self, steps: list[str], torch: str) -> None:
        """Refuse to start what the disk cannot hold."""
        names = [f"torch-{torch}" if step == "torch" else step for step in steps]
        if self.stamp.get("project"):  # a changed pyproject.toml adds little
            names = [name for name in names if name != "project"]
        needed = sum(STEP_GB[name] for name in names)
        free = self.system.free_gb(self.root)
        if free < needed:
            raise SetupError(
                f"The disk is too full: {self.root} has {free:.1f} GB free and set-up needs about "
                f"{needed:.1f} GB."
            )

    def _make_venv(self) -> None:
        """Make the environment with the running Python, whose version the caller has checked."""
        try:
            self.venv.mkdir(exist_ok=True)
            self.log.write_text("", encoding="utf-8")
        except OSError as error:
            raise SetupError(
                f"The folder {self.root} cannot be written to ({error.strerror}): copy the project "
                "to a folder of yours and run this again."
            ) from error
        say(f"Making {self.venv}")
        executable = self.system.executable
        outcome = self.system.run([executable, "-m", "venv", "--clear", str(self.venv)])
        if "ensurepip" in outcome.text and not outcome.is_ok:
            raise SetupError(lacks_venv("{}.{}".format(*self.system.version), executable))
        self._require(outcome, "the virtual environment")

    def _install_torch(self, build: str) -> None:
        self._remove_other_build("torch", build)
        attempts = [[TORCH]]
        if build == "cpu" and self.system.platform == "linux":
            # Elsewhere the plain wheel is the CPU (or Metal) build already.
            attempts = [[TORCH_CPU], [TORCH, "--index-url", TORCH_CPU_INDEX], [TORCH]]
        outcome = Outcome(0, "")
        for number, attempt in enumerate(attempts, start=1):
            if number > 1 and number == len(attempts):
                self._check_disk(["torch"], "cuda")  # the last resort brings CUDA's libraries along
            outcome = self._pip("install", attempt, f"Installing PyTorch ({build} build)")
            if outcome.is_ok or NO_DISK.search(outcome.text):
                break
        self._require(outcome, "PyTorch")

    def _install_llama(self, is_cuda: bool) -> None:
        self._remove_other_build("llama", "cuda" if is_cuda else "cpu")
        wheels = self.options.llama_wheels
        if (wheels or not is_cuda) and self._has_llama_wheel(wheels):
            return
        check_compiler(self.system, is_cuda)
        minutes = "10-30" if is_cuda else "2-5"
        title = f"Building llama.cpp, about {minutes} minutes, this happens once"
        # pip's cache of built wheels ignores CMAKE_ARGS: it must not mix CPU and CUDA builds.
        separate = ["--no-cache-dir"] if is_cuda else []
        variables = {"CMAKE_ARGS": self._cmake_args(is_cuda)}
        outcome = self._pip("install", ["--verbose", *separate, LLAMA], title, variables)
        self._require(outcome, "llama-cpp-python")

    def _has_llama_wheel(self, wheels: str | None) -> bool:
        """Install a ready-made wheel if there is one that also loads on this machine."""
        index = ["--extra-index-url", wheels] if wheels else []
        arguments = ["--only-binary", "llama-cpp-python", *index, LLAMA]
        outcome = self._pip("install", arguments, "Looking for a llama.cpp wheel")
        if NO_DISK.search(outcome.text):
            self._require(outcome, "llama-cpp-python")
        if not outcome.is_ok:
            return False
        if self.system.run([str(self.python), "-c", "import llama_cpp"]).is_ok:
            return True
        # Wheels built for another libc or processor install and then do not load.
        self._remove("llama-cpp-python")
        return False

    def _cmake_args(self, is_cuda: bool) -> str:
        """CMAKE_ARGS of a build that holds what the app uses, and no tools."""
        # llama-cpp-python forces LLAMA_BUILD_COMMON on before it enters llama.cpp's project; an
        # include that every project() runs turns it off again: 1 min 52 in place of 3 min 25.
        include = self.venv / "llama-build.cmake"
        include.write_text(
            'set(LLAMA_BUILD_COMMON OFF CACHE BOOL "not used" FORCE)\n', encoding="utf-8"
        )
        arguments = ["-DLLAVA_BUILD=OFF", f"-DCMAKE_PROJECT_INCLUDE={include.as_posix()}"]
        if is_cuda:
            arguments.append("-DGGML_CUDA=on")
        if os.environ.get("CI"):
            # Built for the processor at hand, the library is fastest and also runs where AVX2 is
            # missing; a CI cache, though, can carry it to another processor.
            arguments.append("-DGGML_NATIVE=OFF")
        quoted = " ".join(shlex.quote(argument) for argument in arguments)
        return f"{quoted} {os.environ.get('CMAKE_ARGS', '')}".strip()

    def _remove_other_build(self, step: str, build: str) -> None:
        """Uninstall what an earlier run chose differently: pip would call it good enough."""
        if self.stamp.get(step, build) != build:
            self._remove({"torch": "torch", "llama": "llama-cpp-python"}[step])

    def _remove(self, package: str) -> None:
        self._pip("uninstall", ["--yes", package], f"Removing {package}")

    def _pip(
        self, action: str, arguments: list[str], title: str, variables: dict[str, str] | None = None
    ) -> Outcome:
        """Run pip in the environment, shielded from settings meant for other environments."""
        env = {**os.environ, **(variables or {})}
        env.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PIP_USER="0")
        env.update(PIP_PROGRESS_BAR="off", PYTHONUNBUFFERED="1")
        for name in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX"):
            env.pop(name, None)
        roomy = self.venv / "tmp"
        if self._is_temporary_dir_small():
            roomy.mkdir(exist_ok=True)
            env.update(TMPDIR=str(roomy))
        try:
            command = [str(self.python), "-m", "pip", action, *arguments]
            return self.system.follow(command, title, env, self.log)
        finally:
            shutil.rmtree(str(roomy), ignore_errors=True)

    def _is_temporary_dir_small(self) -> bool:
        """Whether /tmp is a small memory disk, where unpacking torch or llama.cpp would fail."""
        if self.system.platform == "win32":  # paths below .venv would exceed Windows' limit
            return False
        free = self.system.free_gb(self.system.temporary_dir())
        return free < min(TEMPORARY_GB, self.system.free_gb(self.root))

    def _require(self, outcome: Outcome, what: str) -> None:
        if not outcome.is_ok:
            raise SetupError(explain(outcome, what, self.log))
